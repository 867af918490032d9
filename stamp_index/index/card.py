"""What an index is and how well it was measured to search."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import AnnIndexError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.store import Modality

FORMAT: Final = 1  # of the index folder; raised when an older release could not read it


@dataclass(frozen=True)
class IndexCard:
    """Facts about one built index.

    Attributes
    ----------
    format : int
        Version of the files.
    recipe : dict
        The recipe it was built by.
    store_id, store_version : str, int
        The store it belongs to, and the version whose rows it holds.
    fingerprint : str
        Encoder of the embeddings.
    modality : {"image", "gene"}
        Which embedding is indexed.
    n_rows : int
        Rows of the store that it covers; later ones are searched exactly.
    n : int
        Vectors in the index: the rows among them that have this embedding.
    dim : int
        Length of a vector.
    bytes : int
        Size on disk in bytes, the float16 vectors included (``2 * n * dim`` of it).
    nprobe, n_rerank : int
        Lists looked into and candidates ranked again, unless a search says otherwise; 0 for flat.
    ann_recall_at_10 : dict of str to float
        Share of the exact top 10 found, by modality of held-out queries that neither trained the
        index nor chose its settings. 1 for flat, which is exact. A modality of which the store has
        too few rows to ask with is left out.
    target_recall : float
        What was asked for.
    reached : bool
        Whether every measured recall is at least the target.
    build_seconds : float
        Wall time of training, filling and measuring.
    seed : int
        Seed of the training sample and of the queries.
    faiss_version : str
        Release of FAISS; "" for flat, which does not use it.
    gpu : bool
        Whether a GPU trained it.
    """

    format: int
    recipe: dict[str, Any]
    store_id: str
    store_version: int
    fingerprint: str
    modality: Modality
    n_rows: int
    n: int
    dim: int
    bytes: int
    nprobe: int
    n_rerank: int
    ann_recall_at_10: dict[str, float]
    target_recall: float
    reached: bool
    build_seconds: float
    seed: int
    faiss_version: str
    gpu: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IndexCard:
        """Inverse of `to_dict`.

        Raises
        ------
        AnnIndexError
            If a newer release wrote it, or fields are missing.
        """
        written = values.get("format")
        if isinstance(written, int) and written > FORMAT:
            msg = (
                f"The index has format {written}; this release reads up to {FORMAT}. "
                f"Update stamp-index, or build the index again."
            )
            raise AnnIndexError(msg)
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in values]
        if missing:
            msg = f"The index's card lacks {', '.join(missing)}. Build the index again."
            raise AnnIndexError(msg)
        return cls(**{name: values[name] for name in names})
