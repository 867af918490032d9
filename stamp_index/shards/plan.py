"""How an index was divided: which positions lie in which shard, and what their files must be.

``STORE/shards/<modality>_<encoder>/`` holds

- ``CURRENT``: name of the plan that counts and SHA-256 of its ``plan.json``; replaced in one step;
- ``p-<hex>/``: a plan, never changed once it is there: ``plan.json``, the index's card, slides and backgrounds, and a
  folder for each shard with its FAISS file, row ids and float16 vectors.

The plan before the current one stays, so that a replica of a service that serves it still can start again.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

from stamp_index.errors import AnnIndexError
from stamp_index.index.files import segment
from stamp_index.index.folder import CURRENT, read_json
from stamp_index.store.schema import vector_column

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stamp_index.index.files import Segment
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView

FORMAT: Final = 1  # of the folder; raised when an older release could not read it
PLAN: Final = "plan.json"
VECTORS: Final = "vectors.f16"
_LINE: Final = re.compile(r"(p-[0-9a-f]{12}) ([0-9a-f]{64})\n")  # what CURRENT holds
_COPY: Final = (
    "Copy the folder shards/ of the store that is served, or divide the index with `stamp-index shard STORE --shards N` "
    "and serve that."
)
_AGAIN: Final = "Divide the index again (`stamp-index shard STORE`)."


@dataclass(frozen=True)
class PartPlan:
    """One shard.

    Attributes
    ----------
    start, stop : int
        Positions of the index that lie in it.
    slides : tuple of str
        Slides that have rows there, in the order of their rows.
    files : dict of str to [int, str]
        Bytes and SHA-256 of each file of its folder.
    """

    start: int
    stop: int
    slides: tuple[str, ...]
    files: dict[str, Segment]

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class ShardPlan:
    """One division of an index.

    Attributes
    ----------
    format : int
        Version of the files.
    name : str
        Of its folder; no two plans have the same.
    store_id, store_version, fingerprint, modality : str, int, str, str
        Of the index, as its card says.
    generation : str
        Folder of the index that was divided.
    kind : str
        Of the index.
    n, dim : int
        Vectors in all shards together, and their length.
    n_lists, code_bytes : int
        Inverted lists, and bytes of a code in them; 0 for flat.
    parts : tuple of PartPlan
        The shards, in the order of their positions.
    files : dict of str to [int, str]
        Bytes and SHA-256 of the files that belong to no shard.
    """

    format: int
    name: str
    store_id: str
    store_version: int
    fingerprint: str
    modality: Modality
    generation: str
    kind: str
    n: int
    dim: int
    n_lists: int
    code_bytes: int
    parts: tuple[PartPlan, ...]
    files: dict[str, Segment]

    @property
    def facts(self) -> dict[str, str]:
        """What tells the plan from others."""
        names = ("name", "store_id", "fingerprint", "modality", "generation")
        return {name: str(getattr(self, name)) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises
        ------
        AnnIndexError
            If another release wrote it, or fields are missing or do not fit together.
        """
        if values.get("format") != FORMAT:
            msg = f"The plan of the shards has format {values.get('format')!r}; this release reads {FORMAT}. {_AGAIN}"
            raise AnnIndexError(msg)
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            msg = f"The plan of the shards lacks {', '.join(missing)}. {_AGAIN}"
            raise AnnIndexError(msg)
        try:
            parts = tuple(
                PartPlan(int(p["start"]), int(p["stop"]), tuple(p["slides"]), dict(p["files"]))
                for p in values["parts"]
            )
        except (TypeError, KeyError, ValueError) as exc:
            msg = f"The plan of the shards describes one that cannot be ({exc!r}). {_AGAIN}"
            raise AnnIndexError(msg) from exc
        edges = [0, *(part.stop for part in parts)]
        if [part.start for part in parts] != edges[:-1] or edges[-1] != values["n"]:
            msg = f"The shards do not hold each of {values['n']} rows once. {_AGAIN}"
            raise AnnIndexError(msg)
        named = {field.name: values[field.name] for field in fields(cls)}
        return cls(**(named | {"parts": parts}))


def shards_folder(store: StoreView, modality: Modality) -> Path:
    """Where the shards of an index lie: ``STORE/shards/<modality>_<encoder>``."""
    return store.path / "shards" / vector_column(store.encoder, modality)


def part_folder(plan_folder: Path, number: int) -> Path:
    """Where the files of a shard lie."""
    return plan_folder / f"shard-{number:04d}"


def has_plan(store: StoreView, modality: Modality) -> bool:
    """Whether an index of a store was divided."""
    return (shards_folder(store, modality) / CURRENT).is_file()


def current_plan(folder: Path) -> tuple[str, str]:
    """Name of the plan that counts, and SHA-256 of its file.

    Raises
    ------
    AnnIndexError
        If there is none, or ``CURRENT`` names none.
    """
    path = folder / CURRENT
    if not path.is_file():
        msg = f"There are no shards at {folder}. Divide the index with `stamp-index shard STORE --shards N`."
        raise AnnIndexError(msg)
    text = path.read_text(encoding="utf-8", errors="replace")
    match = _LINE.fullmatch(text)
    if match is None:
        msg = f"{path} holds {text[:80]!r}, which names no plan. {_AGAIN}"
        raise AnnIndexError(msg)
    return match[1], match[2]


def read_plan(folder: Path, name: str | None = None) -> ShardPlan:
    """Read a plan; by default the one that counts, whose checksum is compared.

    Parameters
    ----------
    folder : Path
        Of all plans of an index, as `shards_folder` says.
    name : str, optional
        Of an older one.

    Raises
    ------
    AnnIndexError
        If it is missing, damaged or of another release.
    """
    sha256 = None
    if name is None:
        name, sha256 = current_plan(folder)
    elif not re.fullmatch(r"p-[0-9a-f]{12}", name):  # it may come from another machine
        msg = f"{name[:80]!r} is no name of a plan of shards; expected one such as p-0123456789ab."
        raise AnnIndexError(msg)
    path = folder / name / PLAN
    if not path.is_file():
        msg = f"There is no plan of shards at {path}. {_COPY}"
        raise AnnIndexError(msg)
    try:
        values = read_json(path)
    except AnnIndexError as exc:  # its own remedy is another one
        msg = f"{path} is damaged. {_AGAIN}"
        raise AnnIndexError(msg) from exc
    if not isinstance(values, dict) or (sha256 is not None and segment(path)[1] != sha256):
        msg = f"{path} is damaged: its checksum is not that in {CURRENT}. {_AGAIN}"
        raise AnnIndexError(msg)
    plan = ShardPlan.from_dict(values)
    if plan.name != name:
        msg = f"{path} is the plan {plan.name}; expected {name}. {_AGAIN}"
        raise AnnIndexError(msg)
    return plan
