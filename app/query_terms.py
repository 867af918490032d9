"""The genes of a query and what each of them means in a store: known, unknown, of several meanings, not measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app.gene_names import names
from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.genes import Signature, parse_signature, read_gene_text
from stamp_index.genes.signature import MAX_TERMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.gene_names import GeneNames
    from app.stores import Opened

State = Literal["ok", "unmeasured", "unknown", "ambiguous", "unencoded"]
OPEN: tuple[State, ...] = ("unknown", "ambiguous", "unencoded")  # with these nothing can be asked
MAX_OFFERS = 4
MAX_REST = 1_000  # letters of what cannot be read that are shown
Items = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Term:
    """A gene of a query.

    Attributes
    ----------
    gene : str
        Its symbol in the store or the encoder; where it is open, the name that was asked for.
    offers : tuple of str
        Genes that an open name may mean.
    asked : str
        The name that was asked for, where the symbol is another; else "".
    """

    gene: str
    weight: float
    state: State = "ok"
    offers: tuple[str, ...] = ()
    asked: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For the browser."""
        weight = int(self.weight) if self.weight.is_integer() else self.weight
        return {
            "gene": self.gene,
            "weight": weight,
            "state": self.state,
            "offers": list(self.offers),
            "asked": self.asked,
        }


@dataclass(frozen=True)
class Terms:
    """A query as far as it can be read.

    Attributes
    ----------
    rest : str
        What of the text is no term, or contradicts one before.
    error : str
        Why the text is no query; "" where it is one.
    """

    terms: tuple[Term, ...]
    rest: str = ""
    error: str = ""

    @property
    def open(self) -> tuple[Term, ...]:
        """Those that must be resolved before anything can be asked."""
        return tuple(term for term in self.terms if term.state in OPEN)

    @property
    def can_be_asked(self) -> bool:
        """Whether it is a query of which every gene is known."""
        return bool(self.terms) and not self.error and not self.open

    @property
    def without_open(self) -> str:
        """The query of the other genes; "" where there are none."""
        return text_of((term.gene, term.weight) for term in self.terms if term.state not in OPEN)


def read_terms(opened: Opened, text: str) -> Terms:
    """Read a query and look up its genes. Nothing is raised: what cannot be read stands in `rest`."""
    items, rest, error = _split(text)
    known = names(opened)
    found: dict[str, Term] = {}
    for name, weight in items:
        term = _term(known, opened.measured, name, weight)
        there = found.setdefault(term.gene, term)
        if there.weight != weight:  # by two names of the gene
            rest.append(text_of([(name, weight)]))
            error = error or _contradiction(term.gene, there.weight, weight)
    return Terms(tuple(found.values()), ", ".join(rest)[:MAX_REST], error)


def meaning(known: GeneNames, name: str) -> tuple[str, State]:
    """Symbol that a name means, and how it stands, whether or not it was measured."""
    try:
        symbol = known.askable.resolve([name], on_missing="ignore").get(name)
    except QueryError:
        return name, "ambiguous"
    if symbol is None:
        return name, "unknown"
    return symbol, "ok" if known.encoded.knows(symbol) else "unencoded"


def merged(text: str, pasted: str) -> tuple[str, tuple[str, ...]]:
    """Add a pasted list to a query.

    Returns
    -------
    (str, tuple of str)
        The query, and one sentence for each thing of the list that is not part of it as it was written.
    """
    try:
        read = read_gene_text(pasted)
    except QueryError as error:
        return text, (str(error),)
    items, rest, _ = _split(text)
    held = {gene.casefold(): (gene, weight) for gene, weight in items}
    problems = list(read.problems)
    if rest:
        problems.append(f"What could not be read in the query is gone: {', '.join(rest)[:200]}.")
    left_out = []
    for gene, weight in read.terms:
        there = held.get(gene.casefold())
        if there is None and len(held) >= MAX_TERMS:
            left_out.append(gene)
            continue
        if there is not None and there[1] != weight:
            problems.append(f"{gene} was in the query already; it has the new weight ({weight:g}).")
        held[gene.casefold()] = (there[0] if there else gene, weight)
    if left_out:
        problems.append(
            f"At most {MAX_TERMS} genes can be asked for at once; left out: {', '.join(left_out)}."
        )
    return text_of(held.values()), tuple(problems)


def text_of(items: Iterable[tuple[str, float]]) -> str:
    """The text of terms; "" of none."""
    terms = tuple(items)
    return Signature(terms).text if terms else ""


def _split(text: str) -> tuple[Items, list[str], str]:
    """Terms, what is no term, and why."""
    try:
        return parse_signature(text).items, [], ""
    except EmptyQueryError:
        return (), [], ""
    except QueryError as error:
        reason = str(error)
    items: Items = ()
    rest = []
    for part in filter(None, map(str.strip, re.split(r"[,;\n\r]", text[: 5 * MAX_REST]))):
        try:
            items = Signature((*items, *parse_signature(part).items)).items
        except QueryError:
            rest.append(part)
    return items, rest, reason


def _contradiction(gene: str, *weights: float) -> str:
    """What the library says of a gene that is asked for in two ways."""
    try:
        text_of((gene, weight) for weight in weights)
    except QueryError as error:
        return str(error)
    return ""


def _term(known: GeneNames, measured: frozenset[str], name: str, weight: float) -> Term:
    symbol, state = meaning(known, name)
    if state == "ok":
        asked = "" if symbol == name else name
        return Term(symbol, weight, "ok" if symbol in measured else "unmeasured", (), asked)
    return Term(symbol, weight, state, _offers(known, name, state))


def _offers(known: GeneNames, name: str, state: State) -> tuple[str, ...]:
    """Genes to ask for instead; of a name with several meanings only these."""
    found = known.completer.complete(name)
    if state == "ambiguous":
        found = [one for one in found if one.matched.casefold() == name.strip().casefold()]
    able = [one.symbol for one in found if one.symbol != name and known.encoded.knows(one.symbol)]
    return tuple(dict.fromkeys(able))[:MAX_OFFERS]
