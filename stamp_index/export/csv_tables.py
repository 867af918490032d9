"""Tables as CSV that a spreadsheet opens without running what is in them."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV Injection"


def table_csv(table: pd.DataFrame, /, **constant_columns: str | int) -> bytes:
    r"""Write a table as CSV: UTF-8, no comments above the header, empty where a value is missing.

    A cell of text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it, as a
    spreadsheet would run it as a formula; names of columns too. Numbers are written as they are.

    Parameters
    ----------
    table : DataFrame
        Its index is not written.
    **constant_columns
        Columns behind those of the table with the same value in every row, such as the store's version.

    Raises
    ------
    ValueError
        If the table has a column of that name, or two of one name.

    Examples
    --------
    >>> table_csv(pd.DataFrame({"slide_id": ["=1+1"], "score": [-0.5]}), store_version=3)
    b"slide_id,score,store_version\r\n'=1+1,-0.5,3\r\n"
    """
    names = pd.Index([*table.columns, *constant_columns])
    if names.has_duplicates:
        msg = f"Two columns are called {names[names.duplicated()][0]!r}. Rename one of the table's."
        raise ValueError(msg)
    written = table.assign(**constant_columns)
    for name in names:
        if not pd.api.types.is_numeric_dtype(written[name]):
            written[name] = [plain_cell(value) for value in written[name]]
    written.columns = pd.Index([plain_cell(str(name)) for name in names])
    return written.to_csv(index=False, lineterminator="\r\n").encode("utf-8", errors="replace")


def plain_cell(value: Any) -> Any:  # noqa: ANN401 - whatever a table holds
    """Text that a spreadsheet reads as text; other values as they are."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
