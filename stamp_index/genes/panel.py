"""The gene panel of an encoder: which genes, in which order, and how strongly they usually show."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import MissingGenesError, PanelError
from stamp_index.genes.names import refuse_duplicates
from stamp_index.genes.variable import choose_genes, nonzero_means

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stamp_index.slides.slide import Slide


@dataclass(frozen=True)
class GenePanel:
    """Ordered genes with their means: part of an encoder's fingerprint.

    Attributes
    ----------
    genes : tuple of str, length g
        Gene symbols, unique; the order is the order of the encoder's columns.
    means : tuple of float, length g
        Mean of the non-zero counts per 10,000 of each gene over the training spots, above 0.
        An array is accepted and stored as a tuple.
    species : str
        ``"human"`` or ``"mouse"``.

    Raises
    ------
    DuplicateGenesError
        If a gene stands twice.
    ValueError
        If there is no gene, the lengths differ or a mean is not a number above 0.
    """

    genes: tuple[str, ...]
    means: tuple[float, ...]
    species: str = "human"

    normalisation: ClassVar[str] = "cp10k"

    def __post_init__(self) -> None:
        object.__setattr__(self, "genes", tuple(self.genes))
        object.__setattr__(self, "means", tuple(float(mean) for mean in self.means))
        if not self.genes:
            msg = "The gene panel is empty; it needs at least one gene."
            raise ValueError(msg)
        if len(self.means) != len(self.genes):
            msg = f"The gene panel has {len(self.genes)} genes but {len(self.means)} means."
            raise ValueError(msg)
        refuse_duplicates(self.genes, "the gene panel")
        bad = [
            f"{gene} {mean:g}"
            for gene, mean in zip(self.genes, self.means, strict=True)
            if not (np.isfinite(mean) and mean > 0)
        ]
        if bad:
            msg = (
                f"Means of a gene panel must be above 0; {len(bad)} are not ({', '.join(bad[:5])})."
            )
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.genes)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over order, means and normalisation, as hex."""
        digest = hashlib.sha256()
        digest.update("\n".join((self.normalisation, *self.genes)).encode())
        digest.update(b"\0")
        digest.update(np.asarray(self.means, dtype="<f8").tobytes())
        return digest.hexdigest()

    @cached_property
    def column_of(self) -> dict[str, int]:
        """Column of each gene."""
        return {gene: column for column, gene in enumerate(self.genes)}

    def align(self, counts: csr_matrix, genes: Sequence[str]) -> csr_matrix:
        """Bring counts into the panel's columns.

        Parameters
        ----------
        counts : csr_matrix of shape (n, k)
            Raw counts.
        genes : sequence of str, length k
            Names of the columns of `counts`.

        Returns
        -------
        csr_matrix of shape (n, len(panel)), float32
            Genes that `genes` lacks are 0; genes outside the panel are dropped.

        Raises
        ------
        DuplicateGenesError
            If a gene stands twice in `genes`.
        MissingGenesError
            If no gene of the panel is in `genes`.
        ValueError
            If `counts` has another number of columns than `genes` has names.
        """
        counts = csr_matrix(counts)
        if counts.shape[1] != len(genes):
            msg = f"counts has {counts.shape[1]} columns, but {len(genes)} gene names were given."
            raise ValueError(msg)
        refuse_duplicates(genes, "the columns of counts")
        column_of = self.column_of
        target = np.array([column_of.get(gene, -1) for gene in genes], dtype=np.int64)  # (k,)
        if not np.any(target >= 0):
            msg = (
                f"None of the {len(genes)} genes ({', '.join(list(genes)[:5])}, ...) is in the "
                f"panel of {len(self)} genes ({', '.join(self.genes[:5])}, ...). Expected "
                f"{self.species} gene symbols: check the species and whether the columns are "
                "symbols, not ids."
            )
            raise MissingGenesError(msg)
        columns = target[counts.indices]  # (nnz,)
        kept = columns >= 0
        row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[kept]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=counts.shape[0]))])
        aligned = csr_matrix(
            (counts.data[kept].astype(np.float32), columns[kept], indptr),
            shape=(counts.shape[0], len(self)),
        )
        aligned.sort_indices()
        return aligned

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; `from_dict` gives the same panel, bit for bit."""
        return {
            "genes": list(self.genes),
            "means": list(self.means),
            "species": self.species,
            "normalisation": self.normalisation,
            "hash": self.hash,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild a panel from `to_dict`.

        Raises
        ------
        PanelError
            If a field is missing, the normalisation is another one, or the hash does not fit.
        """
        try:
            panel = cls(tuple(fields["genes"]), tuple(fields["means"]), str(fields["species"]))
        except KeyError as exc:
            msg = f"The gene panel has no field {exc}; expected genes, means and species."
            raise PanelError(msg) from exc
        normalisation = fields.get("normalisation", cls.normalisation)
        if normalisation != cls.normalisation:
            msg = (
                f"The gene panel is normalised as {normalisation!r}; this release knows "
                f"{cls.normalisation!r} only. Use the release that wrote it."
            )
            raise PanelError(msg)
        if fields.get("hash", panel.hash) != panel.hash:
            msg = (
                f"The gene panel's hash is {panel.hash[:12]}, but {fields['hash'][:12]} is written "
                "beside it: the file was changed. Restore the file that the trainer wrote."
            )
            raise PanelError(msg)
        return panel

    @classmethod
    def fit(
        cls,
        slides: Sequence[Slide],
        n_genes: int | None = 2000,
        *,
        min_spots: int = 10,
        always: Sequence[str] = (),
        ranking: str = "variance",
    ) -> Self:
        """Choose a panel from training slides.

        Candidates are genes that at least half of the slides measured and at least `min_spots`
        spots express. The most variable ones are kept (HVG): variance beyond sampling, computed inside
        each slide and averaged over slides, so that a difference between slides does not make a gene
        variable. The panel is in alphabetical order.

        Parameters
        ----------
        slides : sequence of Slide
            Training slides only: a panel fitted on held-out slides leaks.
        n_genes : int or None
            Number of genes; None keeps every candidate, and fewer candidates are all kept.
        min_spots : int
            Smallest number of spots that express a candidate, over all slides.
        always : sequence of str
            Genes to keep if they are candidates, however little they vary (markers to be asked for).
        ranking : str
            ``variance`` as above; ``spatial`` ranks the 4,000 most variable by Moran's I, which leaves out
            genes that vary without a pattern on the tissue.

        Returns
        -------
        GenePanel
            With the means of the chosen genes' non-zero counts per 10,000.

        Raises
        ------
        PanelError
            If no gene is a candidate.
        ValueError
            If there is no slide, or a number is below 1.

        Notes
        -----
        `stamp_index.genes.variable.residual_variance` says how variance is measured.
        """
        if not slides:
            msg = "No slides were given; a gene panel is fitted on at least one training slide."
            raise ValueError(msg)
        if min_spots < 1 or (n_genes is not None and n_genes < 1):
            msg = f"n_genes is {n_genes} and min_spots is {min_spots}; both must be at least 1."
            raise ValueError(msg)
        genes = choose_genes(slides, n_genes, min_spots=min_spots, always=always, ranking=ranking)
        if not genes:
            msg = (
                f"No gene is expressed in {min_spots} spots and measured by half of the "
                f"{len(slides)} slides, which have {sum(slide.n_spots for slide in slides)} spots. Give more spots (or lower "
                "min_spots of GenePanel.fit), and check that the slides share a species."
            )
            raise PanelError(msg)
        species = next((slide.species for slide in slides if slide.species), "human")
        uniform = cls(genes, (1.0,) * len(genes), species)
        aligned = [uniform.align(slide.counts, slide.genes) for slide in slides]
        return cls(genes, tuple(nonzero_means(aligned)), species)
