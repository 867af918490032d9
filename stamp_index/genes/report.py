"""What became of a slide's genes when they were given a panel's names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.genes.covering import Coverage

Fate = Literal[
    "unchanged",
    "ensembl",
    "previous",
    "alias",
    "case",
    "ortholog",
    "contradicting",
    "outside",
    "ambiguous",
    "mangled",
    "clashing",
    "several_orthologs",
    "no_ortholog",
    "unknown",
]
_SAYS: Final[dict[str, str]] = {
    "unchanged": "had the right name",
    "ensembl": "were renamed by their Ensembl id",
    "previous": "were renamed from or to a previous symbol",
    "alias": "were renamed from or to an alias",
    "case": "were renamed in case",
    "ortholog": "were renamed to their ortholog",
    "contradicting": "have a name of the panel but the Ensembl id of another gene, and keep it",
    "outside": "are known but not in the panel, and keep their name",
    "ambiguous": "have a name that several genes have or had, and keep it",
    "mangled": "have a date for a name, and keep it",
    "clashing": "have an old or other name of a gene that stands here already, and keep it",
    "several_orthologs": "have no ortholog that is their only one, and keep their name",
    "no_ortholog": "have no ortholog, and keep their name",
    "unknown": "are not in the reference, and keep their name",
}
_RENAMED: Final = ("ensembl", "previous", "alias", "case", "ortholog")
_SHOWN: Final = 5


@dataclass(frozen=True)
class GeneReport:
    """What became of each gene.

    Attributes
    ----------
    species, target_species : str
        Of the slide, and of the names it was given.
    orthologs : str
        "table", "by_name", or "" within one species.
    reference_date : str
        Of the gene reference, YYYY-MM-DD.
    fates : dict of str to tuple of (str, str)
        For each fate the genes that met it, as (name before, name afterwards). The fates are those of `Fate`.
    candidates : dict of str to tuple of str
        What an ambiguous or mangled name may mean.
    summed : dict of str to tuple of str
        Genes that stood in several columns, with the names of these.
    coverage : Coverage or None
        Of the panel; None without one.
    """

    species: str
    target_species: str
    orthologs: str
    reference_date: str
    fates: dict[str, tuple[tuple[str, str], ...]]
    candidates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    summed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    coverage: Coverage | None = None

    @classmethod
    def of(
        cls,
        genes: Sequence[str],
        names: Sequence[str],
        *,
        fates: Sequence[str],
        candidates: Sequence[tuple[str, ...]],
        about: tuple[str, str, str, str],
    ) -> Self:
        """Sort genes by what became of them; `about` is species, target species, orthologs and date."""
        lists: dict[str, list[tuple[str, str]]] = {fate: [] for fate in get_args(Fate)}
        columns: dict[str, list[str]] = {}
        meant = {}
        for gene, name, fate, readings in zip(genes, names, fates, candidates, strict=True):
            lists[fate].append((gene, name))
            columns.setdefault(name, []).append(gene)
            if fate in ("ambiguous", "mangled"):
                meant[gene] = readings
        summed = {name: tuple(stood) for name, stood in columns.items() if len(stood) > 1}
        return cls(*about, {f: tuple(pairs) for f, pairs in lists.items()}, meant, summed)

    def with_coverage(self, coverage: Coverage) -> GeneReport:
        """Return the same report with the coverage of a panel."""
        return replace(self, coverage=coverage)

    @property
    def counts(self) -> dict[str, int]:
        """Number of genes of each fate."""
        return {fate: len(pairs) for fate, pairs in self.fates.items()}

    @property
    def n_genes(self) -> int:
        """Genes before."""
        return sum(self.counts.values())

    @property
    def renamed(self) -> dict[str, str]:
        """Name afterwards of each gene that has another name now."""
        return {a: b for pairs in self.fates.values() for a, b in pairs if a != b}

    def note(self) -> str | None:
        """One sentence for a slide's notes; None where nothing was changed."""
        changed = {fate: sum(a != b for a, b in pairs) for fate, pairs in self.fates.items()}
        told = [f"{n} by {fate}" for fate in _RENAMED if (n := changed[fate])]
        if not any(changed.values()) and not self.summed:
            return None
        n_columns = sum(map(len, self.summed.values()))
        parts = [
            f"{sum(changed.values())} of {self.n_genes} genes were renamed ({', '.join(told) or 'to tell species apart'})"
        ]
        parts += [f"{n_columns} columns were summed into {len(self.summed)}"] if self.summed else []
        return f"{'; '.join(parts)} (gene reference of {self.reference_date})."

    def __str__(self) -> str:
        """Plain lines: counts and first examples."""
        head = f"{self.n_genes} {self.species} genes"
        if self.orthologs:
            head += f", taken to {self.target_species} ones (orthologs: {self.orthologs})"
        lines = [f"{head}; gene reference of {self.reference_date}"]
        for fate, pairs in self.fates.items():
            if pairs:
                lines.append(f"  {len(pairs)} {_SAYS[fate]}{self._examples(fate, pairs)}")
        if self.summed:
            shown = [f"{name} of {' and '.join(stood)}" for name, stood in self.summed.items()]
            lines.append(
                f"  {len(self.summed)} stood in several columns, now summed: {_first(shown)}"
            )
        if self.coverage is not None:
            lines.append(f"  {self.coverage} are measured")
        return "\n".join(lines)

    def _examples(self, fate: str, pairs: Sequence[tuple[str, str]]) -> str:
        if fate in ("unchanged", "outside"):
            return ""
        if fate in ("ambiguous", "mangled"):
            return ": " + _first([f"{a} ({' or '.join(self.candidates[a])})" for a, _ in pairs])
        return ": " + _first([a if a == b else f"{a} to {b}" for a, b in pairs])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        covered = self.coverage
        return {
            "species": self.species,
            "target_species": self.target_species,
            "orthologs": self.orthologs,
            "reference_date": self.reference_date,
            "counts": Counter(self.counts),
            "fates": {fate: [list(pair) for pair in pairs] for fate, pairs in self.fates.items()},
            "candidates": {name: list(found) for name, found in self.candidates.items()},
            "summed": {name: list(stood) for name, stood in self.summed.items()},
            "coverage": covered
            and {
                "n_panel": covered.n_panel,
                "n_found": covered.n_found,
                "share": covered.share,
                "missing": list(covered.missing),
            },
        }


def _first(examples: Sequence[str]) -> str:
    return ", ".join(examples[:_SHOWN]) + (", ..." if len(examples) > _SHOWN else "")
