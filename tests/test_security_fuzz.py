"""Malformed input to every parser, reader and opener: read, or refused with a typed error. A few of the inputs of benchmarks/fuzz.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.addresses import MAX_PX, decode_polygon, encode_polygon
from stamp_index.errors import QueryError, StampIndexError
from stamp_index.genes import parse_signature
from stamp_index.genes.gene_sets import read_gmt
from stamp_index.genes.lists import read_gene_text
from stamp_index.search.filtering.parse import parse_filter
from stamp_index.slides import safe_open
from tests.fuzz_targets import TARGETS, FileTarget, TextTarget

ROOT = Path(__file__).resolve().parent.parent
N_TEXTS, N_FILES = 40, 5
SLOW = {
    "trained checkpoint, fingerprint made right"
}  # three seconds to make; in benchmarks/fuzz.py alone


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def quick(kind):
    return [pytest.param(one, id=one.name) for one in TARGETS.values() if isinstance(one, kind) and one.name not in SLOW]  # fmt: skip


@pytest.mark.parametrize("target", [*quick(TextTarget), *quick(FileTarget)])
def test_malformed_input_is_read_or_refused_and_nothing_is_written(target, scratch) -> None:
    folder = scratch / target.name.replace(" ", "-")
    target.prepare(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about the damage
        target.run_whole(folder)  # what is spoiled was whole
        for seed in range(N_TEXTS if isinstance(target, TextTarget) else N_FILES):
            with suppress(*target.refusals):
                target.run(folder, 10_000_000 + seed)
    if isinstance(target, FileTarget):
        assert all(path.read_bytes() == content for path, content in target.held.items())


def test_another_error_a_crash_and_a_hang_are_violations(tmp_path) -> None:
    code = (
        "import os, sys, time, tests.fuzz_targets as t\n"
        "def use(text, folder):\n"
        "    if 'X' in text: raise KeyError(1)\n"
        "    if 'Y' in text: os.abort()\n"
        "    if 'Z' in text: time.sleep(60)\n"
        "t.TARGETS['bad'] = t.TextTarget('bad', use, ('XXXXXXXX', 'YYYYYYYY', 'ZZZZZZZZ'))\n"
        "from benchmarks.fuzz_parts import worker\n"
        "worker.main(*sys.argv[1:])\n"
    )
    runner = (
        "import sys\n"
        "sys.argv = ['fuzz.py']\n"
        "import benchmarks.fuzz as f\n"
        "from pathlib import Path\n"
        "f.LIMIT_S = 0.5\n"
        f"f.WORKER = ['-c', {code!r}]\n"
        f"tally = f.fuzz('bad', 0, 6, Path({str(tmp_path / 'bad')!r}))\n"
        "print('\\n'.join(tally.violations))\n"
        "print(tally.n)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", runner],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "KeyError" in done.stdout, done.stderr
    assert "process ended (-6)" in done.stdout
    assert "no answer in time" in done.stdout
    assert done.stdout.split()[-1] == "6"


# ---- found by hypothesis ---------------------------------------------------------------------------

TEXT = st.text(max_size=200)
GENE = st.from_regex(r"[A-Z][A-Z0-9-]{0,8}", fullmatch=True)


@given(st.one_of(TEXT, st.lists(GENE, max_size=5).map(", ".join)))
def test_a_signature_is_read_or_refused_and_reads_itself(text: str) -> None:
    with suppress(QueryError):
        parsed = parse_signature(text)
        assert parse_signature(str(parsed)).items == parsed.items


@given(TEXT)
def test_a_filter_is_read_or_refused_and_reads_itself(text: str) -> None:
    with suppress(QueryError):
        parsed = parse_filter(text)
        assert parsed is None or parse_filter(str(parsed)) == parsed


def test_a_cell_of_several_genes_is_told_and_no_error() -> None:
    """Found by coverage-guided fuzzing."""
    read = read_gene_text("gene,logfc\nCD8A;CD4,1\nEPCAM,-1\n")
    assert [gene for gene, _ in read.signature.items] == ["EPCAM"]
    assert "CD8A;CD4" in str(read.problems)


@given(st.binary(max_size=300))
def test_gene_sets_and_lists_are_read_or_refused(data: bytes) -> None:
    with suppress(QueryError):
        read_gmt(data)
    with suppress(QueryError):
        read_gene_text(data.decode("latin-1"))


PLACES = st.integers(-MAX_PX, MAX_PX)


@given(st.lists(st.tuples(PLACES, PLACES), min_size=3, max_size=40))
def test_an_outline_comes_back_from_its_address(corners) -> None:
    assert decode_polygon(encode_polygon(corners)).tolist() == [list(one) for one in corners]


@given(st.one_of(TEXT, st.from_regex(r"[-0-9.]{0,60}", fullmatch=True)))
def test_any_outline_in_an_address_is_read_or_refused(text: str) -> None:
    with suppress(QueryError):
        assert len(decode_polygon(text)) >= 3


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "geometry", "coordinates", "features", "properties"]), inner, max_size=4), max_leaves=20))  # fmt: skip
def test_any_json_is_annotations_or_refused(value) -> None:
    from stamp_index.export.annotations import read_annotations

    with suppress(StampIndexError):
        read_annotations(json.dumps(value).encode())


@settings(max_examples=150)
@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b""]),
    st.binary(max_size=400),
)
def test_any_upload_is_a_picture_or_refused(magic: bytes, rest: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(StampIndexError):
            assert safe_open(magic + rest).shape[2] == 3
