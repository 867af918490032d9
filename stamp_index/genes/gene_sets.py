"""Gene sets that a user has: GMT files and tables of source, target and weight."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stamp_index.errors import QueryError
from stamp_index.genes.signature import MAX_TERMS, MAX_WEIGHT, MIN_WEIGHT, Signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

MAX_GMT_BYTES: Final = 5_000_000
MAX_SETS: Final = 50_000
_GENE: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_WEIGHTED: Final = re.compile(r"(.+),([+-]?[0-9.]+(?:[eE][+-]?\d+)?)", re.ASCII)  # as Enrichr does
_DIRECTION: Final = re.compile(r"(.+?)[_ .-](UP|DN|DOWN)", re.IGNORECASE)
_FOREIGN: Final = {
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"PK\x03\x04": "a zip file or a spreadsheet: save the sets as tab-separated text",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}


@dataclass(frozen=True)
class GeneSet:
    """A named set of genes with weights.

    Attributes
    ----------
    name, description : str
        As the file says; a description is often an address.
    genes : tuple of str
        Each gene once, in the file's order.
    weights : tuple of float
        One per gene: positive for high, negative for low, +1 where the file gives none.
    skipped : tuple of str
        What of the set is not in `genes`: names that no query can have, and genes that the set has in both directions.
    """

    name: str
    description: str
    genes: tuple[str, ...]
    weights: tuple[float, ...]
    skipped: tuple[str, ...] = ()

    @property
    def signature(self) -> Signature:
        """The set as a query.

        Raises
        ------
        EmptyQueryError
            If there is no gene.
        QueryError
            If there are more than 50 genes: `head` cuts the set.
        """
        if len(self.genes) > MAX_TERMS:
            msg = (
                f"The set {self.name} has {len(self.genes)} genes; a query has at most {MAX_TERMS}. "
                f"Choose some, or take the first ones with head({MAX_TERMS})."
            )
            raise QueryError(msg)
        return Signature(tuple(zip(self.genes, self.weights, strict=True)))

    def head(self, n_genes: int = MAX_TERMS) -> GeneSet:
        """Cut the set to its genes of largest weight, and of equal ones to the first of the file.

        Of a set with both directions each keeps its share, rounded, and at least one gene.

        Raises
        ------
        ValueError
            If `n_genes` is below 2.
        """
        if n_genes < 2:
            msg = f"n_genes is {n_genes}; expected at least 2."
            raise ValueError(msg)
        if len(self.genes) <= n_genes:
            return self
        ranked = sorted(range(len(self.genes)), key=lambda at: -abs(self.weights[at]))
        high = [at for at in ranked if self.weights[at] > 0]
        low = [at for at in ranked if self.weights[at] < 0]
        n_high = round(n_genes * len(high) / len(ranked))
        n_high = min(max(n_high, min(1, len(high))), n_genes - min(1, len(low)))
        kept = sorted([*high[:n_high], *low[: n_genes - n_high]])
        return replace(
            self,
            genes=tuple(self.genes[at] for at in kept),
            weights=tuple(self.weights[at] for at in kept),
        )


def read_gmt(content: bytes | str) -> tuple[GeneSet, ...]:
    """Read a GMT file: a set a line, with its name, a description and its genes between tabs.

    Parameters
    ----------
    content : bytes or str
        The file, at most 5 MB and 50,000 sets. A gene may have a weight after a comma, as in Enrichr's files.

    Returns
    -------
    tuple of GeneSet
        In the file's order. Two sets of one name that end in ``_UP`` and ``_DN`` (or ``_DOWN``) are also given as one
        with both directions, before the first of the two. Sets may have more genes than the 50 of a query: how to cut
        them is the caller's choice (`GeneSet.head`).

    Raises
    ------
    QueryError
        If the content is no GMT, is too large, or a line has no genes; the line is named.

    References
    ----------
    GMT as the Broad Institute's GSEA documentation describes it.
    """
    text = _text_of(content)
    sets: dict[str, GeneSet] = {}
    n_same: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if len(sets) >= MAX_SETS:
            msg = f"The GMT file has more than {MAX_SETS} sets. Split it."
            raise QueryError(msg)
        one = _of_line(number, line)
        name = one.name
        while name in sets:
            n_same[one.name] += 1
            name = f"{one.name} ({n_same[one.name] + 1})"
        sets[name] = replace(one, name=name)
    if not sets:
        msg = "The GMT file has no set. Expected lines of a name, a description and genes, with tabs between them."
        raise QueryError(msg)
    return tuple(_with_joined(sets))


def gene_sets_from_net(frame: pd.DataFrame) -> tuple[GeneSet, ...]:
    """Read gene sets from a table of one line per set and gene, as decoupler has them.

    Parameters
    ----------
    frame : DataFrame
        With the columns ``source`` (the set), ``target`` (the gene) and, where genes have weights, ``weight``.

    Returns
    -------
    tuple of GeneSet
        In the order in which the sources appear.

    Raises
    ------
    QueryError
        If a column is missing, the table is empty or has more than 50,000 sets, or a weight is no number between
        0.001 and 1000 in size.
    """
    missing = [name for name in ("source", "target") if name not in frame.columns]
    if missing:
        msg = f"The table has no column {' and no column '.join(missing)}; its columns are {', '.join(map(str, frame.columns))[:200]}."
        raise QueryError(msg)
    if frame.empty:
        msg = "The table has no line. Expected a line for each gene of each set."
        raise QueryError(msg)
    weights = frame["weight"].tolist() if "weight" in frame.columns else [1.0] * len(frame)
    pairs: dict[str, list[tuple[str, float]]] = {}
    for row, (source, target, weight) in enumerate(
        zip(frame["source"], frame["target"], weights, strict=True)
    ):
        pairs.setdefault(str(source), []).append(
            (str(target), _weight_of(weight, f"row {row} of the table"))
        )
    if len(pairs) > MAX_SETS:
        msg = f"The table has {len(pairs)} sets; at most {MAX_SETS} are read. Split it."
        raise QueryError(msg)
    return tuple(_made(name, "", items) for name, items in pairs.items())


def _text_of(content: bytes | str) -> str:
    """Say plainly what the content is where it is no GMT."""
    if len(content) > MAX_GMT_BYTES:
        msg = f"The GMT file has {len(content) / 1e6:.1f} MB; at most {MAX_GMT_BYTES / 1e6:.0f} MB are read. Keep only the sets that you need."
        raise QueryError(msg)
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    what = next((what for magic, what in _FOREIGN.items() if raw.startswith(magic)), "")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        what, text = what or "bytes that are no text in UTF-8", ""
    begin = text[:2000].lstrip().casefold()
    if begin.startswith("<") or "<html" in begin:
        what = "a web page: sign in where the sets come from and save the file itself"
    elif begin.startswith(("{", "[")):
        what = "JSON: save the sets as GMT"
    elif "\0" in text:
        what = "bytes that are no text"
    if what:
        msg = f"This is not a GMT file; it looks like {what}."
        raise QueryError(msg)
    return text


def _of_line(number: int, line: str) -> GeneSet:
    name, *rest = (cell.strip() for cell in line.split("\t"))
    genes = [cell for cell in rest[1:] if cell]
    if not name or not genes:
        msg = (
            f"Line {number} of the GMT file is {line[:60]!r}; expected a name, a description and at "
            "least one gene, with tabs between them."
        )
        raise QueryError(msg)
    return _made(name, rest[0], [_weighted(gene, number) for gene in genes])


def _weighted(cell: str, number: int) -> tuple[str, float]:
    match = _WEIGHTED.fullmatch(cell)
    if match is None:
        return cell, 1.0
    return match[1].strip(), _weight_of(match[2], f"line {number} of the GMT file")


def _weight_of(value: object, where: str) -> float:
    try:
        weight = float(str(value))
    except ValueError:
        weight = math.nan
    if not MIN_WEIGHT <= abs(weight) <= MAX_WEIGHT:
        msg = f"A weight is {value!r} in {where}; expected a number other than 0, between {MIN_WEIGHT:g} and {MAX_WEIGHT:g} in size."
        raise QueryError(msg)
    return weight


def _made(name: str, description: str, items: Iterable[tuple[str, float]]) -> GeneSet:
    """Make a set; of a gene that stands twice the first weight counts, and none where the directions differ."""
    weights: dict[str, tuple[str, float]] = {}
    skipped: dict[str, None] = {}
    for gene, weight in items:
        earlier = weights.get(gene.casefold())
        if not _GENE.fullmatch(gene) or (earlier and earlier[1] * weight < 0):
            skipped[gene] = None
        else:
            weights.setdefault(gene.casefold(), (gene, weight))
    both = {gene.casefold() for gene in skipped}
    kept = [pair for key, pair in weights.items() if key not in both]
    return GeneSet(
        name, description, tuple(g for g, _ in kept), tuple(w for _, w in kept), tuple(skipped)
    )


def _with_joined(sets: Mapping[str, GeneSet]) -> list[GeneSet]:
    """Put the joined set before the first of each pair of directions."""
    pairs: dict[str, dict[str, GeneSet]] = {}
    for one in sets.values():
        match = _DIRECTION.fullmatch(one.name)
        if match:
            direction = "up" if match[2].upper() == "UP" else "down"
            pairs.setdefault(match[1], {}).setdefault(direction, one)
    answer: list[GeneSet] = []
    joined: set[str] = set(sets)
    for one in sets.values():
        match = _DIRECTION.fullmatch(one.name)
        pair = pairs.get(match[1], {}) if match else {}
        if match and len(pair) == 2 and match[1] not in joined:
            joined.add(match[1])
            answer.append(_joined(match[1], pair["up"], pair["down"]))
        answer.append(one)
    return answer


def _joined(name: str, up: GeneSet, down: GeneSet) -> GeneSet:
    items = [
        *zip(up.genes, map(abs, up.weights), strict=True),
        *((gene, -abs(weight)) for gene, weight in zip(down.genes, down.weights, strict=True)),
    ]
    made = _made(name, up.description or down.description, items)
    return replace(made, skipped=(*up.skipped, *down.skipped, *made.skipped))
