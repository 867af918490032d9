"""Files of a published layout: found, or one sentence that says what was expected where."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from stamp_index.errors import StampIndexError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_TABLE_BYTES: Final = 256 * 2**20  # metadata of all of HEST-1k has 0.5 MB, of a DLPFC slice 1 MB


def need_folder(path: Path, what: str) -> Path:
    """Return a folder that must be there.

    Parameters
    ----------
    path : Path
    what : str
        What it holds, to end "Expected ... there".

    Raises
    ------
    EvaluationError
    """
    if not path.is_dir():
        msg = f"There is no folder {path}. Expected {what} there."
        raise EvaluationError(msg)
    return path


def need_file(path: Path, what: str) -> Path:
    """Return a file that must be there; see `need_folder`.

    Raises
    ------
    EvaluationError
    """
    if not path.is_file():
        msg = f"There is no file {path}. Expected {what} there: copy the whole folder again."
        raise EvaluationError(msg)
    return path


def below(folder: Path, name: str, listed_in: Path) -> Path:
    """Return the file that a table names, which must lie in the folder of the table's data set.

    Raises
    ------
    EvaluationError
        If the name leads out of the folder, or there is no such file.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        msg = f"{listed_in} names the file {name!r}, which is not in {folder}. Expected a path below it."
        raise EvaluationError(msg)
    return need_file(folder / parts, f"what {listed_in.name} names")


def read_table(path: Path, columns: Iterable[str] = (), **options: Any) -> pd.DataFrame:  # noqa: ANN401 - pandas' own
    """Read a table as text.

    Parameters
    ----------
    path : Path
    columns : iterable of str
        That it must have.
    **options
        Of `pandas.read_csv`.

    Raises
    ------
    EvaluationError
        If it is not there, too large, no table, or lacks a column.
    """
    need_file(path, "a table")
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            msg = f"it has more than {MAX_TABLE_BYTES // 2**20} MB"
            raise ValueError(msg)
        table: pd.DataFrame = pd.read_csv(
            regular(path), dtype=str, keep_default_na=False, **options
        )
    except (
        OSError,
        ValueError,
    ) as error:  # pandas' ParserError and UnicodeDecodeError are ValueErrors
        msg = f"The table {path} cannot be read ({error}). Copy the file again."
        raise EvaluationError(msg) from error
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        held = ", ".join(map(str, table.columns[:12]))
        msg = f"The table {path} has no column {', '.join(lacking)}; it has {held}. Copy the file again."
        raise EvaluationError(msg)
    return table


def read_json(path: Path, what: str) -> Any:  # noqa: ANN401 - whatever JSON may hold
    """Read a JSON file.

    Raises
    ------
    EvaluationError
        If it is not there, or no JSON.
    """
    need_file(path, what)
    try:
        return json.loads(regular(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path} cannot be read as JSON ({error}). Expected {what}: copy the file again."
        raise EvaluationError(msg) from error


@contextmanager
def while_reading(what: str) -> Iterator[None]:
    """Say of any error of this library what was being read.

    Raises
    ------
    EvaluationError
        In the place of another of its errors.
    """
    try:
        yield
    except StampIndexError as error:
        msg = f"{what}: {error}"
        raise EvaluationError(msg) from error
