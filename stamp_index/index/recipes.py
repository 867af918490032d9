"""How an index is to be built: one frozen dataclass for each kind, read from TOML.

Sizes and costs below are for n vectors of d dimensions. `engine.estimate` says what the files will come to.
"""

from __future__ import annotations

import tomllib
from abc import ABC, abstractmethod
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from stamp_index.errors import AnnIndexError
from stamp_index.resources import bundle_root

if TYPE_CHECKING:
    from collections.abc import Mapping

PER_CENTRE: Final = 39  # training rows per centre below which FAISS calls a clustering poor
FOLDER: Final = "recipes"
_MOST_BYTES: Final = 65_536
ID_BYTES: Final = 8  # per vector in an inverted list


def _number(default: Any, least: float, most: float, *, words: str = "") -> Any:  # noqa: ANN401 - a dataclass field
    """Field whose values lie between two numbers; `words` says what None means."""
    return field(default=default, metadata={"least": least, "most": most, "words": words})


@dataclass(frozen=True, kw_only=True)
class IndexRecipe:
    """What every kind has in common.

    Attributes
    ----------
    name : str
        Name of the file without its ending; the kind by default.
    target_recall : float
        Share of the exact top 10 to be found, for queries of every modality; .99 by default. The
        settings of a search are measured after the build: the cheapest that reach this.
    n_queries : int
        Held-out queries per modality, half to choose the settings and half to report; 512. Costs an
        exact search of n rows for each.
    """

    kind: ClassVar[str] = ""

    name: str = ""
    target_recall: float = _number(0.99, 0.5, 0.9999)
    n_queries: int = _number(512, 8, 100_000)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.kind)
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(self, item))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; values that are left to a formula are left out."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
        return {"kind": self.kind, **{key: v for key, v in plain.items() if v is not None}}


@dataclass(frozen=True, kw_only=True)
class FlatRecipe(IndexRecipe):
    """Exact search: no file besides the vectors, no training, recall 1; cost grows with n.

    One core compares 12 million rows of 512 dimensions a second for one query, and five times as
    many for each of 256 queries at once.
    """

    kind: ClassVar[str] = "flat"


@dataclass(frozen=True, kw_only=True)
class HnswSq8Recipe(IndexRecipe):
    """A graph over vectors of one byte per dimension: the quickest below a few hundred thousand rows.

    Attributes
    ----------
    links : int
        Neighbours of a vector in the graph (FAISS's M), twice as many on the lowest level; 32.
        Costs ``8 * links`` bytes a vector.
    ef_construction : int
        Candidates looked at when a vector is added; 100. Building costs in proportion.
    rerank_ladder : tuple of int
        Numbers of candidates to try for the exact re-ranking, ascending.
    """

    kind: ClassVar[str] = "hnsw_sq8"

    links: int = _number(32, 4, 256)
    ef_construction: int = _number(100, 16, 2_000)
    rerank_ladder: tuple[int, ...] = (50, 100, 150, 200, 300, 400)


@dataclass(frozen=True, kw_only=True)
class IvfRecipe(IndexRecipe, ABC):
    """What the kinds of inverted lists have in common.

    Attributes
    ----------
    nlist : int, optional
        Lists; ``4 sqrt(n)`` by default, never so many that one has fewer than 39 training rows. Half
        as many train in half the time, and cost a query 1.7 times as much (200,000 rows, .99).
        Comparing a query with their centres costs nlist * d, reading a list n / nlist; the file
        holds ``4 * nlist * d`` bytes of centres.
    train_rows : int, optional
        Rows that training sees; ``max(65536, 40 nlist)`` by default, at most n. Training takes
        memory for four float32 copies of them and time in proportion to ``nlist * train_rows * d``.
    rerank_ladder : tuple of int
        Numbers of candidates to try for the exact re-ranking, ascending.
    """

    nlist: int | None = _number(None, 1, 2**20, words="4 sqrt(n)")
    train_rows: int | None = _number(None, 1_000, 2**24, words="max(65536, 40 nlist)")
    rerank_ladder: tuple[int, ...] = (50, 100, 150, 200, 300, 400, 600, 800)

    def lists_for(self, n: int) -> int:
        """Say how many lists there are over n vectors."""
        wanted = self.nlist or round(4 * n**0.5)
        sampled = min(n, self.train_rows or max(65_536, 40 * wanted))
        return max(1, min(wanted, sampled // PER_CENTRE))

    def sample_for(self, n: int) -> int:
        """Training rows out of n vectors."""
        return min(n, self.train_rows or max(65_536, 40 * self.lists_for(n)))

    @abstractmethod
    def code_bytes(self, dim: int) -> int:
        """Bytes of one vector's code."""


@dataclass(frozen=True, kw_only=True)
class IvfPqRecipe(IvfRecipe):
    """Inverted lists of product-quantised codes behind a trained rotation (OPQ): the default.

    The kind that FAISS also trains, fills and searches on GPUs.

    Attributes
    ----------
    dims_per_byte : int
        Dimensions per byte of code; 8, so 64 bytes at d = 512, and fewer dimensions per byte where
        that leaves less than 64 bytes (down to 4). The number of bytes divides d.
    opq_rounds : int
        Rounds of training of the rotation; 8. Each costs about 9 s on one core at d = 512.
    """

    kind: ClassVar[str] = "ivf_pq"

    dims_per_byte: int = _number(8, 1, 64)
    opq_rounds: int = _number(8, 1, 100)

    def code_bytes(self, dim: int) -> int:
        """FAISS's M: divides `dim`; about dim / dims_per_byte, up to dim / 4 while at most 64."""
        most = max(dim // self.dims_per_byte, min(dim // 4, 64), 1)
        return max(m for m in range(1, most + 1) if dim % m == 0)


@dataclass(frozen=True, kw_only=True)
class IvfRabitqRecipe(IvfRecipe):
    """Inverted lists of one bit per dimension behind a random rotation (RaBitQ), scanned 32 at a time.

    Quicker to build than ``ivf_pq``, as nothing is trained but the centres. Reads at least as
    quickly, but needs more candidates.
    """

    kind: ClassVar[str] = "ivf_rabitq"

    rerank_ladder: tuple[int, ...] = (50, 100, 150, 200, 300, 400, 600, 800, 1200)

    def code_bytes(self, dim: int) -> int:
        """One bit a dimension, and two float32 that correct the distance."""
        return (dim + 7) // 8 + 8


@dataclass(frozen=True, kw_only=True)
class IvfSq8Recipe(IvfRecipe):
    """Inverted lists of one byte per dimension: large, but survives data that no short code does."""

    kind: ClassVar[str] = "ivf_sq8"

    def code_bytes(self, dim: int) -> int:
        """One byte a dimension."""
        return dim


@dataclass(frozen=True, kw_only=True)
class AutoRecipe(IndexRecipe):
    """Chooses by the number of rows; takes the next of the chain where a measured target is missed.

    The graph is not in the chain: without a filter it is up to twice as quick as inverted lists at
    200,000 rows, but a filter of half the rows costs it ten times as much.

    Attributes
    ----------
    flat_below : int
        Rows below which exact search is quick enough; 20,000: 1.6 ms a query of 512 dimensions.
    chain : tuple of str
        What is tried from there on, in this order; the last reaches every target.
    """

    kind: ClassVar[str] = "auto"

    flat_below: int = _number(20_000, 0, 10**9)
    chain: tuple[str, ...] = ("ivf_pq", "ivf_sq8", "flat")

    def chain_for(self, n: int) -> tuple[IndexRecipe, ...]:
        """Recipes to try for n rows, the first first; the target goes with each."""
        names = ("flat",) if n < self.flat_below else self.chain
        return tuple(
            KINDS[name](target_recall=self.target_recall, n_queries=self.n_queries)
            for name in names
        )


KINDS: Final[dict[str, type[IndexRecipe]]] = {
    kind.kind: kind
    for kind in (FlatRecipe, HnswSq8Recipe, IvfPqRecipe, IvfRabitqRecipe, IvfSq8Recipe, AutoRecipe)
}


# ---- reading -------------------------------------------------------------------------------------


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(file.stem for file in _folder().glob("*.toml"))


def load_recipe(name_or_path: str | Path) -> IndexRecipe:
    """Read a recipe by name, or from a file.

    Parameters
    ----------
    name_or_path : str or Path
        A name such as "ivf_pq", or the path of a TOML file.

    Raises
    ------
    AnnIndexError
        If there is no such recipe, or it cannot be read.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _folder() / f"{name_or_path}.toml"
    if not path.is_file():
        msg = (
            f"There is no index recipe '{name_or_path}'. "
            f"Name one of {', '.join(names()) or 'none'}, or give the path of a .toml file."
        )
        raise AnnIndexError(msg)
    try:
        if path.stat().st_size > _MOST_BYTES:
            msg = (
                f"Index recipe {path} has {path.stat().st_size:,} bytes; a recipe has a few lines."
            )
            raise AnnIndexError(msg)
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as exc:  # of TOML, UTF-8 and numbers too long for Python
        msg = f"Index recipe {path} is not valid TOML: {exc}."
        raise AnnIndexError(msg) from exc
    return from_dict({"name": path.stem, **values})


def from_dict(values: Mapping[str, Any]) -> IndexRecipe:
    """Make the recipe that `IndexRecipe.to_dict` described.

    Raises
    ------
    AnnIndexError
        If the kind or a field is unknown, or a value is of a wrong type or out of range.
    """
    name, kind = values.get("name", ""), values.get("kind")
    recipe = KINDS.get(kind) if isinstance(kind, str) else None
    if recipe is None:
        msg = f"Index recipe '{name}' has kind {kind!r}; expected one of {', '.join(KINDS)}."
        raise AnnIndexError(msg)
    given = {key: value for key, value in values.items() if key != "kind"}
    known = [item.name for item in fields(recipe)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        msg = (
            f"Index recipe '{name}' of kind {kind} has unknown {', '.join(unknown)}; "
            f"it takes {', '.join(known)}. Correct or remove it."
        )
        raise AnnIndexError(msg)
    return recipe(**given)


def _folder() -> Path:
    return bundle_root() / "indexes" / FOLDER


def _checked(recipe: IndexRecipe, item: Field[Any]) -> Any:  # noqa: ANN401 - whatever the field holds
    """Value of one field in its own type, or a refusal that says what was expected."""
    value = getattr(recipe, item.name)
    if item.name == "name":
        expected, good = "a text", isinstance(value, str)
    elif item.name == "rerank_ladder":
        value = tuple(value) if isinstance(value, (list, tuple)) else value
        expected = "whole numbers from 10 to 100,000, ascending"
        good = isinstance(value, tuple) and bool(value) and all(map(_is_depth, value))
        good = good and list(value) == sorted(set(value))
    elif item.name == "chain":
        value = tuple(value) if isinstance(value, (list, tuple)) else value
        others = [kind for kind in KINDS if kind != "auto"]
        expected = f"kinds out of {', '.join(others)}, and flat last"
        good = isinstance(value, tuple) and value[-1:] == ("flat",) and set(value) <= set(others)
    else:
        expected, good = _in_range(value, item)
    if not good:
        msg = (
            f"Index recipe '{recipe.name}': {item.name} is {value!r}; expected {expected}. "
            f"Correct it, or leave it out for the default."
        )
        raise AnnIndexError(msg)
    return value


def _is_depth(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 10 <= value <= 100_000


def _in_range(value: object, item: Field[Any]) -> tuple[str, bool]:
    """Say what a number must be, and whether it is."""
    least, most, words = (item.metadata[key] for key in ("least", "most", "words"))
    whole = not isinstance(item.default, float)
    expected = f"a {'whole ' if whole else ''}number from {least:,} to {most:,}"
    expected += f", or nothing for {words}" if words else ""
    if value is None:
        return expected, item.default is None
    kinds = (int,) if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    return expected, number and least <= value <= most
