"""Reading a store that is served elsewhere, as `StoreView` reads one that lies here."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pandas as pd

from stamp_index.client.tables import as_many, column, floats, slides_of
from stamp_index.errors import RemoteError
from stamp_index.readers.common.text_numbers import to_numeric
from stamp_index.store import EncoderCard
from stamp_index.store.view import SPOT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.client.connection import Connection

_AT_ONCE: Final = 5_000  # spots of one request
_CELLS_AT_ONCE: Final = 100_000  # spots times genes
_GENES_AT_ONCE: Final = 100
_PICTURES_AT_ONCE: Final = 200
_DESCRIBED: Final[dict[str, type[Any]]] = {
    "store_version": int, "name": str, "store_id": str, "encoder": str, "n_spots": int, "n_rows": int, "label_names": tuple,
}  # fmt: skip


@dataclass(frozen=True)
class Served:
    """Where a served store lies, of which callers are told the name alone.

    Attributes
    ----------
    label : str
        Name of the store.
    """

    label: str

    def __str__(self) -> str:
        return self.label


class RemoteStore:
    """A store behind a server, for reading.

    What a store is (`version`, `genes`, `slides`, ...) is read once and stays; `refresh` reads it anew. Spots, labels,
    expression and pictures are read from the version that the server shows when they are asked for. Row ids are a
    spot's for life, so a row means the same in every version, or is refused where its slide was deleted.

    Attributes
    ----------
    path : PurePosixPath
        Name of the store; where it lies on the server is not told.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._said = self._described()
        self.place = Served(self._said["name"])
        self.path = PurePosixPath(self._said["name"])

    def __repr__(self) -> str:
        return f"RemoteStore({self._connection.url!r}, version {self.version})"

    def refresh(self) -> int:
        """Read anew what the store is. Returns the version."""
        self._said = self._described()
        for name in ("_genes", "_slides"):
            self.__dict__.pop(name, None)
        return self.version

    def _described(self) -> dict[str, Any]:
        said = self._connection.get("store")
        with self._connection.reading():
            cards = {name: EncoderCard(**card) for name, card in said["encoders"].items()}
            found = {name: kind(said[name]) for name, kind in _DESCRIBED.items()}
            return found | {"encoders": cards, "card": cards[found["encoder"]]}

    # ---- what it is --------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Version that the server showed when this was read."""
        return cast("int", self._said["store_version"])

    @property
    def store_id(self) -> str:
        """Random name that the store was given when it was made."""
        return cast("str", self._said["store_id"])

    @property
    def encoder(self) -> str:
        """Name in the store of the encoder that is searched with."""
        return cast("str", self._said["encoder"])

    @property
    def encoders(self) -> dict[str, EncoderCard]:
        """Every encoder whose embeddings the store has, by its name in the store."""
        return dict(self._said["encoders"])

    @property
    def card(self) -> EncoderCard:
        """The encoder that is searched with."""
        return cast("EncoderCard", self._said["card"])

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return cast("int", self._said["n_spots"])

    @property
    def n_rows(self) -> int:
        """Row ids given so far, those of deleted slides included."""
        return cast("int", self._said["n_rows"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label of any slide."""
        return cast("tuple[str, ...]", self._said["label_names"])

    @cached_property
    def _genes(self) -> dict[str, tuple[str, ...]]:
        said = self._connection.get("genes")
        with self._connection.reading():
            return {name: tuple(said[name]) for name in ("genes", "gene_ids")}

    @property
    def genes(self) -> tuple[str, ...]:
        """Every gene measured on any slide."""
        return self._genes["genes"]

    @property
    def gene_ids(self) -> tuple[str, ...]:
        """Ensembl ids of `genes`, "" where unknown."""
        return self._genes["gene_ids"]

    @cached_property
    def _slides(self) -> pd.DataFrame:
        said = self._connection.get("slides")
        with self._connection.reading():
            return slides_of(said["slides"])

    def slides(self) -> pd.DataFrame:
        """One row per slide: the columns of `StoreView.slides` but those that name files of the server."""
        return self._slides.copy()

    def genes_of(self, slide_id: str) -> tuple[str, ...]:
        """Genes measured on one slide, in its own order.

        Raises
        ------
        QueryError
            If there is no such slide.
        """
        said = self._connection.get("slides", slide_id, "genes")
        with self._connection.reading():
            return tuple(said["genes"])

    def rows(self) -> NDArray[np.int64]:
        """Row id of every spot, (n_spots,), ascending."""
        parts = [
            first + np.arange(n, dtype=np.int64)
            for first, n in zip(self._slides["first_spot"], self._slides["n_spots"], strict=True)
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    # ---- reading spots -----------------------------------------------------------------------

    def spots(
        self, columns: Sequence[str] | None = None, rows: ArrayLike | None = None
    ) -> pd.DataFrame:
        """Spots with their slide, position and totals: see `StoreView.spots`."""
        names = list(SPOT_COLUMNS if columns is None else columns)

        def read(part: list[int]) -> pd.DataFrame:
            said = self._connection.post("spots", rows=part, columns=names)
            with self._connection.reading():
                found, n = said["columns"], len(part)
                return pd.DataFrame({name: column(name, as_many(found[name], n)) for name in names})

        return self._frames(read, rows, _AT_ONCE)

    def row_of(self, spot_id: str) -> int:
        """Row id of a spot.

        Raises
        ------
        QueryError
            If there is no such spot; close ids are named.
        """
        said = self._connection.post("spots", spot_ids=[spot_id], columns=["spot_id"])
        with self._connection.reading():
            return int(said["rows"][0])

    def labels(self, rows: ArrayLike | None = None) -> pd.DataFrame:
        """Labels of spots, one column each; missing (None or NaN) where a spot has none."""
        return self._labels(list(self.label_names), rows)

    def label(self, name: str, rows: ArrayLike | None = None) -> pd.Series[Any]:
        """One label of spots: float with NaN where all its values are numbers, else text with None.

        Raises
        ------
        QueryError
            If no slide has such a label.
        """
        return self._labels([name], rows)[name].rename(None)

    def _labels(self, names: list[str], rows: ArrayLike | None) -> pd.DataFrame:
        def read(part: list[int]) -> pd.DataFrame:
            said = self._connection.post("labels", rows=part, names=names)
            with self._connection.reading():
                found, n = said["columns"], len(part)
                return pd.DataFrame(
                    {name: pd.Series(as_many(found[name], n), dtype=object) for name in names}
                )

        frame = self._frames(read, rows, min(_AT_ONCE, _CELLS_AT_ONCE // max(1, len(names))))
        for name in names:
            with self._connection.reading():
                numbers = to_numeric(frame[name])
            if not (numbers.isna() & frame[name].notna()).any():
                frame[name] = numbers
        return frame

    def thumbnails(self, rows: ArrayLike) -> list[bytes | None]:
        """JPEG of each row's patch; None where the slide has no image."""
        found: list[bytes | None] = []
        for part in _parts(np.asarray(rows), _PICTURES_AT_ONCE):
            said = self._connection.post("thumbnails", rows=part)
            with self._connection.reading():
                pictures = as_many(said["thumbnails"], len(part))
                found += [None if one is None else base64.b64decode(one) for one in pictures]
        return found

    def overview(self, slide_id: str) -> bytes | None:
        """JPEG of a whole slide.

        Raises
        ------
        QueryError
            If there is no such slide.
        """
        return self._connection.get_bytes("slides", slide_id, "overview")

    def expression(
        self, genes: Sequence[str], rows: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """log1p of counts per 10,000 of some genes, (m, g); NaN where not measured.

        Raises
        ------
        MissingGenesError
            If no slide measured one of the genes.
        """
        return self._expression(genes, rows, raw=False)

    def counts(self, genes: Sequence[str], rows: ArrayLike | None = None) -> NDArray[np.float32]:
        """Raw counts of some genes, (m, g); NaN where the slide did not measure the gene."""
        return self._expression(genes, rows, raw=True)

    def _expression(
        self, genes: Sequence[str], rows: ArrayLike | None, *, raw: bool
    ) -> NDArray[np.float32]:
        at = self.rows() if rows is None else np.asarray(rows)
        values = np.full((len(at), len(genes)), np.nan, np.float32)
        for left in range(0, len(genes), _GENES_AT_ONCE):
            names = list(genes[left : left + _GENES_AT_ONCE])
            top = 0
            for part in _parts(at, max(1, min(_AT_ONCE, _CELLS_AT_ONCE // len(names)))):
                said = self._connection.post("expression", genes=names, rows=part, raw=raw)
                with self._connection.reading():
                    for offset, line in enumerate(as_many(said["values"], len(part))):
                        numbers = floats(as_many(line, len(names)), np.float32)
                        values[top + offset, left : left + len(names)] = numbers
                top += len(part)
        return values

    def _frames(
        self, read: Callable[[list[int]], pd.DataFrame], rows: ArrayLike | None, most: int
    ) -> pd.DataFrame:
        at = self.rows() if rows is None else np.asarray(rows)
        frames = [read(part) for part in _parts(at, max(1, most))] or [read([])]
        return pd.concat(frames, ignore_index=True)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Say so where something is asked for that only a store on this machine can do."""
        from stamp_index.store import Store

        if not name.startswith("_") and hasattr(Store, name):
            msg = f"Store.{name} needs the store's files; this one is served at {self._connection.url}."
            raise RemoteError(msg)
        raise AttributeError(name)


def _parts(rows: NDArray[Any], most: int) -> Iterator[list[int]]:
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        msg = f"Rows must be a list of row ids; got {rows.dtype} of shape {rows.shape}."
        raise ValueError(msg)
    for first in range(0, len(rows), most):
        yield rows[first : first + most].tolist()
