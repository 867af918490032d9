"""Reads the pickled tables that others publish, without ever running what a pickle asks for.

The one place where the project reads a pickle. Python's own unpickler is not used, not even restricted: it calls what a pickle names, hashes
whatever it builds and reserves as much memory as a pickle claims to need. `load_plain_pickle` interprets the opcodes itself (``pickletools`` splits
them) and builds plain values and arrays of numbers or text. No function that a pickle names is ever looked up.
"""

from __future__ import annotations

import math
import pickletools
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    _Step = Callable[["_Machine", Any], object]

MAX_BYTES: Final = 64 * 1024**2
MAX_OPCODES: Final = 2_000_000  # an opcode of one byte can cost a hundred bytes of memory
MAX_DEPTH: Final = 50
_MAX_INT_BITS: Final = 64

# What numpy writes (releases before and from 2.0 on) and, for bytes in protocol 2, Python itself.
_GLOBALS: Final = {
    f"{package}.{name}": meaning
    for package in ("numpy.core", "numpy._core")
    for name, meaning in (
        ("multiarray._reconstruct", "reconstruct"),
        ("multiarray.scalar", "scalar"),
        ("numeric._frombuffer", "frombuffer"),
    )
} | {"numpy.ndarray": "ndarray", "numpy.dtype": "dtype", "_codecs.encode": "encode"}
_DTYPE_KINDS: Final = "biufcSU"
_SCALARS: Final = (str, bytes, int, float, bool, type(None))


def load_plain_pickle(path: Path | str, *, max_bytes: int = MAX_BYTES) -> Any:  # noqa: ANN401
    """Read a pickle that holds plain values and arrays.

    Parameters
    ----------
    path : path
    max_bytes : int
        Largest file that is read.

    Returns
    -------
    object
        Made of dict, list, tuple, set, str, bytes, int, float, bool, None and numpy arrays of numbers or text. Arrays are
        read-only; object arrays of strings are arrays of dtype object.

    Raises
    ------
    EncoderError
        If the file is missing, too large or damaged, or asks for anything else; what it asks for is named.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            msg = f"The pickle {path} has {size} bytes; at most {max_bytes} are read. Export it as CSV."
            raise EncoderError(msg)
        data = path.read_bytes()
    except OSError as exc:
        msg = f"The pickle {path} cannot be read ({exc.strerror}). Give an existing file."
        raise EncoderError(msg) from exc
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            value = _Machine().run(data)  # pickletools warns of escapes that it does not know
        _check_tree(value)
    except _Refused as exc:
        msg = (
            f"The pickle {path} {exc}. Only lists, dicts, strings, numbers and arrays of them are read, and "
            "nothing in the file was run. Do not open it with Python's own pickle unless you trust who "
            "wrote it; export the table as CSV instead."
        )
        raise EncoderError(msg) from exc
    return value


class _Refused(Exception):
    """Says what a pickle asks for that is not read; continues 'The pickle FILE ...'."""


class _Mark:
    """Where the items of a container begin on the stack."""


@dataclass(frozen=True)
class _Named:
    """A known global: a word, not the object that it names."""

    meaning: str


@dataclass
class _Draft:
    """An array or dtype whose state follows in a BUILD."""

    meaning: str
    code: str = ""
    memo_keys: list[int] = field(default_factory=list)


_DAMAGED: Final = "is damaged: it ends early or its parts do not fit together"


class _Machine:
    """The stack machine of the pickle format, for plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}  # not a table: a large key makes that as large

    def run(self, data: bytes) -> Any:  # noqa: ANN401
        try:
            for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
                if number >= MAX_OPCODES:
                    msg = f"has more than {MAX_OPCODES} parts"
                    raise _Refused(msg)
                if opcode.name == "STOP":
                    break
                step = _STEPS.get(opcode.name)
                if step is None:
                    msg = f"holds the opcode {opcode.name}, which makes objects"
                    raise _Refused(msg)
                step(self, argument)
            (value,) = self.stack  # a leftover means that the parts do not fit
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as exc:
            raise _Refused(_DAMAGED) from exc
        return value

    def take(self, count: int) -> list[Any]:
        """Take the top `count` values; with -1, all above the last mark, and the mark."""
        at = len(self.stack) - count
        if count < 0:
            at = len(self.stack) - 1
            while at >= 0 and not isinstance(self.stack[at], _Mark):
                at -= 1
        if at < 0:
            raise _Refused(_DAMAGED)
        items = self.stack[at:]
        del self.stack[at:]
        return items[1:] if count < 0 else items

    def top(self, kind: type) -> Any:  # noqa: ANN401
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _Refused(_DAMAGED)
        return self.stack[-1]

    def name(self, dotted: str) -> None:
        meaning = _GLOBALS.get(dotted)
        if meaning is None:
            msg = f"asks for {dotted[:100]!r}"
            raise _Refused(msg)
        self.stack.append(_Named(meaning))

    def stack_global(self) -> None:
        module, name = self.take(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise _Refused(_DAMAGED)
        self.name(f"{module}.{name}")

    def reduce(self) -> None:
        named, arguments = self.take(2)
        if not (isinstance(named, _Named) and isinstance(arguments, tuple)):
            msg = "calls something that is not the name of an array's maker"
            raise _Refused(msg)
        self.stack.append(_make(named.meaning, arguments))

    def build(self) -> None:
        (state,) = self.take(1)
        draft = self.top(_Draft)
        built = _built(draft, state)
        self.stack[-1] = built
        # Memoised before its state was read; later references mean the finished array.
        self.memo.update(dict.fromkeys(draft.memo_keys, built))

    def recall(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def memoise(self, key: int) -> None:
        self.memo[key] = self.stack[-1]
        if isinstance(self.stack[-1], _Draft):
            self.stack[-1].memo_keys.append(key)


def _integer(value: Any) -> int:  # noqa: ANN401
    if int(value).bit_length() > _MAX_INT_BITS:
        msg = f"holds a whole number of more than {_MAX_INT_BITS} bits"
        raise _Refused(msg)
    return value  # type: ignore[no-any-return]  # INT is a bool in protocols 0 and 1


def _key(value: Any) -> Any:  # noqa: ANN401
    # Hashing a tuple of tuples of tuples can take for ever.
    if not isinstance(value, _SCALARS):
        msg = f"has a key or set member of type {type(value).__name__}"
        raise _Refused(msg)
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _Refused(_DAMAGED)
    return {_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


# --- arrays ---


def _make(meaning: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
    if meaning == "dtype":
        return _Draft("dtype", _dtype_code(arguments[0]))
    if meaning == "reconstruct":  # of (ndarray, (0,), b"b"), all of it replaced by BUILD
        if not (isinstance(arguments[0], _Named) and arguments[0].meaning == "ndarray"):
            msg = "makes an array of a class of its own"
            raise _Refused(msg)
        return _Draft("ndarray")
    if meaning == "scalar":
        dtype, data = arguments
        return _array(dtype, (), data, "C")[()].item()
    if meaning == "frombuffer":
        data, dtype, shape, order = arguments
        return _array(dtype, shape, data, order)
    if meaning == "encode":
        text, encoding = arguments
        if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
            raise _Refused(_DAMAGED)
        return text.encode("latin-1")
    msg = f"calls {meaning}"
    raise _Refused(msg)


def _dtype_code(code: Any) -> str:  # noqa: ANN401
    """Check a dtype's short code: a kind and a size, such as f8, or O8."""
    if not isinstance(code, str) or not code[1:].isascii() or not code[1:].isdigit():
        msg = f"holds an array of dtype {str(code)[:40]!r}"
        raise _Refused(msg)
    if code[0] not in _DTYPE_KINDS + "O" or int(code[1:]) > MAX_BYTES:
        msg = f"holds an array of dtype {code[:40]!r}"
        raise _Refused(msg)
    return code


def _built(draft: _Draft, state: Any) -> Any:  # noqa: ANN401
    if not isinstance(state, tuple):
        raise _Refused(_DAMAGED)
    if draft.meaning == "dtype":
        # (version, byte order, subarray, names, fields, item size, alignment, flags): a plain dtype of the
        # kinds above is decided by its code and byte order, except the size of text, which numpy writes twice
        order, parts = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in parts):
            msg = "holds an array of records"
            raise _Refused(msg)
        return np.dtype("O") if draft.code[0] == "O" else np.dtype(order + draft.code)
    _, shape, dtype, is_fortran, data = state
    return _array(dtype, shape, data, "F" if is_fortran else "C")


def _array(dtype: Any, shape: Any, data: Any, order: Any) -> Any:  # noqa: ANN401
    """View bytes (or a list of strings) as an array; nothing is allocated beyond what the file holds."""
    if not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise _Refused(_DAMAGED)
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise _Refused(_DAMAGED)
    if dtype.kind == "O":
        if not (isinstance(data, list) and all(isinstance(item, str) for item in data)):
            msg = "holds an object array of something other than strings"
            raise _Refused(msg)
        flat = np.empty(len(data), dtype=object)
        flat[:] = data
    else:
        if isinstance(data, str):  # protocol 2 written by Python 2
            data = data.encode("latin-1")
        if not isinstance(data, bytes) or dtype.itemsize == 0:
            raise _Refused(_DAMAGED)
        flat = np.frombuffer(data, dtype=dtype)
        if dtype.kind == "U" and flat.size and _code_points(flat).max() > sys.maxunicode:
            raise _Refused(_DAMAGED)
    if flat.size != math.prod(shape) or len(shape) > 8:
        raise _Refused(_DAMAGED)
    array = flat.reshape(shape, order=order)
    array.flags.writeable = False
    return array


def _code_points(text: NDArray[np.str_]) -> NDArray[np.uint32]:
    return text.view(np.dtype("u4").newbyteorder(text.dtype.byteorder))


def _check_tree(value: Any) -> None:  # noqa: ANN401
    """Refuse leaves that are no values, and values that contain themselves or are nested very deep."""
    done: set[int] = set()  # shared containers are walked once
    above: set[int] = set()
    todo: list[tuple[Any, bool]] = [(value, False)]
    while todo:
        node, is_finished = todo.pop()
        if is_finished:
            above.discard(id(node))
            done.add(id(node))
        elif isinstance(node, list | tuple | dict):
            if id(node) in done:
                continue
            if id(node) in above or len(above) >= MAX_DEPTH:
                msg = (
                    f"holds a list within itself, or more than {MAX_DEPTH} lists within each other"
                )
                raise _Refused(msg)
            above.add(id(node))
            todo.append((node, True))
            children = node.values() if isinstance(node, dict) else node
            todo.extend((child, False) for child in children)
        elif not isinstance(node, (*_SCALARS, set, frozenset, np.ndarray)):
            msg = "holds a name or an unfinished array in the place of a value"
            raise _Refused(msg)


# --- opcodes ---


def _wrap(count: int, make: Callable[[list[Any]], Any]) -> _Step:
    """Opcode that makes one value of the top `count` ones, or of all above the mark if it is -1."""

    def step(machine: _Machine, _: Any) -> None:  # noqa: ANN401
        machine.stack.append(make(machine.take(count)))

    return step


def _into(kind: type, count: int, put: Callable[[Any, list[Any]], object]) -> _Step:
    """Opcode that puts the top `count` values (-1: all above the mark) into the container below them."""

    def step(machine: _Machine, _: Any) -> None:  # noqa: ANN401
        items = machine.take(count)
        put(machine.top(kind), items)

    return step


def _push(change: Callable[[Any], Any]) -> _Step:
    return lambda machine, argument: machine.stack.append(change(argument))


def _each(names: str, step: _Step) -> dict[str, _Step]:
    return dict.fromkeys(names.split(), step)


def _members(items: list[Any]) -> list[Any]:
    return [_key(item) for item in items]


_STEPS: Final[dict[str, _Step]] = {
    **_each("PROTO FRAME", lambda machine, _: None),
    "MARK": lambda machine, _: machine.stack.append(_Mark()),
    "POP": lambda machine, _: machine.take(1),
    "POP_MARK": lambda machine, _: machine.take(-1),
    "NONE": _wrap(0, lambda _: None),
    "NEWTRUE": _wrap(0, lambda _: True),
    "NEWFALSE": _wrap(0, lambda _: False),
    **_each("INT BININT BININT1 BININT2 LONG LONG1 LONG4", _push(_integer)),
    **_each("FLOAT BINFLOAT", _push(float)),
    **_each("STRING BINSTRING SHORT_BINSTRING UNICODE", _push(str)),
    **_each("BINUNICODE SHORT_BINUNICODE BINUNICODE8", _push(str)),
    **_each("BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8", _push(bytes)),
    "EMPTY_LIST": _wrap(0, list),
    "EMPTY_DICT": _wrap(0, _pairs),
    "EMPTY_SET": _wrap(0, set),
    "EMPTY_TUPLE": _wrap(0, tuple),
    "LIST": _wrap(-1, list),
    "TUPLE": _wrap(-1, tuple),
    "TUPLE1": _wrap(1, tuple),
    "TUPLE2": _wrap(2, tuple),
    "TUPLE3": _wrap(3, tuple),
    "DICT": _wrap(-1, _pairs),
    "FROZENSET": _wrap(-1, lambda items: frozenset(_members(items))),
    "APPEND": _into(list, 1, list.extend),
    "APPENDS": _into(list, -1, list.extend),
    "SETITEM": _into(dict, 2, lambda target, items: target.update(_pairs(items))),
    "SETITEMS": _into(dict, -1, lambda target, items: target.update(_pairs(items))),
    "ADDITEMS": _into(set, -1, lambda target, items: target.update(_members(items))),
    **_each("GET BINGET LONG_BINGET", lambda machine, key: machine.recall(int(key))),
    **_each("PUT BINPUT LONG_BINPUT", lambda machine, key: machine.memoise(int(key))),
    "MEMOIZE": lambda machine, _: machine.memoise(len(machine.memo)),
    **_each("GLOBAL INST", lambda machine, names: machine.name(names.replace(" ", ".", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.stack_global(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
