"""The restricted unpickler: plain tables come through, everything else is refused and nothing runs."""

from __future__ import annotations

import builtins
import collections
import copyreg
import functools
import io
import operator
import os
import pickle
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stamp_index.errors import EncoderError
from stamp_index.genes.safe_pickle import MAX_BYTES, load_plain_pickle

_EVENTS: list[str] = []
_WATCHED = ("exec", "compile", "import", "os.", "subprocess.", "pickle.", "socket.", "ctypes.")
_watching = False


def _hook(event, arguments):
    if _watching and event.startswith(_WATCHED):
        _EVENTS.append(f"{event} {arguments}"[:200])


"".encode("raw_unicode_escape")  # pickletools' codec is imported on first use
sys.addaudithook(_hook)  # cannot be removed again, hence the switch


@pytest.fixture
def read(tmp_path):
    """Load bytes as a pickle while an audit hook looks for anything that runs."""
    path = tmp_path / "table.pkl"

    def load(data, **options):
        global _watching
        path.write_bytes(data)
        _EVENTS.clear()
        _watching = True
        try:
            return load_plain_pickle(path, **options)
        finally:
            _watching = False
            assert _EVENTS == []

    return load


class Payload:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


PLAIN = {"a": [1, 2.5, None, True, (1, (2, 3)), -7, 2**63, "gène"], 5: {"deep": [[]]}, None: ()}
ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array(["a", "bcd"]),
    np.array([b"a", b"bcd"]),
    np.array(["CD8A", "EPCAM"], dtype=object),
    np.array([[True, False]]),
    np.array(3.0),
    np.zeros(3, ">f4"),
    np.array([1 + 2j]),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_through_every_protocol(read, protocol):
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_through_every_protocol(read, array, protocol):
    got = read(pickle.dumps({"x": array, "again": [array]}, protocol))
    for copy in (got["x"], got["again"][0]):
        assert type(copy) is np.ndarray
        assert copy.dtype == array.dtype
        assert copy.shape == array.shape
        np.testing.assert_array_equal(copy, array)
        assert not copy.flags.writeable


def test_numpy_scalars_bytes_and_sets_come_through(read):
    value = [np.float64(2.5), np.int32(4), b"x", {"a", "b"}, frozenset({1})]
    assert read(pickle.dumps(value, 4)) == value


def test_the_names_of_older_numpy_mean_the_same(read):
    new = pickle.dumps(np.arange(3.0), 2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert new != old
    np.testing.assert_array_equal(read(old), np.arange(3.0))


def _evil(tmp_path):
    sentinel = str(tmp_path / "ran")
    touch = f"open({sentinel!r}, 'w').close()"
    return {
        "os.system": Payload(os.system, f"touch {sentinel}"),
        "eval": Payload(eval, touch),
        "exec": Payload(exec, touch),
        "getattr": Payload(builtins.getattr, os, "system"),
        "partial": functools.partial(os.system, f"touch {sentinel}"),
        "methodcaller": operator.methodcaller("system", "ls"),
        "ordered_dict": collections.OrderedDict(a=1),
        "bytesio": io.BytesIO(b"x"),
        "in_a_list": [1, {"k": Payload(os.system, f"touch {sentinel}")}],
        "object_array": np.array([Payload(os.system, f"touch {sentinel}")], dtype=object),
        "record_array": np.zeros(2, dtype=[("a", "f8"), ("b", "O")]),
        "load": Payload(np.load, sentinel),
        "memmap": Payload(np.memmap, sentinel),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", list(_evil(__import__("pathlib").Path())))
def test_objects_and_calls_are_refused_and_do_not_run(read, tmp_path, name, protocol):
    if name == "getattr":  # a module itself cannot be pickled
        data = b"cbuiltins\ngetattr\n(S'os'\nS'system'\ntR."
    else:
        data = pickle.dumps(_evil(tmp_path)[name], protocol)
    with pytest.raises(EncoderError, match=r"Only lists, dicts, strings"):
        read(data)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "os.system"),
        (
            b"\x80\x04\x8c\x16numpy._core.multiarray\x8c\x1c_reconstruct.__globals__.get\x93.",
            "_reconstruct.__globals__.get",
        ),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "ndarray.__class__"),
        (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
        (b"cnumpy\nndarray subclass\n.", "ndarray subclass"),
    ],
)
def test_the_refusal_names_the_global(read, data, named):
    with pytest.raises(EncoderError, match=named.replace(".", r"\.")):
        read(data)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"Psomething\n.", "PERSID"),
        (b"\x80\x02U\x01xQ.", "BINPERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"(cnumpy\nndarray\no.", "OBJ"),
    ],
)
def test_opcodes_that_make_objects_are_refused_by_name(read, data, word):
    with pytest.raises(EncoderError, match=word):
        read(data)


def test_a_registered_extension_is_not_looked_up(read):
    copyreg.add_extension("os", "system", 77)
    try:
        with pytest.raises(EncoderError, match="EXT1"):
            read(b"\x80\x02\x82\x4dU\x04trueR.")
    finally:
        copyreg.remove_extension("os", "system", 77)


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nndarray\n.",  # a name as the result
        b"(cnumpy\nndarray\nl.",
        b"(S'k'\ncnumpy\ndtype\nd.",
        b"cnumpy\nndarray\n((I1000000000\nttR.",  # ndarray((10**9,))
        b"cnumpy\nndarray\n(S'__doc__'\nS'x'\ndb.",  # sets an attribute of a class
        b"(lS'x'\nb.",  # BUILD on a list
        b"(lS'x'\nR.",  # calls a list
        b"]\x94h\x00a.",  # the list holds itself: see below for the longer way round
        b"\x80\x04]\x94]\x94h\x00ah\x00h\x01a0h\x00.",
        b"(I1\nd.",
        b"h\x05.",
        b"0.",
        b"a.",
        b"",
        b".",
        b"I1\nI2\n.",
        b"not a pickle",
        pickle.dumps(PLAIN)[:-20],
    ],
)
def test_streams_that_do_not_fit_together_are_refused(read, data):
    with pytest.raises(EncoderError, match=r"table\.pkl"):
        read(data)


def _tower(levels):
    """A tuple of two of a tuple of two of ...: small to write, endless to hash or to copy."""
    return b"\x80\x02)q\x00" + b"".join(
        b"0h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(levels)
    )


def test_shared_parts_take_no_time(read):
    started = time.perf_counter()
    got = read(_tower(45) + b".")
    assert got[0] is got[1]
    with pytest.raises(EncoderError, match="key or set member of type tuple"):
        read(b"\x80\x02}" + _tower(45)[2:] + b"K\x01s.")
    with pytest.raises(EncoderError, match="lists within each other"):
        read(_tower(60) + b".")
    assert time.perf_counter() - started < 2


def test_claims_of_size_reserve_no_memory(read):
    bombs = [
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # memo key 2**31 - 1: harmless here
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",  # BINBYTES8
        b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",  # BINUNICODE8
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".",  # FRAME
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",  # LONG4
        pickle.dumps(np.zeros(3))[:-20].replace(b"K\x03", b"J\xff\xff\xff\x7f"),
        pickle.dumps([np.arange(4, dtype="u1")], 2).replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"),
    ]
    tracemalloc.start()
    for number, bomb in enumerate(bombs):
        if number == 0:
            assert read(bomb) == 1
            continue
        with pytest.raises(EncoderError):
            read(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_large_files_long_streams_and_large_numbers_are_refused(read, tmp_path, monkeypatch):
    sparse = tmp_path / "large.pkl"
    with sparse.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(EncoderError, match="bytes; at most"):
        load_plain_pickle(sparse)
    with pytest.raises(EncoderError, match="at most 3 are read"):
        read(b"N0N.", max_bytes=3)
    monkeypatch.setattr("stamp_index.genes.safe_pickle.MAX_OPCODES", 1_000)
    with pytest.raises(EncoderError, match="more than 1000 parts"):
        read(b"(" + b"}" * 1_000 + b"l.")
    with pytest.raises(EncoderError, match="64 bits"):
        read(pickle.dumps(2**64))
    with pytest.raises(EncoderError, match="cannot be read"):
        load_plain_pickle(tmp_path / "none.pkl")


def test_text_that_is_no_unicode_is_refused(read):
    data = pickle.dumps(np.array(["ab"]), 2).replace(b"b\x00\x00\x00", b"b\x00\xff\xff")
    with pytest.raises(EncoderError, match="damaged"):
        read(data)


_leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.binary(max_size=9)
)
_values = st.recursive(
    _leaves | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(_leaves, inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(max_examples=60)
@given(value=_values, protocol=st.integers(3, 5))
def test_any_plain_value_is_what_pickle_reads(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "value.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert load_plain_pickle(path) == value


_SEEDS = [
    *(pickle.dumps(PLAIN, protocol) for protocol in (0, 2, 5)),
    *(pickle.dumps(ARRAYS[0], protocol) for protocol in (0, 2, 5)),
    pickle.dumps(ARRAYS[4], 2),
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
]


@settings(max_examples=300)
@example(seed=_SEEDS[0], at=1, cut=1, new=b"\\", noise=b"").via("warned of an escape")
@given(
    seed=st.sampled_from(_SEEDS),
    at=st.integers(0, 400),
    cut=st.integers(0, 8),
    new=st.binary(max_size=8),
    noise=st.binary(max_size=60),
)
def test_damaged_streams_give_plain_values_or_one_error_and_run_nothing(
    tmp_path_factory, seed, at, cut, new, noise
):
    global _watching
    path = tmp_path_factory.getbasetemp() / "fuzz.pkl"
    at = min(at, len(seed))
    for data in (seed[:at] + new + seed[at + cut :], noise, noise + seed):
        path.write_bytes(data)
        _EVENTS.clear()
        _watching = True
        try:
            value = load_plain_pickle(path)
        except EncoderError:
            continue
        finally:
            _watching = False
            assert _EVENTS == []
        _assert_plain(value)


def _assert_plain(value):
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _assert_plain(item)
        return
    assert value is None or type(value) in (str, bytes, int, float, bool, np.ndarray)
