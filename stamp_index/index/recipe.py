"""How an index is to be built, read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from stamp_index.errors import AnnIndexError
from stamp_index.resources import bundle_root

Kind = Literal["flat", "ivf_pq"]

FLAT_BELOW: Final = 200_000  # rows; below it exact search is fast enough and needs no training


@dataclass(frozen=True)
class IndexRecipe:
    """Settings of an index; ``indexes/recipes/*.toml`` explain each.

    Attributes
    ----------
    name : str
        Name of the file without its ending.
    kind : {"flat", "ivf_pq"}
        Exact search, or inverted lists with product-quantised codes and exact re-ranking.
    target_recall : float
        Share of the exact top 10 to be found for queries of both modalities.
    rerank_ladder : tuple of int
        Numbers of candidates to try for the exact re-ranking, ascending.
    n_queries : int
        Held-out queries per modality: half to choose the settings, half to report them.
    lists_factor : float
        Inverted lists per square root of the number of rows.
    train_rows : int
        Most rows that training sees.
    dims_per_byte : int
        Dimensions per byte of code, where the embedding is long.
    opq_iterations : int
        Rounds of training of the rotation before the codes.
    exact_below : int
        Filters that leave at most so many rows are answered exactly.
    """

    name: str
    kind: Kind
    target_recall: float = 0.99
    rerank_ladder: tuple[int, ...] = (50, 100, 200, 400, 800)
    n_queries: int = 512
    lists_factor: float = 4.0
    train_rows: int = 262_144
    dims_per_byte: int = 8
    opq_iterations: int = 25
    exact_below: int = 10_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "rerank_ladder", tuple(self.rerank_ladder))
        ladder = self.rerank_ladder
        checks = {
            f"kind ({' or '.join(get_args(Kind))})": self.kind in get_args(Kind),
            "target_recall (above 0, at most 1)": 0 < self.target_recall <= 1,
            "rerank_ladder (ascending, 20 or more each)": bool(ladder)
            and min(ladder) >= 20
            and list(ladder) == sorted(set(ladder)),
            "n_queries (2 or more)": self.n_queries >= 2,
            "lists_factor (above 0)": self.lists_factor > 0,
            "train_rows (100 or more)": self.train_rows >= 100,
            "dims_per_byte (1 or more)": self.dims_per_byte >= 1,
            "opq_iterations (1 or more)": self.opq_iterations >= 1,
            "exact_below (0 or more)": self.exact_below >= 0,
        }
        bad = [name for name, fine in checks.items() if not fine]
        if bad:
            msg = f"Index recipe '{self.name}' is out of range in {', '.join(bad)}."
            raise AnnIndexError(msg)

    @classmethod
    def flat(cls) -> IndexRecipe:
        """Exact search, without any file."""
        return cls(name="flat", kind="flat")

    @classmethod
    def for_rows(cls, n: int) -> IndexRecipe:
        """Choose the default for a number of rows: flat below 200,000, else ``ivf_pq``."""
        return cls.flat() if n < FLAT_BELOW else cls.load("ivf_pq")

    @classmethod
    def load(cls, name_or_path: str | Path) -> IndexRecipe:
        """Read a recipe by name, or from a file.

        Parameters
        ----------
        name_or_path : str or Path
            A name in ``indexes/recipes``, such as "ivf_pq", or the path of a TOML file.

        Raises
        ------
        AnnIndexError
            If there is no such recipe, or it cannot be read.
        """
        path = Path(name_or_path)
        folder = bundle_root() / "indexes" / "recipes"
        if path.suffix != ".toml":
            path = folder / f"{name_or_path}.toml"
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
            msg = (
                f"There is no index recipe '{name_or_path}'. "
                f"Name one of {names or 'none'}, or give the path of a .toml file."
            )
            raise AnnIndexError(msg)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            msg = f"Index recipe {path} is not valid TOML: {exc}."
            raise AnnIndexError(msg) from exc
        return cls.from_dict({"name": path.stem, **values})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rerank_ladder": list(self.rerank_ladder)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IndexRecipe:
        """Inverse of `to_dict`.

        Raises
        ------
        AnnIndexError
            If fields are unknown, of a wrong type or out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "kind" not in values:
            msg = (
                f"Index recipe '{values.get('name', '')}' has unknown fields {unknown} or no 'kind'; "
                f"expected {', '.join(sorted(known))}."
            )
            raise AnnIndexError(msg)
        try:
            return cls(**values)
        except TypeError as exc:
            msg = f"Index recipe '{values.get('name', '')}' has a value of a wrong type: {exc}."
            raise AnnIndexError(msg) from exc
