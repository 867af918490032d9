"""Parquet tables, read in batches; every kind of damage becomes one SlideError."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import SlideError
from stamp_index.readers.common.declared import refuse_bomb
from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

BATCH_ROWS: Final = 1 << 20


class ParquetTable:
    """Some columns of a table.

    Use as a context manager.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str
        Columns that it must have.
    what : str
        What the file holds, for messages, such as "positions".

    Raises
    ------
    SlideError
        If it is missing, damaged, or lacks a column.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, what: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self._what = path, what
        try:
            self._file: Any = pq.ParquetFile(regular(path))
            numbers = self._file.metadata.num_rows * len(columns)
            refuse_bomb(f"its {what}", numbers * 8, path.stat().st_size)
        except (OSError, ValueError, pa.ArrowException) as exc:
            raise self._unreadable(exc) from exc
        self.names: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        missing = [name for name in columns if name not in self.names]
        if missing:
            self._file.close()
            msg = (
                f"The {what} {path} lack the columns {', '.join(missing)}; there are {', '.join(self.names)}. "
                "Give the file as the pipeline wrote it."
            )
            raise SlideError(msg)

    def __enter__(self) -> ParquetTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[ParquetBatch]:
        """Yield all rows, at most `rows` at a time, with some columns.

        Raises
        ------
        SlideError
            If the file is cut short or damaged.
        """
        import pyarrow as pa

        batches = self._file.iter_batches(batch_size=rows, columns=list(columns))
        while True:
            try:
                batch = next(batches, None)
            except (OSError, ValueError, pa.ArrowException) as exc:
                raise self._unreadable(exc) from exc
            if batch is None:
                return
            yield ParquetBatch(batch, f"{self._what} {self.path}")

    def _unreadable(self, exc: Exception) -> SlideError:
        return SlideError(
            f"The {self._what} {self.path} cannot be read as Parquet ({exc}). Copy the file again."
        )


class ParquetBatch:
    """Some rows of a table, whose columns are taken out one by one.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
    where : str
        What it was read from, for messages.
    """

    def __init__(self, batch: Any, where: str) -> None:  # noqa: ANN401 - pyarrow has no types
        self._batch, self._where = batch, where

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def numbers(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        """Return a column as numbers; missing ones are NaN where `dtype` is a float.

        Raises
        ------
        SlideError
            If it holds no numbers, numbers that `dtype` cannot hold, or gaps in a column of integers.
        """
        import pyarrow as pa

        kind = np.dtype(dtype)
        try:
            column = self._batch.column(name).cast(pa.from_numpy_dtype(kind))
        except pa.ArrowException as exc:
            raise self._wrong(name, f"numbers of type {kind}", str(exc)) from exc
        if column.null_count and kind.kind != "f":
            raise self._wrong(name, "a number in every row", f"{column.null_count} rows have none")
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=kind)

    def texts(self, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return a column as a pyarrow array of strings; bytes, categories and whole numbers are understood.

        Raises
        ------
        SlideError
            If it cannot be text, or a row has none.
        """
        import pyarrow as pa

        try:
            column = self._batch.column(name).cast(pa.string())
            column.validate(full=True)  # files may hold text that is no UTF-8
        except pa.ArrowException as exc:
            raise self._wrong(name, "text", str(exc)) from exc
        if column.null_count:
            raise self._wrong(name, "text in every row", f"{column.null_count} rows have none")
        return column

    def _wrong(self, name: str, expected: str, found: str) -> SlideError:
        return SlideError(
            f"The {self._where}: column {name} is {self._batch.column(name).type} ({found}); expected {expected}. "
            "Give the file as the pipeline wrote it."
        )
