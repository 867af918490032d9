"""Lists of genes to predict, chosen on training spots only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import MissingGenesError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.genes import close_names, log1p_cp10k

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

N_GENES: Final = 50  # of HEST-Benchmark's var_50genes.json and BLEEP's HEG and HVG


@dataclass(frozen=True)
class GeneList:
    """Genes to predict.

    Attributes
    ----------
    label : str
        Short, for tables: "HVG-50".
    names : tuple of str
        The first is the first by the rule.
    rule : str
        How they were chosen, in words.
    """

    label: str
    names: tuple[str, ...]
    rule: str

    def __post_init__(self) -> None:
        if not self.names:
            msg = f"The gene list '{self.label}' is empty. Name at least one gene."
            raise EvaluationError(msg)
        if len(set(self.names)) < len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            msg = (
                f"The gene list '{self.label}' names {', '.join(twice[:5])} more than once. "
                "Name each gene once."
            )
            raise EvaluationError(msg)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over the sorted names, one a line."""
        return hashlib.sha256("\n".join(sorted(self.names)).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "label": self.label,
            "names": list(self.names),
            "rule": self.rule,
            "hash": self.hash,
        }


@dataclass(frozen=True, eq=False)
class GeneLevels:
    """Mean and variance of every gene's log1p CP10K over training spots.

    Attributes
    ----------
    genes : tuple of str
    mean, variance : ndarray of shape (g,), float64
    n_spots : int
    """

    genes: tuple[str, ...]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    n_spots: int

    @classmethod
    def of(cls, counts: Iterable[csr_matrix], genes: Sequence[str]) -> GeneLevels:
        """Measure raw counts of training spots, (n_i, g) each and `genes` in their columns.

        Parts are pooled as if they were one matrix, and one is held at a time.

        Raises
        ------
        EvaluationError
            If there is no spot.
        """
        n, total, squares = 0, np.zeros(len(genes)), np.zeros(len(genes))
        for part in counts:
            level = log1p_cp10k(part).astype(np.float64)
            total += np.asarray(level.sum(axis=0)).ravel()
            level.data **= 2
            squares += np.asarray(level.sum(axis=0)).ravel()
            n += part.shape[0]
        if not n:
            msg = "There are no training spots to choose genes on. Give counts of at least one."
            raise EvaluationError(msg)
        mean = total / n
        return cls(tuple(genes), mean, np.maximum(squares / n - mean**2, 0.0), n)

    def among(self, genes: Iterable[str]) -> GeneLevels:
        """Keep some of the genes."""
        wanted = set(genes)
        kept = np.flatnonzero([gene in wanted for gene in self.genes])
        names = tuple(self.genes[i] for i in kept)
        return GeneLevels(names, self.mean[kept], self.variance[kept], self.n_spots)


def highly_variable(train: GeneLevels, n: int = N_GENES) -> GeneList:
    """Genes of the largest variance of log1p CP10K over all training spots together (HVG).

    Parameters
    ----------
    train : GeneLevels
        Of training spots only.
    n : int
        How many, at least 1; fewer where there are not so many genes that vary.

    Notes
    -----
    By variance, as BLEEP's HVG and HEST-Benchmark's ``var_50genes.json`` are called, but chosen before the test spots
    are seen. Mean-corrected dispersions (scanpy's flavours) would choose genes that are hardly there, whose
    correlation is noise. Equal variances by name.
    """
    rule = f"largest variance of log1p CP10K over {train.n_spots:,} training spots"
    return GeneList(f"HVG-{n}", _largest(train.genes, train.variance, n), rule)


def highly_expressed(train: GeneLevels, n: int = N_GENES) -> GeneList:
    """Genes of the largest mean log1p CP10K over all training spots together (HEG); see `highly_variable`."""
    rule = f"largest mean of log1p CP10K over {train.n_spots:,} training spots"
    return GeneList(f"HEG-{n}", _largest(train.genes, train.mean, n), rule)


def all_genes(train: GeneLevels) -> GeneList:
    """Every gene that any training spot expresses, by name."""
    names = tuple(sorted(gene for gene, mean in zip(train.genes, train.mean, strict=True) if mean))
    return GeneList("all", names, f"expressed in any of {train.n_spots:,} training spots")


def given_genes(names: Sequence[str], held: Sequence[str]) -> GeneList:
    """Genes that somebody named.

    Parameters
    ----------
    names : sequence of str
    held : sequence of str
        Genes that can be predicted.

    Raises
    ------
    MissingGenesError
        If one of them is not held; close names are said.
    EvaluationError
        If none is named, or one twice.
    """
    known = set(held)
    missing = [name for name in names if name not in known]
    if missing:
        near = dict.fromkeys(close for name in missing[:5] for close in close_names(name, held))
        msg = (
            f"{len(missing)} of {len(names)} genes cannot be predicted, since not every training slide and some test slide "
            f"measured them ({', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}). Close names: "
            f"{', '.join(near) or 'none'}. Correct or leave them out."
        )
        raise MissingGenesError(msg)
    return GeneList("given", tuple(names), "named by whoever asked")


def _largest(genes: Sequence[str], score: NDArray[np.float64], n: int) -> tuple[str, ...]:
    if n < 1:
        msg = f"n is {n}; expected at least 1 gene."
        raise ValueError(msg)
    order = sorted(np.flatnonzero(score > 0).tolist(), key=lambda i: (-score[i], genes[i]))
    if not order:
        msg = (
            "No gene varies or is expressed over the training spots, so none can be chosen. Check that the training slides "
            "have counts."
        )
        raise EvaluationError(msg)
    return tuple(genes[i] for i in order[:n])
