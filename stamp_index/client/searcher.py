"""Asking a served store: the methods of `Searcher`, each one request."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from stamp_index.client.connection import Connection
from stamp_index.client.store import RemoteStore
from stamp_index.client.tables import as_many, floats, hits_of, regions_of
from stamp_index.client.wire import against_of, image_of, plain_numbers, region_of
from stamp_index.search.asking import DEFAULT_K, DEFAULT_RECALL, Against, OnePer
from stamp_index.search.regions.search import DEFAULT_REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.genes import Signature
    from stamp_index.search.filtering import Condition
    from stamp_index.search.hits import Hits
    from stamp_index.search.regions import Region, RegionHits, RegionSettings
    from stamp_index.search.selection import Own
    from stamp_index.store import Modality


def connect(
    url: str,
    *,
    token: str | None = None,
    timeout_s: float = 60.0,
    certificates: Path | str | None = None,
) -> RemoteSearcher:
    """Search a store that ``stamp-index serve`` serves.

    Parameters
    ----------
    url : str
        Address of the server, such as ``https://stamp.hospital.example``.
    token : str, optional
        Bearer token, where the server wants one.
    timeout_s : float
        Seconds to wait for an answer.
    certificates : path, optional
        PEM file of the authorities that vouch for the server.

    Raises
    ------
    RemoteError
        If the server cannot be reached, does not know the token, or has not opened its store.
    ValueError
        If the address is none, or the token would cross the network in the clear.
    """
    return RemoteSearcher(
        Connection(url, token=token, timeout_s=timeout_s, certificates=certificates)
    )


class RemoteSearcher:
    """Searches a served store: what `Searcher` answers, over HTTP. Threads may share it.

    Made by `connect`. Methods and keywords are those of `Searcher`, and so are `Hits` and errors. Each answer is of the
    version that the server shows when it is asked (`Hits.store_version`), which a `Searcher` never changes. Where the
    server has too much to do, it is asked again when it says, a few times.

    Attributes
    ----------
    store : RemoteStore
        The store at the version of the last answer.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.store = RemoteStore(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        self._connection.close()

    # ---- kinds of query ----------------------------------------------------------------------

    def search_genes(  # noqa: PLR0913 - as Searcher's
        self,
        signature: str | Signature | Mapping[str, float],
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
        rank_by: Literal["score", "measured"] = "score",
    ) -> Hits:
        """Find spots for a signature: see `Searcher.search_genes`."""
        asked = _asked(against, k=k, filters=filters, genes=genes, one_per=one_per, recall=recall)
        weights = getattr(signature, "weights", signature)
        subject = weights if isinstance(weights, str) else plain_numbers(weights)
        return self._hits("genes", asked, signature=subject, rank_by=rank_by)

    def search_image(  # noqa: PLR0913 - as Searcher's
        self,
        patch: NDArray[np.uint8],
        *,
        mpp: float,
        against: Against = "gene",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
        centre_px: tuple[float, float] | None = None,
    ) -> Hits:
        """Find spots for a picture of tissue: see `Searcher.search_image`.

        The picture goes as PNG, which loses nothing; it must not have more than 4096 x 4096 px.
        """
        asked = _asked(against, k=k, filters=filters, genes=genes, one_per=one_per, recall=recall)
        text = base64.b64encode(image_of(patch, mpp)).decode("ascii")
        centre = None if centre_px is None else [float(value) for value in centre_px]
        return self._hits("image", asked, image_base64=text, mpp=float(mpp), centre_px=centre)

    def search_profile(
        self,
        counts: Mapping[str, float],
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> Hits:
        """Find spots for a measured expression profile: see `Searcher.search_profile`."""
        asked = _asked(against, k=k, filters=filters, genes=genes, one_per=one_per, recall=recall)
        return self._hits("profile", asked, counts=plain_numbers(counts))

    def search_vector(
        self,
        vector: ArrayLike,
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> Hits:
        """Find spots for an embedding: see `VectorSearcher.search_vector`."""
        asked = _asked(against, k=k, filters=filters, genes=genes, one_per=one_per, recall=recall)
        return self._hits("vector", asked, vector=np.asarray(vector).tolist())

    def search_vectors(
        self,
        vectors: ArrayLike,
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> list[Hits]:
        """Find spots for many embeddings: see `VectorSearcher.search_vectors`."""
        asked = _asked(against, k=k, filters=filters, genes=genes, one_per=one_per, recall=recall)
        given = np.asarray(vectors)
        n = given.shape[0] if given.ndim else 0
        return self._many("vectors", asked, n=n, vectors=given.tolist())

    def nearest(
        self,
        vectors: ArrayLike,
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find scores and rows for many embeddings, (q, k') each: see `VectorSearcher.nearest`."""
        asked = _asked(against, k=k, filters=filters, one_per=one_per, recall=recall)
        del asked["genes"]
        given = np.asarray(vectors)
        said = self._connection.post("search", "nearest", **asked, vectors=given.tolist())
        with self._connection.reading():
            shape = (len(said["rows"]), -1) if said["rows"] else (0, 0)
            scores = np.array([floats(one, np.float32) for one in said["scores"]], np.float32)
            return scores.reshape(shape), np.array(said["rows"], np.int64).reshape(shape)

    def search_spot(  # noqa: PLR0913 - as VectorSearcher's
        self,
        spot_id: str,
        *,
        query: Modality = "image",
        against: Against = "image",
        exclude_own: Own = "nothing",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> Hits:
        """Find spots like a stored one: see `VectorSearcher.search_spot`."""
        asked = _asked(against, k=k, filters=filters, genes=genes, one_per=one_per, recall=recall)
        own = {"query": query, "exclude_own": exclude_own}
        return self._many("spots", asked | own, n=1, spot_ids=_ids([spot_id]))[0]

    def search_spots(  # noqa: PLR0913 - as VectorSearcher's
        self,
        spot_ids: Sequence[str],
        *,
        query: Modality = "image",
        against: Against = "image",
        exclude_own: Own = "nothing",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> list[Hits]:
        """Find spots like each of some stored ones: see `VectorSearcher.search_spots`."""
        asked = _asked(against, k=k, filters=filters, genes=genes, one_per=one_per, recall=recall)
        ids = [spot_ids] if isinstance(spot_ids, str) else list(spot_ids)
        own = {"query": query, "exclude_own": exclude_own}
        return self._many("spots", asked | own, n=len(ids), spot_ids=_ids(ids))

    def search_region(  # noqa: PLR0913 - as VectorSearcher's
        self,
        region: Region | Sequence[str] | ArrayLike,
        *,
        query: Modality = "image",
        against: Modality = "image",
        exclude_own: Own = "slide",
        k: int = DEFAULT_REGIONS,
        filters: Condition | str | None = None,
        recall: float = DEFAULT_RECALL,
        settings: RegionSettings | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> RegionHits:
        """Find regions like one of a slide: see `VectorSearcher.search_region`.

        `progress` is called once, at the end: a server does not tell before.
        """
        from dataclasses import asdict

        asked = _asked(against, k=k, filters=filters, recall=recall)
        del asked["genes"], asked["one_per"]
        own = {"query": query, "exclude_own": exclude_own}
        how = None if settings is None else asdict(settings)
        said = self._connection.post(
            "search", "region", **asked, **own, **region_of(region), settings=how
        )
        store = self._store_of(said)
        with self._connection.reading():
            found = regions_of(said, store)
        if progress is not None:
            progress(len(found.slides), len(found.slides))
        return found

    # ---- helpers -----------------------------------------------------------------------------

    def _hits(self, kind: str, asked: Mapping[str, Any], **subject: Any) -> Hits:  # noqa: ANN401
        said = self._connection.post("search", kind, **asked, **subject)
        store = self._store_of(said)
        with self._connection.reading():
            return hits_of(said, store)

    def _many(self, kind: str, asked: Mapping[str, Any], *, n: int, **subject: Any) -> list[Hits]:  # noqa: ANN401
        said = self._connection.post("search", kind, **asked, **subject)
        store = self._store_of(said)
        with self._connection.reading():
            return [hits_of(one, store) for one in as_many(said["answers"], n)]

    def _store_of(self, said: Mapping[str, Any]) -> RemoteStore:
        """Return the store as it is described at the version of an answer, or at a later one."""
        with self._connection.reading():
            version = int(said["store_version"])
        if self.store.version < version:
            self.store = RemoteStore(self._connection)
        return self.store


def _asked(
    against: Against,
    *,
    k: int,
    filters: Condition | str | None,
    recall: float,
    genes: Sequence[str] = (),
    one_per: OnePer = None,
) -> dict[str, Any]:
    """Keywords of every query, as JSON has them."""
    if isinstance(genes, str):
        msg = f"genes is the string {genes!r}; expected several names, as in ({genes!r},)."
        raise TypeError(msg)
    if filters is not None and not isinstance(filters, str):
        filters = _text_of(filters)
    return {
        "against": against_of(against),
        "k": k.item() if isinstance(k, np.integer) else k,
        "filters": filters,
        "genes": list(genes),
        "one_per": one_per.item() if isinstance(one_per, np.generic) else one_per,
        "recall": recall.item() if isinstance(recall, np.generic) else recall,
    }


def _text_of(filters: Condition) -> str:
    from stamp_index.search.asking import Ask

    return str(Ask.of("image", k=1, filters=filters).condition)  # refuses what is no condition


def _ids(spot_ids: Sequence[object]) -> list[str]:
    for spot_id in spot_ids:
        if not isinstance(spot_id, str):
            msg = f"A spot is {spot_id!r}; expected ids such as 'SLIDE:BARCODE'."
            raise TypeError(msg)
    return cast("list[str]", list(spot_ids))
