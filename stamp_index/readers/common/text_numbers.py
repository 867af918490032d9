"""Numbers written as text, in files of strangers.

pandas' own parser ends the whole process at a number such as ``1e2147483648``, whose exponent it counts in 32 bits
(2.3.3; `read_csv`, with whatever engine, and `to_numeric`). So tables are read with `FLOATS`, and columns of text are
turned into numbers by `to_numeric` of this module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import pandas as pd

# `float_precision` of pandas.read_csv that takes Python's parser
FLOATS: Final[Literal["round_trip"]] = "round_trip"
_LONG_EXPONENT: Final = re.compile(r"[eE][+-]?\d{5}")  # no float has more than three digits


def to_numeric(values: pd.Series[Any]) -> pd.Series[Any]:
    """Turn a column into numbers, as `pandas.to_numeric` does with ``errors="coerce"``.

    Parameters
    ----------
    values : Series
        Texts, numbers, or anything else.

    Returns
    -------
    Series
        Of the same length; NaN for what is no number, exponents of five digits and more among it.
    """
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(values.dtype):
        texts = (one for one in values.unique() if isinstance(one, str))
        wrong = [one for one in texts if _LONG_EXPONENT.search(one)]
        values = values.astype(object).where(~values.isin(wrong), None) if wrong else values
    numbers: pd.Series[Any] = pd.to_numeric(values, errors="coerce")
    return numbers
