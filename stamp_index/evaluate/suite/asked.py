"""What a suite is asked, and how its parts hand back what they found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stamp_index.evaluate.split import Split
    from stamp_index.store.view import StoreView

Part = Literal["retrieval", "expression", "protocols", "probe", "domains", "ann"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)


@dataclass(frozen=True)
class SuiteSettings:
    """What is measured.

    Attributes
    ----------
    parts : tuple of {"retrieval", "expression", "protocols", "probe", "domains", "ann"}
        All by default.
    label : str or None
        What probes and domains are about, and hits are compared by; None for the first label of the store with classes.
    genes : tuple of str
        To predict; none for lists chosen on the training spots.
    exclude : tuple of str
        Classes that are left out, such as "undetermined".
    seed : int

    Raises
    ------
    EvaluationError
        If there is no such part, a name stands twice, or the seed is no whole number from 0.
    """

    parts: tuple[Part, ...] = PARTS
    label: str | None = None
    genes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("parts", "genes", "exclude"):
            value = getattr(self, name)
            if isinstance(value, str) or len(set(value)) < len(value):
                msg = f"{name} is {value!r}; expected a tuple that names each once."
                raise EvaluationError(msg)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            msg = f"seed is {self.seed!r}; expected a whole number from 0."
            raise EvaluationError(msg)
        unknown = [name for name in self.parts if name not in PARTS]
        if unknown or not self.parts:
            msg = f"There is no part {', '.join(unknown) or 'to measure'}; a suite has {', '.join(PARTS)}."
            raise EvaluationError(msg)


@dataclass(frozen=True)
class Asked:
    """A store, its split, and what is measured of it; `raw` is the same store seen through raw features, by their name."""

    store: StoreView
    split: Split
    settings: SuiteSettings
    label: str | None  # that the store has, or None
    raw: Mapping[str, StoreView]
    told: Callable[[str, int, int], object]  # part, steps that are done, steps that there are


@dataclass
class Found:
    """What a part of a suite found.

    Attributes
    ----------
    sections : list of dict
        For the report: title, text, tables, plots.
    genes : list of dict
        Gene lists.
    paired : dict
        What two reports are compared by.
    notes : list of str
    """

    sections: list[dict[str, Any]] = field(default_factory=list)
    genes: list[dict[str, Any]] = field(default_factory=list)
    paired: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def section(
    title: str,
    text: str,
    tables: Sequence[dict[str, Any]],
    plots: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Make a section of a report."""
    return {"title": title, "text": text, "tables": list(tables), "plots": list(plots)}


def table(rows: Sequence[Mapping[Any, Any]], caption: str = "") -> dict[str, Any]:
    """Make a table of rows, with the columns in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "rows": [dict(row) for row in rows], "caption": caption}
