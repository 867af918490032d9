"""The gene reference: a dated table of human and mouse genes that lies in the package."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast, get_args

from stamp_index.errors import PanelError
from stamp_index.genes.reference.table import Match, SpeciesTable, without_version

if TYPE_CHECKING:
    from collections.abc import Sequence

Species = Literal["human", "mouse"]
Orthologs = Literal["table", "by_name"]
FACTS: Final = "reference.json"
FORMAT: Final = 1
_OTHER: Final = {"human": "mouse", "mouse": "human"}
_PREFIXES: Final = {"ENSG": "human", "ENSMUSG": "mouse"}
# HER2ST C2: 95 % of the symbols are human ones, 0.07 % mouse ones. Mouse olfactory bulb, replicate 11: 0.05 % and 90 %.
_LEAST_KNOWN: Final = 0.3


@dataclass(frozen=True)
class GeneReference:
    """Symbols, Ensembl ids, previous symbols, aliases and orthologs of human and mouse genes.

    Attributes
    ----------
    folder : Path
        Holds ``human.tsv.gz``, ``mouse.tsv.gz`` and ``reference.json``, as
        ``python -m stamp_index.genes.reference.build`` writes them. Each is read when it is first needed.
    """

    folder: Path

    @classmethod
    def load(cls, folder: Path | str | None = None) -> Self:
        """Open the package's reference, or one that was built elsewhere.

        Raises
        ------
        PanelError
            If the folder holds no reference, or one of another format.
        """
        here = Path(__file__).resolve().parent / "data" if folder is None else Path(folder)
        return cast("Self", _opened(here))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What ``reference.json`` says: ``date``, ``sources`` with their terms, and ``counts``."""
        path = self.folder / FACTS
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            msg = f"{path} cannot be read ({exc}). Expected a gene reference: build one with python -m stamp_index.genes.reference.build."
            raise PanelError(msg) from exc
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            msg = f"{path} is not a gene reference of format {FORMAT}. Build it again with this release."
            raise PanelError(msg)
        return facts

    @property
    def date(self) -> str:
        """Day, as YYYY-MM-DD, of which the names are; none of them is younger."""
        return str(self.facts["date"])

    @cached_property
    def human(self) -> SpeciesTable:
        """Human genes: HGNC's, and those that only annotations name."""
        return self._read("human")

    @cached_property
    def mouse(self) -> SpeciesTable:
        """Mouse genes: MGI's, and those that only annotations name."""
        return self._read("mouse")

    def table(self, species: str) -> SpeciesTable:
        """Genes of a species.

        Raises
        ------
        PanelError
            If `species` is neither human nor mouse.
        """
        if species not in get_args(Species):
            msg = f"The gene reference knows human and mouse genes; species is {species!r}. Give species='human' or 'mouse'."
            raise PanelError(msg)
        return self.human if species == "human" else self.mouse

    def resolve(self, name: str, species: str = "human", *, gene_id: str = "") -> Match:
        """Find the gene that a name means; see `SpeciesTable` for the order in which names are looked up.

        Raises
        ------
        PanelError
            If `species` is neither human nor mouse.
        """
        return self.table(species).match(name, gene_id)

    def resolve_all(
        self, names: Sequence[str], gene_ids: Sequence[str] = (), *, species: str
    ) -> list[Match]:
        """Find the gene of each name; `gene_ids` are their Ensembl ids in the same order, or empty.

        Raises
        ------
        PanelError
            If `species` is neither human nor mouse.
        ValueError
            If `gene_ids` has another length than `names`.
        """
        if gene_ids and len(gene_ids) != len(names):
            msg = f"{len(gene_ids)} gene ids were given for {len(names)} genes."
            raise ValueError(msg)
        match = self.table(species).match
        ids = gene_ids or ("",) * len(names)
        return [match(name, gene_id) for name, gene_id in zip(names, ids, strict=True)]

    def ortholog(self, symbol: str, species: str, *, how: Orthologs = "table") -> str | None:
        """Symbol of the other species' gene that a gene corresponds to.

        Parameters
        ----------
        symbol : str
            The gene's symbol in the reference.
        species : str
            Its species, human or mouse.
        how : {"table", "by_name"}
            ``table`` asks the table of orthologs. ``by_name`` takes the gene of the other species whose symbol is
            the same but for case: no orthology, but what many tools do.

        Returns
        -------
        str or None
            None where there is no such gene, and with ``table`` where the two are not each other's only
            ortholog; `orthologs` lists them.

        Raises
        ------
        PanelError
            If `species` is neither human nor mouse.

        Notes
        -----
        Of the 17,294 mouse genes that are found by name, 16,022 have that gene as their one-to-one ortholog and 810 as one
        of several; 128 have another ortholog and 334 none. Another 940 have a one-to-one ortholog of another name, as Trp53
        has TP53.
        """
        other = self.table(_OTHER.get(species, species))
        if how == "by_name":
            found = other.match(symbol)
            return found.symbol if found.how in ("symbol", "case") else None
        partners = self.orthologs(symbol, species)
        return (
            partners[0] if len(partners) == 1 and len(other.orthologs(partners[0])) == 1 else None
        )

    def orthologs(self, symbol: str, species: str) -> tuple[str, ...]:
        """Symbols of all genes of the other species that a gene is the ortholog of."""
        return self.table(species).orthologs(symbol)

    def _read(self, species: str) -> SpeciesTable:
        path = self.folder / f"{species}.tsv.gz"
        try:
            text = gzip.decompress(path.read_bytes()).decode()
        except (OSError, EOFError, ValueError, zlib.error) as exc:
            msg = f"{path} cannot be read ({exc}). Build the gene reference again with python -m stamp_index.genes.reference.build."
            raise PanelError(msg) from exc
        return SpeciesTable(text)


@cache
def _opened(folder: Path) -> GeneReference:
    return GeneReference(folder)


def species_of(
    genes: Sequence[str], gene_ids: Sequence[str] = (), *, reference: GeneReference | None = None
) -> str:
    """Tell the species from Ensembl ids, or else from symbols: "human", "mouse", or "" where neither fits.

    Parameters
    ----------
    genes, gene_ids : sequence of str
        Names, and their Ensembl ids where there are any.
    reference : GeneReference, optional
        The package's own by default.
    """
    ids = [known for name in (*gene_ids, *genes) if (known := without_version(name))]
    if ids:
        prefixes = {gene_id.rstrip("0123456789") for gene_id in ids}
        return _PREFIXES.get(prefixes.pop(), "") if len(prefixes) == 1 else ""
    if not genes:
        return ""
    reference = reference or GeneReference.load()
    n_human = len(reference.human.row_of.keys() & set(genes))
    if n_human > max(len(genes) / 2, 100):
        return "human"  # 17 symbols are of both, so the mouse need not be read
    n_mouse = len(reference.mouse.row_of.keys() & set(genes))
    if max(n_human, n_mouse) < _LEAST_KNOWN * len(genes) or n_human == n_mouse:
        return ""
    return "human" if n_human > n_mouse else "mouse"
