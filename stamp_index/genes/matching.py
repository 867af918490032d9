"""From the names of a slide's genes to those of a panel: joined by what they mean, not by how they are written.

A panel keeps the names of the slides that it was fitted on, which may be older or younger than those of another slide.
Both sides are resolved through the gene reference, and a gene of the slide that is a gene of the panel gets the panel's
name. Without a panel the names are the reference's own symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from stamp_index.errors import PanelError
from stamp_index.genes.reference import GeneReference
from stamp_index.genes.report import Fate, GeneReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.genes.reference import How, Match, SpeciesTable
    from stamp_index.genes.reference.reference import Orthologs

# How surely a name means its gene; names that are sure may share a column, the others never join one.
_SURE: Final = 0
_DOUBT: Final = {"symbol": _SURE, "ensembl": _SURE, "case": 1, "previous": 2, "alias": 3}


@dataclass(frozen=True)
class PanelMatch:
    """What each gene of a slide is called afterwards.

    Attributes
    ----------
    names : tuple of str, length g
        The panel's name where the gene is in the panel, else its own. A name that stands twice is one gene whose
        columns are to be summed.
    gene_ids : tuple of str, length g
        Ensembl ids without version, "" where unknown.
    report : GeneReport
        What happened to each gene.
    """

    names: tuple[str, ...]
    gene_ids: tuple[str, ...]
    report: GeneReport


class _Place(NamedTuple):
    """Where one gene goes: `target` is None where it keeps its name; `symbol` is its gene in the reference.

    `doubt` is how surely the slide's name means that gene.
    """

    target: str | None
    gene_id: str
    fate: Fate
    doubt: int
    symbol: str | None


def match_to_panel(
    genes: Sequence[str],
    gene_ids: Sequence[str] = (),
    *,
    panel: Sequence[str] | None = None,
    species: str,
    panel_species: str | None = None,
    orthologs: Orthologs | None = None,
    reference: GeneReference | None = None,
) -> PanelMatch:
    """Name a slide's genes as a panel does.

    Parameters
    ----------
    genes, gene_ids : sequence of str, length g
        Symbols (of any age) or Ensembl ids with or without version; `gene_ids` may be empty. An id that the
        reference knows decides what a gene is.
    panel : sequence of str, optional
        The panel's genes. Without it every gene gets the reference's own symbol.
    species, panel_species : str
        Human or mouse; the panel's is the slide's by default, or, without a panel and with `orthologs`, human.
    orthologs : {"table", "by_name"}, optional
        How genes of the other species are found, see `GeneReference.ortholog`. Without it slides and panels of
        different species share no gene but by the same name.
    reference : GeneReference, optional
        The package's own by default.

    Returns
    -------
    PanelMatch

    Raises
    ------
    PanelError
        If the reference does not know a species, or orthologs are asked for within one.
    ValueError
        If `gene_ids` has another length than `genes`, or `orthologs` is another word.

    Notes
    -----
    A previous symbol, an alias or another case is not followed to a gene that the slide also has under its own name: in
    one annotation, two names are two genes. In both 10x references for GRCh38 all such pairs have two Ensembl ids.
    """
    reference = reference or GeneReference.load()
    target_species = panel_species or ("human" if orthologs and panel is None else species)
    _check_choice(species, target_species, orthologs)
    differ = species != target_species
    targets = _Targets(
        reference.table(target_species),
        panel,
        crossed=differ and orthologs is not None,
        foreign=differ and orthologs is None,
    )
    finder = _Finder(reference, species, orthologs)
    own = [gene.removesuffix(_mark(species)) for gene in genes] if targets.crossed else genes
    matches = reference.resolve_all(own, gene_ids, species=species)
    own_ids = [gene_id.split(".", 1)[0] for gene_id in gene_ids] or [""] * len(genes)
    places = [
        _place(match, gene_id, targets, finder)
        for match, gene_id in zip(matches, own_ids, strict=True)
    ]
    places = _without_clashes(genes, own_ids, places)
    names = tuple(
        targets.kept(gene, species) if place.target is None else place.target
        for gene, place in zip(genes, places, strict=True)
    )
    report = GeneReport.of(
        genes,
        names,
        fates=[place.fate for place in places],
        candidates=[match.candidates for match in matches],
        about=(species, target_species, orthologs or "", reference.date),
    )
    return PanelMatch(names, tuple(place.gene_id for place in places), report)


def _check_choice(species: str, target_species: str, orthologs: str | None) -> None:
    if orthologs not in (None, "table", "by_name"):
        msg = f"orthologs is {orthologs!r}; expected 'table', 'by_name' or None."
        raise ValueError(msg)
    if orthologs and species == target_species:
        msg = (
            f"orthologs={orthologs!r} was asked for, but both sides are {species}. Leave it out, or correct the "
            "species."
        )
        raise PanelError(msg)


class _Targets:
    """The names to reach, by the symbols of the reference."""

    def __init__(
        self, table: SpeciesTable, panel: Sequence[str] | None, *, crossed: bool, foreign: bool
    ) -> None:
        self.table = table
        self.crossed = crossed  # reached through orthologs
        self.foreign = foreign  # of another species, and not reached but by the same name
        self.names = None if panel is None else frozenset(panel)
        self._name_of: dict[str, tuple[str, How]] = {}
        for match in map(table.match, panel or ()):
            if match.symbol is not None:
                held = self._name_of.get(match.symbol)
                if held is None or _DOUBT[match.how] < _DOUBT[held[1]]:
                    self._name_of[match.symbol] = (match.name, match.how)

    def of(self, symbol: str) -> tuple[str, How] | None:
        """Name of a gene among the targets, and how it means that gene; None where the panel lacks it."""
        return (symbol, "symbol") if self.names is None else self._name_of.get(symbol)

    def holds(self, name: str) -> bool:
        """Whether a slide's gene is called as a target already; names reached through orthologs never are."""
        return not self.crossed and self.names is not None and name in self.names

    def contradicts(self, match: Match) -> bool:
        """Whether a name of the panel has the Ensembl id of a gene that the panel does not call so."""
        held = self.of(match.symbol) if match.symbol is not None else None
        return match.how == "ensembl" and (held is None or held[0] != match.name)

    def kept(self, name: str, species: str) -> str:
        """Name of a gene that is no target, told from a target of the same name in the other species."""
        taken = self.table.row_of if self.names is None else self.names
        return name + _mark(species) if self.crossed and name in taken else name


def _mark(species: str) -> str:
    """Mark the name of a gene that would be taken for one of the other species."""
    return f" ({species})"


class _Finder:
    """Finds a slide's gene among the genes of the target species."""

    def __init__(self, reference: GeneReference, species: str, orthologs: Orthologs | None) -> None:
        self._reference = reference
        self._species = species
        self._how = orthologs

    def partner(self, match: Match) -> str | None:
        """Ortholog of a gene; by name also of one that the reference does not know."""
        if self._how is None:
            return None
        if match.symbol is None and self._how == "table":
            return None
        return self._reference.ortholog(match.symbol or match.name, self._species, how=self._how)

    def has_several(self, match: Match) -> bool:
        """Whether a gene has orthologs, but none that is its only one."""
        return match.symbol is not None and bool(
            self._reference.orthologs(match.symbol, self._species)
        )


def _place(match: Match, own_id: str, targets: _Targets, finder: _Finder) -> _Place:
    """Find one gene's place, as if it were alone; `own_id` is what the slide says, without version."""
    doubt = _DOUBT.get(match.how, _SURE)
    if targets.holds(match.name):
        fate: Fate = "contradicting" if targets.contradicts(match) else "unchanged"
        known_id = match.gene_id if doubt == _SURE else ""
        return _Place(match.name, own_id or known_id, fate, doubt, match.symbol)
    if targets.crossed:
        return _place_across(match, own_id, targets, finder)
    if match.symbol is None:
        return _Place(None, own_id, _lost(match), doubt, None)
    target = None if targets.foreign else targets.of(match.symbol)
    if target is None:
        known_id = match.gene_id if match.how == "symbol" else ""
        return _Place(None, own_id or known_id, "outside", doubt, match.symbol)
    name, how = target
    fate = "unchanged" if name == match.name else _fate(match.how, how)
    return _Place(name, own_id or match.gene_id, fate, doubt, match.symbol)


def _place_across(match: Match, own_id: str, targets: _Targets, finder: _Finder) -> _Place:
    """Find the place of a gene of the other species."""
    there = targets.table.symbol_of(own_id)  # of a slide whose genes were taken there before
    if not own_id and match.symbol is None and match.name in targets.table.row_of:
        there = match.name  # so too, of a gene without an id
    partner = there or finder.partner(match)
    if partner is None:
        several: Fate = "several_orthologs" if finder.has_several(match) else "no_ortholog"
        fate: Fate = _lost(match) if match.symbol is None else several
        return _Place(None, own_id, fate, _SURE, None)
    target = targets.of(partner)
    if target is None:
        return _Place(None, own_id, "outside", _SURE, partner)
    fate = "unchanged" if there and target[0] == match.name else "ortholog"
    doubt = _SURE if there else _DOUBT.get(match.how, _SURE)
    return _Place(target[0], targets.table.match(partner).gene_id, fate, doubt, partner)


def _lost(match: Match) -> Fate:
    return match.how if match.how == "ambiguous" or match.how == "mangled" else "unknown"


def _fate(how: How, panel_how: How) -> Fate:
    """Name the kind of a renaming: by an id where there is one, else by the weaker of the two names."""
    if "ensembl" in (how, panel_how):
        return "ensembl"
    weaker = max(how, panel_how, key=lambda one: _DOUBT[one])
    return "alias" if weaker == "alias" else "previous" if weaker == "previous" else "case"


def _without_clashes(
    genes: Sequence[str], own_ids: Sequence[str], places: Sequence[_Place]
) -> list[_Place]:
    """Leave a target to the columns that are surely its gene, or to the one that is so most likely."""
    found = list(places)
    columns: dict[str, list[int]] = {}
    for column, place in enumerate(places):
        if place.target is not None:
            columns.setdefault(place.target, []).append(column)
    for target, group in columns.items():
        if len(group) == 1:
            continue
        named = [c for c in group if genes[c] == target and places[c].fate != "ortholog"]
        for column in _losers(group, named, places):
            found[column] = places[column]._replace(
                target=None, fate="clashing", gene_id=own_ids[column]
            )
    return found


def _losers(group: Sequence[int], named: Sequence[int], places: Sequence[_Place]) -> list[int]:
    """Columns of one target that may be another gene; `named` are called as it is."""
    sure = [column for column in group if places[column].doubt == _SURE]
    if named:  # others join it only where it is beyond doubt that they are the same gene
        its = places[named[0]]
        same = [c for c in sure if places[c].symbol == its.symbol and its.doubt == _SURE]
        keep = {*named, *same}
    elif sure:
        keep = set(sure)
    else:
        least = min(places[column].doubt for column in group)
        best = [column for column in group if places[column].doubt == least]
        keep = set(best) if len(best) == 1 else set()
    return [column for column in group if column not in keep]
