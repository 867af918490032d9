"""What is asked of shards and what they answer, also as bytes.

A message is a safetensors file: a JSON object of plain values in the array ``facts``, and arrays. Nothing in it is
run, and it says the length of everything before anything is made of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MOST_BYTES: Final = 64 * 2**20  # of a question: a filter of 500 million scattered rows
MOST_QUERIES: Final = 4_096
MOST_HITS: Final = 2**22  # of all queries of a question together: 48 MB
MOST_POSITIONS: Final = 2**20  # whose cosines are asked for at once
MOST_REPLY_BYTES: Final = 13 * MOST_HITS + 2**20
_FACTS: Final = "facts"
_FILTER: Final = "filter."
_KINDS: Final = ("search", "cosines")
_WHOLE: Final = 2**62  # numbers in facts are below


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of all shards of a plan.

    Attributes
    ----------
    plan : str
        Its name; shards of another refuse.
    kind : {"search", "cosines"}
        Best rows of several queries, or cosines of some positions with one.
    queries : ndarray of shape (q, d), float32
        Unit vectors.
    k : int
        Hits per query, of a search.
    exactly : bool
        Whether every allowed row is compared.
    breadth, n_rerank : int
        Lists to look into, and candidates to score again: what the undivided index would take.
    n_allowed : int
        Rows that may be found in all shards.
    in_pieces : bool
        Whether they lie such that the undivided index could compare them one by one.
    filters : dict of int to ndarray
        Rows that may be found in some shards, by number, as `packed` makes them; all rows of those not named.
    positions : ndarray of shape (m,), int64
        Of the undivided index, whose cosines are asked for.
    skip : tuple of int
        Shards that are not asked, as they did not answer a moment ago.
    """

    plan: str
    kind: Literal["search", "cosines"]
    queries: NDArray[np.float32]
    k: int = 0
    exactly: bool = False
    breadth: int = 1
    n_rerank: int = 1
    n_allowed: int = 0
    in_pieces: bool = False
    filters: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    positions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    skip: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Reply:
    """What the shards that answered found.

    Attributes
    ----------
    scores : ndarray of shape (q, k'), float32
        Best first; of cosines (1, m), NaN where their shard did not answer.
    positions : ndarray of shape (q, k'), int64
        Of the undivided index, equal scores by ascending position; of cosines (1, 0).
    silent : tuple of int
        Shards that were asked and did not answer.
    """

    scores: NDArray[np.float32]
    positions: NDArray[np.int64]
    silent: tuple[int, ...]


# ---- filters -------------------------------------------------------------------------------------


def packed(mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Rows of a shard that may be found, as short as can be.

    Returns
    -------
    ndarray
        Of whole slides and the like: their stretches, (r, 2), int64, start and stop. Otherwise a bit a row, uint8.
    """
    edges = np.flatnonzero(np.diff(mask.view(np.int8), prepend=0, append=0))
    if edges.nbytes <= len(mask) // 8:
        return edges.astype(np.int64).reshape(-1, 2)
    return np.packbits(mask, bitorder="little")


def unpacked(values: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Inverse of `packed` for a shard of `n` rows.

    Raises
    ------
    QueryError
        If it is no filter of so many rows.
    """
    if values.dtype == np.uint8 and values.shape == (-(-n // 8),):
        return np.unpackbits(values, count=n, bitorder="little").view(np.bool_)
    edges = values.reshape(-1) if values.dtype == np.int64 else np.empty(0, np.int64)
    if values.dtype != np.int64 or values.shape != (len(edges) // 2, 2):
        msg = f"A filter is {values.dtype} of shape {values.shape}; expected the bits or stretches of {n} rows."
        raise QueryError(msg)
    if len(edges) and (edges[0] < 0 or edges[-1] > n or (np.diff(edges) <= 0).any()):
        msg = f"The stretches of a filter do not ascend within {n} rows."
        raise QueryError(msg)
    steps = np.zeros(n + 1, np.int8)
    steps[edges[::2]], steps[edges[1::2]] = 1, -1
    return np.cumsum(steps[:n], dtype=np.int8).view(np.bool_)


# ---- bytes ---------------------------------------------------------------------------------------


def encode_question(question: Question) -> bytes:
    """Write a question."""
    names = ("plan", "kind", "k", "exactly", "breadth", "n_rerank", "n_allowed", "in_pieces")
    facts = {name: getattr(question, name) for name in names} | {"skip": list(question.skip)}
    arrays: dict[str, NDArray[Any]] = {"queries": question.queries, "positions": question.positions}
    arrays |= {f"{_FILTER}{number}": values for number, values in question.filters.items()}
    return _encode(facts, arrays)


def decode_question(body: bytes) -> Question:
    """Read a question that came from anywhere.

    Raises
    ------
    QueryError
        If it is none, or larger than this module allows. Whether it fits the plan is not known here.
    """
    facts, arrays = _decode(body, MOST_BYTES)
    question = Question(
        plan=_fact(facts, "plan", str),
        kind=_fact(facts, "kind", str),
        queries=_array(arrays, "queries", np.float32, 2),
        exactly=_fact(facts, "exactly", bool),
        in_pieces=_fact(facts, "in_pieces", bool),
        positions=_array(arrays, "positions", np.int64, 1),
        skip=tuple(_numbers(facts.pop("skip", None))),
        **{name: _number(facts, name) for name in ("k", "breadth", "n_rerank", "n_allowed")},
        filters=_filters(arrays),
    )
    unknown = [*facts, *arrays]
    if unknown:
        msg = f"A question holds {', '.join(sorted(unknown))[:200]}, which no question has."
        raise QueryError(msg)
    _check(question)
    return question


def encode_reply(reply: Reply) -> bytes:
    """Write a reply."""
    arrays: dict[str, NDArray[Any]] = {"scores": reply.scores, "positions": reply.positions}
    return _encode({"silent": list(reply.silent)}, arrays)


def decode_reply(body: bytes) -> Reply:
    """Read a reply.

    Raises
    ------
    QueryError
        If it is none.
    """
    facts, arrays = _decode(body, MOST_REPLY_BYTES)
    return Reply(
        scores=_array(arrays, "scores", np.float32, 2),
        positions=_array(arrays, "positions", np.int64, 2),
        silent=tuple(_numbers(facts.pop("silent", None))),
    )


def _encode(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    return save({_FACTS: text, **whole})


def _decode(body: bytes, most: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if len(body) > most:
        msg = f"A message has {len(body):,} bytes; at most {most:,} are read."
        raise QueryError(msg)
    try:
        arrays = load(bytes(body))
        facts = json.loads(arrays.pop(_FACTS).tobytes())
    # Of a type that NumPy lacks there is a KeyError too; RecursionError of brackets without end.
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as exc:
        msg = f"A message cannot be read ({str(exc)[:200]}); expected one of stamp-index's shards."
        raise QueryError(msg) from exc
    if not isinstance(facts, dict):
        msg = f"The facts of a message are {type(facts).__name__}; expected an object."
        raise QueryError(msg)
    return facts, arrays


# ---- checks --------------------------------------------------------------------------------------


def _fact(facts: dict[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401 - of that type
    value = facts.pop(name, None)
    if type(value) is not kind:
        msg = f"'{name}' of a message is {str(value)[:80]!r}; expected {kind.__name__}."
        raise QueryError(msg)
    return value


def _number(facts: dict[str, Any], name: str) -> int:
    value: int = _fact(facts, name, int)
    if not 0 <= value < _WHOLE:
        msg = f"'{name}' of a message is {value}; expected a number from 0 to {_WHOLE - 1}."
        raise QueryError(msg)
    return value


def _numbers(values: Any) -> list[int]:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(values, list) or not all(type(v) is int and 0 <= v < _WHOLE for v in values):
        msg = f"A message names the shards {str(values)[:80]!r}; expected a list of numbers."
        raise QueryError(msg)
    return values


def _array(arrays: dict[str, NDArray[Any]], name: str, dtype: type, n_axes: int) -> NDArray[Any]:
    values = arrays.pop(name, None)
    if values is None or values.dtype != dtype or values.ndim != n_axes:
        held = "missing" if values is None else f"{values.dtype} of shape {values.shape}"
        msg = f"'{name}' of a message is {held}; expected {np.dtype(dtype)} of {n_axes} axes."
        raise QueryError(msg)
    return values


def _filters(arrays: dict[str, NDArray[Any]]) -> dict[int, NDArray[Any]]:
    names = [name for name in arrays if name.startswith(_FILTER)]
    numbers = {name: name.removeprefix(_FILTER) for name in names}
    if not all(
        number.isascii() and number.isdigit() and len(number) < 9 for number in numbers.values()
    ):
        msg = f"A filter of a message is for the shard {str(sorted(numbers.values()))[:80]}; expected a number."
        raise QueryError(msg)
    return {int(number): arrays.pop(name) for name, number in numbers.items()}


def _check(question: Question) -> None:
    n_queries, m = len(question.queries), len(question.positions)
    if question.kind not in _KINDS:
        msg = f"The shards were asked for {question.kind[:80]!r}; expected {' or '.join(_KINDS)}."
        raise QueryError(msg)
    if question.kind == "search" and (
        question.k < 1 or question.breadth < 1 or question.n_rerank < 1
    ):
        msg = f"k, breadth and n_rerank are {question.k}, {question.breadth}, {question.n_rerank}; expected 1 or more."
        raise QueryError(msg)
    if n_queries > MOST_QUERIES or n_queries * max(question.k, 1) > MOST_HITS or m > MOST_POSITIONS:
        msg = (
            f"{n_queries:,} queries for {question.k:,} hits each and {m:,} positions were asked for at once; expected "
            f"at most {MOST_QUERIES:,} queries, {MOST_HITS:,} hits of all together and {MOST_POSITIONS:,} positions."
        )
        raise QueryError(msg)
    if question.kind == "cosines" and n_queries != 1:
        msg = f"Cosines are of one query; got {n_queries}."
        raise QueryError(msg)
    if not np.isfinite(question.queries).all():
        msg = "The queries of a message hold NaN or infinite values."
        raise QueryError(msg)
