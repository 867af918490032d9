"""What a gene tower is given: rank tokens and a profile centred on the spot's own slide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.encoders.neighbours import ITSELF, Neighbourhood
from stamp_index.errors import MissingGenesError
from stamp_index.genes import PAD, TOKEN_OFFSET, GenePanel, log1p_cp10k, rank_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stamp_index.slides import Slide

_CLIP: Final = 6.0  # deviations; beyond this a single count decides
# A gene called high stands this far above its slide's mean: a few genes have to speak as loudly as a profile.
_SIGNATURE_Z: Final = 4.0
_LEAST_SHARE: Final = 0.1  # of the panel that counts must hold
_LEAST_STD: Final = 0.05  # of log1p CP10K: below this a deviation is noise
_PRIOR_SPOTS: Final = 20.0  # a slide's mean leans on the training mean as if on this many spots


@dataclass(frozen=True)
class GeneBatch:
    """Inputs of n spots.

    Attributes
    ----------
    tokens : ndarray of shape (n, context), int32
        Rank tokens, 0 where padded.
    profile : ndarray of shape (n, s * g), float32
        Deviations from the slide's mean expression, in training standard deviations, at s scales one after
        the other; 0 where a gene was not measured.
    niche : ndarray of shape (n, g), float32
        The same of the mean expression of the niche; equal to the first scale where there is none, and then
        the same memory if that is the only one.
    """

    tokens: NDArray[np.int32]
    profile: NDArray[np.float32]
    niche: NDArray[np.float32]


@dataclass(frozen=True)
class Around:
    """At which scales a spot's expression is looked at; by default its own alone.

    Attributes
    ----------
    scales : tuple of Neighbourhood
        Each gives one block of the profile. The first is what decoders are held against.
    niche : Neighbourhood, optional
        The niche profile is averaged over it.
    """

    scales: tuple[Neighbourhood, ...] = (ITSELF,)
    niche: Neighbourhood | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        niche = None if self.niche is None else self.niche.to_dict()
        return {"scales": [scale.to_dict() for scale in self.scales], "niche": niche}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Around:
        """Inverse of `to_dict`."""
        niche = values.get("niche")
        scales = tuple(Neighbourhood(**scale) for scale in values["scales"])
        return cls(scales, Neighbourhood(**niche) if niche else None)


@dataclass(frozen=True)
class GeneInput:
    """Turns counts into a gene tower's inputs.

    Attributes
    ----------
    panel : GenePanel
        Genes and their means.
    mean : ndarray of shape (g,), float32
        Of log1p CP10K over the training spots.
    std : ndarray of shape (s, g), float32
        Within slides, at each scale.
    context : int
        Number of rank tokens.
    around : Around
        Scales of the profile, and the niche.

    Notes
    -----
    Expression is measured against the slide's own mean because most of what separates two slides is the
    experiment. On HER2ST (train C2-C4, test C5, two MLP towers) this alone moved gene-to-image recall@10
    within the section from .38 to .47. What scales bring is in trainer/docs/experiments.md.
    """

    panel: GenePanel
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    context: int
    around: Around = field(default_factory=Around)

    @classmethod
    def fit(
        cls, panel: GenePanel, slides: Sequence[Slide], context: int, around: Around | None = None
    ) -> GeneInput:
        """Fit each gene's mean and deviations on the spots of the training slides that measure it."""
        around = around or Around()
        aligned = [panel.align(slide.counts, slide.genes) for slide in slides]
        # A gene that a slide lacks is not a gene that is low there: (g,) counts the spots that measure it.
        n_measured = np.zeros(len(panel), dtype=np.int64)
        for slide in slides:
            n_measured += slide.n_spots * np.isin(panel.genes, slide.genes)
        n_measured = np.maximum(n_measured, 1)
        mean = _sum_of_rows(log1p_cp10k(part).toarray() for part in aligned) / n_measured
        std = []
        for scale in around.scales:
            pairs = zip(slides, aligned, strict=True)
            logs = (_expression(scale, slide, part) for slide, part in pairs)
            squares = _sum_of_rows((part - part.mean(axis=0)) ** 2 for part in logs)
            std.append(np.maximum(np.sqrt(squares / n_measured), _LEAST_STD))
        deviations = np.stack(std).astype(np.float32)
        return cls(panel, mean.astype(np.float32), deviations, context, around)

    @property
    def width(self) -> int:
        """Length of a profile: genes times scales."""
        return len(self.panel) * len(self.around.scales)

    def settings(self) -> dict[str, Any]:
        """Plain values for JSON; with `arrays` and the panel all that `from_parts` needs."""
        return {"context": self.context, "around": self.around.to_dict()}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Profile statistics under the names that a checkpoint gives them."""
        return {"profile_mean": self.mean, "profile_std": self.std}

    @classmethod
    def from_parts(
        cls,
        settings: Mapping[str, Any],
        panel: GenePanel,
        arrays: Mapping[str, NDArray[np.float32]],
    ) -> GeneInput:
        """Inverse of `settings` and `arrays`."""
        around = Around.from_dict(settings["around"])
        mean, std = arrays["profile_mean"], arrays["profile_std"]
        return cls(panel, mean, std, int(settings["context"]), around)

    def batch(self, counts: csr_matrix, genes: Sequence[str]) -> GeneBatch:
        """Make the inputs of counts (n, k) with columns `genes` from anywhere, against the training mean.

        Nothing is known around them: every scale is taken to deviate as much as the spot itself.
        """
        aligned = self.panel.align(counts, genes)
        own = self._profile(log1p_cp10k(aligned).toarray() - self.mean, self.std[0], genes)
        return GeneBatch(self._tokens(aligned), np.tile(own, len(self.around.scales)), own)

    def slide_batch(self, slide: Slide) -> GeneBatch:
        """Make the inputs of a slide's own spots, against the slide's mean and with their surroundings.

        Raises
        ------
        MissingGenesError
            If the slide measures hardly any gene of the panel.
        MissingPixelSizeError
            If surroundings are looked at and the slide has no pixel size.
        """
        self._check_overlap(slide.genes)
        aligned = self.panel.align(slide.counts, slide.genes)
        scales = [
            self._above(scale, std, slide, aligned)
            for scale, std in zip(self.around.scales, self.std, strict=True)
        ]
        niche = scales[0]
        if self.around.niche is not None:
            niche = self._above(self.around.niche, self.std[0], slide, aligned)
        profile = scales[0] if len(scales) == 1 else np.concatenate(scales, axis=1)
        return GeneBatch(self._tokens(aligned), profile, niche)

    def _above(
        self, scale: Neighbourhood, std: NDArray[np.float32], slide: Slide, aligned: csr_matrix
    ) -> NDArray[np.float32]:
        """Profile (n, g) of a slide's spots at one scale, against the slide's mean at that scale."""
        expression = _expression(scale, slide, aligned)
        total, n = expression.sum(axis=0), len(expression)
        reference = (total + _PRIOR_SPOTS * self.mean) / (n + _PRIOR_SPOTS)
        return self._profile(expression - reference, std, slide.genes)

    def _tokens(self, aligned: csr_matrix) -> NDArray[np.int32]:
        return rank_tokens(aligned, self.panel.means, self.context)

    def _profile(
        self, above: NDArray[np.float32], std: NDArray[np.float32], genes: Sequence[str]
    ) -> NDArray[np.float32]:
        """Clipped deviations (n, g); 0 where a gene was not measured."""
        profile = np.clip(above / std, -_CLIP, _CLIP)
        present = set(genes)
        profile[:, [gene not in present for gene in self.panel.genes]] = 0.0
        scaled: NDArray[np.float32] = profile.astype(np.float32)
        return scaled

    def _check_overlap(self, genes: Sequence[str]) -> None:
        """Refuse a slide that shares so few genes with the panel that an embedding would say nothing."""
        shared = set(self.panel.genes).intersection(genes)
        if shared and len(shared) < _LEAST_SHARE * len(self.panel):
            msg = (
                f"Only {len(shared)} of the panel's {len(self.panel)} {self.panel.species} genes "
                f"({', '.join(sorted(shared)[:5])}) are among the {len(genes)} genes measured "
                f"({', '.join(list(genes)[:5])}, ...); at least {_LEAST_SHARE:.0%} are needed. Check the "
                "species, or train an encoder on a panel that these slides measure."
            )
            raise MissingGenesError(msg)

    def signature(self, weights: Mapping[str, float]) -> GeneBatch:
        """Make the inputs of one signature; its genes must be in the panel."""
        profile = np.zeros((1, len(self.panel)), dtype=np.float32)
        for gene, weight in weights.items():
            profile[0, self.panel.column_of[gene]] = np.clip(_SIGNATURE_Z * weight, -_CLIP, _CLIP)
        high = sorted((gene for gene in weights if weights[gene] > 0), key=lambda g: -weights[g])
        tokens = np.full((1, self.context), PAD, dtype=np.int32)
        ids = [self.panel.column_of[gene] + TOKEN_OFFSET for gene in high[: self.context]]
        tokens[0, : len(ids)] = ids
        return GeneBatch(tokens, np.tile(profile, len(self.around.scales)), profile)


def _sum_of_rows(parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Sum (g,) of the rows of parts (n_s, g), made one after the other: a cohort's together may not fit in memory."""
    total: NDArray[np.float32] | None = None
    for part in parts:
        # The sum goes on from row to row, so that it is to the bit that over all rows at once.
        rows = part if total is None else np.concatenate([total[None], part])
        total = rows.sum(axis=0)
    if total is None:
        msg = "There are no slides to fit gene inputs on; give at least one."
        raise ValueError(msg)
    return total


def _expression(scale: Neighbourhood, slide: Slide, aligned: csr_matrix) -> NDArray[np.float32]:
    """log1p CP10K (n, g) of the counts of a slide's spots, averaged over a neighbourhood.

    Counts are averaged, not logarithms: eight spots with one count each say more than the mean of eight
    logarithms does. On HER2ST (closed form, C2 and C3 -> C4) recall@10 is .84/.70 against .68/.61.
    """
    if scale != ITSELF:
        aligned = csr_matrix(scale.weights(slide.xy_um) @ aligned)
    dense: NDArray[np.float32] = log1p_cp10k(aligned).toarray()
    return dense
