"""An index that a stranger made, with checksums that are right: what a search would read, or folding would write."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index import Index, build_index, fold_index, index_folder
from stamp_index.index.background import Background
from stamp_index.index.engine import Engine, build, read_index
from stamp_index.index.engine.files import write_index
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.files import segment
from stamp_index.index.recipes import IvfPqRecipe
from stamp_index.store import Store
from tests.engine_world import RECIPES, clustered
from tests.index_world import PQ, add, world

if TYPE_CHECKING:
    from pathlib import Path

VECTORS = clustered(700, dim=16).astype(np.float16)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    store = world(tmp_path_factory.mktemp("made"), n=400, n_slides=2)
    build_index(store, "image", PQ)
    return store.path


@pytest.fixture
def store(made, tmp_path) -> Store:
    return Store.open(shutil.copytree(made, tmp_path / "store"))


def generation(store: Store) -> Path:
    return next(index_folder(store, "image").glob("g-*"))


def sign(store: Store, **changed: object) -> None:
    """Write a card whose checksums are right, as whoever writes the files can."""
    path = generation(store) / "card.json"
    values = json.loads(path.read_text()) | changed
    for name in values["files"]:
        if (generation(store) / name).is_file() and "files" not in changed:
            values["files"][name] = [segment(generation(store) / name)]
    path.write_text(json.dumps(values))
    line = f"{generation(store).name} {segment(path)[1]}\n"
    (index_folder(store, "image") / "CURRENT").write_text(line)


# ---- the card ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../../victim", "/etc/passwd", "vectors-0123456789ab.f16/../x", "vectors-../x.f16", "index.faiss", "", "VECTORS-0123456789AB.f16"]
)  # fmt: skip
def test_a_sidecar_is_a_file_of_vectors_beside_the_card(name, store, tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(2 * 400 * 16))
    files = json.loads((generation(store) / "card.json").read_text())["files"]
    sign(store, sidecar=name, files={**files, name: [segment(victim)]})
    add(store, "N", 5, 3)
    for use in (lambda: Index.open(store, "image"), lambda: fold_index(store, "image")):
        with pytest.raises(AnnIndexError, match="names no file of vectors beside it"):
            use()
    assert victim.read_bytes() == bytes(2 * 400 * 16)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n": -1}, "its n is -1"), ({"n": 10**30}, "its n is 1000"), ({"n": 2.0}, "its n is 2.0"), ({"n": True}, "its n is True"),
        ({"dim": 0}, "of 0 dimensions"), ({"dim": 10**9}, "of 1000000000 dimensions"), ({"n": 2**60, "sidecar_bytes": 2**65}, "its sidecar_bytes is"),
        ({"sidecar_bytes": 4}, "its sidecar_bytes are 4"), ({"files": {"../../x": [[1, "a" * 64]]}}, "which is no name of a file"),
        ({"files": {"rows.npy": [[-1, "a" * 64]]}}, "a stretch of rows.npy"), ({"files": {"rows.npy": "x"}}, "says 'x' of rows.npy"),
        ({"files": []}, "its files is"), ({"calibration": []}, "its calibration is"), ({"calibration": {"choices": [{"target": "x"}]}}, "a choice is"),
        ({"calibration": {"choices": [{"target": 0.9, "breadth": 0, "n_rerank": 1}]}}, "a choice is"), ({"calibration": {}}, "no settings for its own target"),
        ({"kind": None}, "its kind is None"), ({"sidecar": 5}, "its sidecar is 5"), ({"target_recall": float("nan")}, "its target_recall is nan"),
        ({"ann_recall_at_10": {"image": "x"}}, "its ann_recall_at_10"),
    ],
)  # fmt: skip
def test_a_card_whose_values_cannot_be_is_refused(changed, said, store) -> None:
    sign(store, **changed)
    with pytest.raises(AnnIndexError, match=said):
        Index.open(store, "image")


def test_vectors_that_are_a_link_are_not_read_and_not_written(store, tmp_path) -> None:
    (vectors,) = index_folder(store, "image").glob("vectors-*")
    shutil.move(vectors, tmp_path / "elsewhere")
    vectors.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    add(store, "N", 5, 3)
    with pytest.raises(AnnIndexError, match="is a link to"):
        fold_index(store, "image")
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_a_link_where_a_file_is_written_first_is_replaced_and_not_followed(tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    index = build(VECTORS, RECIPES["ivf_sq8"], tmp_path / "work")
    (tmp_path / ".index.faiss.new").symlink_to(victim)
    write_index(index, tmp_path / "index.faiss")
    assert victim.read_text() == "kept"
    assert read_index(tmp_path / "index.faiss").ntotal == len(VECTORS)


# ---- rows and backgrounds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.array([{"a": 1}] * 400, dtype=object), id="pickle"),
        pytest.param(np.arange(400) + 10**9, id="beyond the store"),
        pytest.param(np.arange(400) - 5, id="negative"),
        pytest.param(np.arange(399), id="too few"),
        pytest.param(np.zeros(400, np.int64), id="one row"),
        pytest.param(np.arange(400.0), id="floats"),
    ],
)
def test_row_ids_that_cannot_be_are_refused(rows, store) -> None:
    np.save(generation(store) / "rows.npy", rows, allow_pickle=True)
    sign(store)
    with pytest.raises(
        AnnIndexError, match=r"rows.npy (does not hold|is missing or damaged|holds a row)"
    ):
        Index.open(store, "image")


@pytest.mark.parametrize(
    "head", ["(10**18,)", "(2**62, 2**62)", "('a',)", "(", "(400,), '\\x00': 1"]
)
def test_an_array_whose_head_lies_is_refused_before_memory_is_asked_for(head, store) -> None:
    text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {head}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(3200)
    (generation(store) / "rows.npy").write_bytes(content)
    sign(store)
    with pytest.raises(AnnIndexError, match=r"rows.npy"):
        Index.open(store, "image")


def test_a_background_that_unpacks_to_much_is_refused_before_it_is(tmp_path) -> None:
    path = tmp_path / "image_background.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("sample", "best"):
            with packed.open(f"{name}.npy", "w") as member:
                for _ in range(300):
                    member.write(bytes(1 << 20))
    assert path.stat().st_size < 2e6
    with pytest.raises(AnnIndexError, match="it unpacks to 629,145,600 bytes"):
        Background.load(path)


def test_a_background_of_other_dimensions_is_refused(store) -> None:
    Background.compute(np.ones((4, 3), np.float16)).save(generation(store) / "image_background.npz")
    sign(store)
    with pytest.raises(AnnIndexError, match="image background of the index .* has 3 dimensions"):
        Index.open(store, "image")


# ---- FAISS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("built")
    paths = {}
    for kind, recipe in RECIPES.items():
        build(VECTORS, recipe, root / kind)
        paths[kind] = root / kind / "index.faiss"
    return paths


@pytest.mark.parametrize("kind", list(RECIPES))
def test_what_is_built_is_read(kind, built) -> None:
    assert Engine(read_index(built[kind]), VECTORS).search(np.eye(2, 16, dtype=np.float32), 3)[
        1
    ].shape == (2, 3)


def test_an_index_of_more_codes_than_bytes_is_read(tmp_path) -> None:
    """FAISS counts tables that it makes for another metric against the limit: 48 x 256 numbers for each list."""
    vectors = clustered(5_000, dim=96).astype(np.float16)
    recipe = IvfPqRecipe(opq_rounds=1, nlist=100, dims_per_byte=2)
    build(vectors, recipe, tmp_path)
    path = tmp_path / "index.faiss"
    assert path.stat().st_size < 4 * 100 * 48 * 256 // 2
    engine = Engine(read_index(path), vectors)
    assert engine.search(vectors[:3].astype(np.float32), 2)[1][:, 0].tolist() == [0, 1, 2]


def test_lists_in_another_file_are_never_opened(tmp_path) -> None:
    """FAISS would map whatever file the index names, and wait for ever at a pipe."""
    faiss = load_faiss()
    index = faiss.index_factory(16, "IVF4,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(VECTORS.astype(np.float32))
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(tmp_path / "private"))
    index.replace_invlists(lists)
    index.add(VECTORS.astype(np.float32))
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    before = (tmp_path / "private").read_bytes()
    with pytest.raises(AnnIndexError, match="its lists lie in another file"):
        read_index(tmp_path / "index.faiss")
    (tmp_path / "private").unlink()  # nor is it looked for
    with pytest.raises(AnnIndexError, match="its lists lie in another file"):
        read_index(tmp_path / "index.faiss")
    assert before


def test_the_mark_of_such_lists_may_stand_in_a_file_by_chance(built, tmp_path) -> None:
    faiss = load_faiss()
    content = bytearray(built["ivf_sq8"].read_bytes())
    index = faiss.read_index(str(built["ivf_sq8"]))
    lists = index.invlists  # the index owns them
    number = max(range(lists.nlist), key=lists.list_size)
    codes = faiss.rev_swig_ptr(lists.get_codes(number), lists.list_size(number) * 16).tobytes()
    at = content.find(codes)
    content[at + 20 : at + 24] = b"ilod"
    path = tmp_path / "index.faiss"
    path.write_bytes(content)
    assert Engine(read_index(path), VECTORS).search(np.eye(2, 16, dtype=np.float32), 3)[
        1
    ].shape == (2, 3)


@pytest.mark.parametrize(
    "text",
    ["Flat", "HNSW8", "IVF4,Flat", "PQ4x4", "IDMap,Flat", "PCA8,IVF4,SQ8", "IVF4,SQfp16"],
)
def test_a_kind_that_is_never_built_is_refused(text, tmp_path) -> None:
    faiss = load_faiss()
    index = faiss.index_factory(16, text, faiss.METRIC_INNER_PRODUCT)
    index.train(VECTORS.astype(np.float32))
    if "IDMap" in text:
        index.add_with_ids(VECTORS.astype(np.float32), np.arange(700))
    else:
        index.add(VECTORS.astype(np.float32))
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    with pytest.raises(AnnIndexError, match="cannot be read"):
        read_index(tmp_path / "index.faiss")


@pytest.mark.parametrize("wrong", [10**12, -7, 700, 3], ids=["far", "negative", "next", "twice"])
def test_an_id_that_is_no_place_of_a_vector_is_refused_before_a_search_reads_there(
    wrong, built, tmp_path
) -> None:
    faiss = load_faiss()
    content = bytearray(built["ivf_sq8"].read_bytes())
    index = faiss.read_index(str(built["ivf_sq8"]))
    lists = index.invlists  # the index owns them
    number = max(range(lists.nlist), key=lists.list_size)
    ids = faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
    at = content.find(ids.tobytes())
    ids[ids != 3] = wrong if wrong != 3 else ids[-1]
    content[at : at + ids.nbytes] = ids.tobytes()
    path = tmp_path / "index.faiss"
    path.write_bytes(content)
    with pytest.raises(AnnIndexError, match="do not hold the places of its 700 vectors"):
        Engine(read_index(path), VECTORS)


@pytest.mark.parametrize("kind", list(RECIPES))
def test_any_eight_bytes_of_a_head_may_be_wrong(kind, built, tmp_path) -> None:
    """Every place of the head and the tail in turn: read and searched, or refused; limits of FAISS are put back."""
    faiss = load_faiss()
    limits = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    whole = built[kind].read_bytes()
    path = tmp_path / "index.faiss"
    queries = np.eye(2, 16, dtype=np.float32)
    n_refused = 0
    for at in (*range(0, 120, 3), *range(len(whole) - 60, len(whole), 5)):
        for value in (b"\xff" * 8, bytes(8), (2**40).to_bytes(8, "little")):
            path.write_bytes((whole[:at] + value + whole[at + 8 :])[: len(whole)])
            try:
                Engine(read_index(path), VECTORS).search(queries, 3)
            except AnnIndexError:
                n_refused += 1
    assert n_refused > 20
    assert limits == (faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit())  # fmt: skip
