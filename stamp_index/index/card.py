"""What an index is and how well it was measured to search."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import AnnIndexError
from stamp_index.index.card_checks import flaw_of_card
from stamp_index.index.engine import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.store import Modality

FORMAT: Final = 3  # of the index folder; raised when an older release could not read it


@dataclass(frozen=True)
class IndexCard:
    """Facts about one built index.

    Attributes
    ----------
    format : int
        Version of the files.
    recipe : dict
        What was asked for, as `IndexRecipe.to_dict`.
    kind : str
        What was built in the end: never ``auto``; ``flat`` where there were too few rows to train.
    store_id, store_version : str, int
        The store it belongs to, and the version whose rows it holds.
    fingerprint : str
        Encoder of the embeddings.
    modality : {"image", "gene"}
        Which embedding is indexed.
    n_rows : int
        Row ids of the store that were given at that version.
    n : int
        Vectors in the index, those of rows that were deleted since included.
    n_trained : int
        Vectors that were there when it was built; the others were folded in since.
    dim : int
        Length of a vector.
    bytes : int
        Size of the FAISS file; 0 for flat, which has none.
    sidecar : str
        File of the float16 vectors in index order, beside the generation's folder.
    sidecar_bytes : int
        Its size: ``2 * n * dim``.
    calibration : dict
        All that was measured after the build, as `Calibration.to_dict`; folding leaves it as it is.
    tried : dict of str to dict
        Kinds that ``auto`` gave up: "why", and "calibration" as above; None where it was not built.
    ann_recall_at_10 : dict of str to float
        Share of the exact top 10 found, by modality of held-out queries that neither trained the
        index nor chose its settings. Measured again after folding: half with spots that were folded in
        since the build, half with spots of before (of the indexed modality some that were held out).
        1 for flat, which is exact. A modality of which the store has too few rows to ask with is left out.
    target_recall : float
        What was asked for.
    reached : bool
        Whether no recall lies below the target by more than its standard error.
    build_seconds : float
        Wall time of the whole build, that of runs that were killed included up to a second.
    seed : int
        Seed of the training sample and of the queries.
    max_memory_bytes : int or None
        What the build was allowed to take, as `build_index` says; holds when it is built again by itself.
    faiss_version : str
        Release of FAISS; "" for flat, which does not use it.
    gpu : bool
        Whether FAISS saw a GPU, and the kind is one whose lists it trains there.
    files : dict of str to list of [int, str]
        Every file but this one and the plot in the stretches in which it was written: bytes and SHA-256 of each.
    engine : {"local", "ray"}
        Who filled its lists when it was built: one process, or workers on Ray. The files are the same.
    """

    format: int
    recipe: dict[str, Any]
    kind: str
    store_id: str
    store_version: int
    fingerprint: str
    modality: Modality
    n_rows: int
    n: int
    n_trained: int
    dim: int
    bytes: int
    sidecar: str
    sidecar_bytes: int
    calibration: dict[str, Any]
    tried: dict[str, Any]
    ann_recall_at_10: dict[str, float]
    target_recall: float
    reached: bool
    build_seconds: float
    seed: int
    max_memory_bytes: int | None
    faiss_version: str
    gpu: bool
    files: dict[str, list[tuple[int, str]]]
    engine: str = "local"  # of cards that were written before there was another

    def settings_for(self, recall: float) -> Settings:
        """Return the cheapest settings that were measured to find this share of the exact top 10.

        Parameters
        ----------
        recall : float
            .95 or .99, or a target of the recipe's own; for one between them the next higher.

        Raises
        ------
        ValueError
            If nothing was measured for a recall so high.
        """
        choices = [one for one in self.calibration.get("choices", ()) if one["target"] >= recall]
        if not choices:
            held = ", ".join(f"{one['target']:g}" for one in self.calibration.get("choices", ()))
            msg = (
                f"This index has no settings for a recall of {recall:g}; it was measured for "
                f"{held or 'none'}. Ask for one of these, or for 1: exact search."
            )
            raise ValueError(msg)
        best = min(choices, key=lambda one: one["target"])
        return Settings(best["breadth"], best["n_rerank"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IndexCard:
        """Inverse of `to_dict`.

        Raises
        ------
        AnnIndexError
            If another release wrote it in a format of its own, or fields are missing or of another kind.
        """
        written = values.get("format")
        if written != FORMAT:
            msg = (
                f"It has format {written!r}; this release reads {FORMAT}. Build the index again "
                f"(`stamp-index build STORE`), or use the release that made it."
            )
            raise AnnIndexError(msg)
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in values and name != "engine"]
        if missing:
            msg = f"The index's card lacks {', '.join(missing)}. Build the index again."
            raise AnnIndexError(msg)
        wrong = flaw_of_card(values)
        if wrong:
            msg = f"The index's card is damaged: {wrong}. Build the index again."
            raise AnnIndexError(msg)
        return cls(**{name: values[name] for name in names if name in values})
