"""The folder of an index: what it refuses, and how readers go over to a new generation."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError, EncoderMismatchError, StoreBusyError
from stamp_index.index import (
    Index,
    build_index,
    doctor,
    fold_index,
    has_index,
    index_folder,
    read_card,
)
from stamp_index.index.files import segment
from stamp_index.index.folder import builder
from stamp_index.index.recipes import IvfPqRecipe
from stamp_index.search import Searcher
from stamp_index.store import Store
from tests.store_world import CARD, change, empty_store, made
from tests.support import random_store

DIM = 8
RECIPE = IvfPqRecipe(name="small", n_queries=40, opq_rounds=1, nlist=8, target_recall=0.8)


def unit(n, seed):
    rows = np.random.default_rng(seed).normal(size=(n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


QUERIES = unit(5, 99)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    store = random_store(tmp_path_factory.mktemp("files"), unit(600, 0), unit(600, 1))
    build_index(store, "image", RECIPE)
    return store.path


@pytest.fixture
def store(original, tmp_path):
    """A copy of a store with an index, to be damaged."""
    shutil.copytree(original, tmp_path / "store")
    return Store.open(tmp_path / "store")


def generation(store):
    return next(index_folder(store, "image").glob("g-*"))


def file_of(store, name):
    if name == "vectors":
        return next(index_folder(store, "image").glob("vectors-*.f16"))
    return generation(store) / name


def edit_card(store, **values):
    """Change a card as somebody would who makes a matching checksum."""
    path = generation(store) / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    pointer = index_folder(store, "image") / "CURRENT"
    pointer.write_text(f"{generation(store).name} {segment(path)[1]}\n")


# ---- what a folder holds -------------------------------------------------------------------------


def test_the_folder_lies_in_the_store_and_holds_one_generation(store):
    folder = index_folder(store, "image")
    assert folder == store.path / "indexes" / "image_vec"
    names = sorted(path.name.split("-")[0] for path in folder.iterdir())
    assert names == [".lock", "CURRENT", "g", "vectors"]
    card = Index.open(store, "image").card
    assert (generation(store) / "index.faiss").stat().st_size == card.bytes
    assert file_of(store, "vectors").stat().st_size == card.sidecar_bytes == 2 * 600 * DIM
    assert (generation(store) / "recall.png").stat().st_size > 10_000


def test_a_card_is_read_without_the_rest(store):
    card = Index.open(store, "image").card
    for name in ("vectors", "rows.npy", "slides.json", "index.faiss"):
        file_of(store, name).unlink()
    assert read_card(store, "image") == card
    with pytest.raises(AnnIndexError, match="no index at .*gene_vec"):
        read_card(store, "gene")
    with pytest.raises(ValueError, match="no modality 'text'"):
        read_card(store, "text")
    edit_card(store, fingerprint="abcd")
    with pytest.raises(EncoderMismatchError, match="encoder abcd; the store's is 0f0f"):
        read_card(store, "image")
    (generation(store) / "card.json").write_text("{}")
    with pytest.raises(AnnIndexError, match=r"card.json is damaged"):
        read_card(store, "image")


def test_a_second_build_replaces_the_first_and_leaves_nothing_of_it(store):
    old = generation(store)
    build_index(store, "image", RECIPE, seed=1)
    assert len(list(index_folder(store, "image").iterdir())) == 4
    assert generation(store) != old
    assert not has_index(store, "gene")


# ---- refusals ------------------------------------------------------------------------------------


def test_a_store_without_an_index_says_how_to_build_one(store):
    with pytest.raises(AnnIndexError, match="no index at .*gene_vec. Build one with `stamp-index"):
        Index.open(store, "gene")
    with pytest.raises(ValueError, match="no modality 'text'; expected image or gene"):
        Index.open(store, "text")


@pytest.mark.parametrize("name", ["vectors", "rows.npy", "slides.json", "index.faiss"])
def test_flipped_cut_and_missing_files_are_refused(store, name):
    path = file_of(store, name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(AnnIndexError, match=f"{path.name} is damaged: its checksum"):
        Index.open(store, "image")
    with pytest.raises(AnnIndexError, match="is damaged"):
        Searcher.open(store.path, encoder=_Encoder())
    path.write_bytes(content[:-5])
    with pytest.raises(AnnIndexError, match=f"has {len(content) - 5} bytes; .*{len(content)}"):
        Index.open(store, "image")
    path.unlink()
    with pytest.raises(AnnIndexError, match=f"lacks {path.name}"):
        Index.open(store, "image")
    build_index(store, "image", RECIPE)  # a damaged index stands in the way of nothing
    assert Index.open(store, "image").search(QUERIES, 3)[1].shape == (5, 3)


class _Encoder:
    fingerprint, name, dim = CARD.fingerprint, "vec", DIM


def test_a_card_that_was_changed_is_refused(store):
    path = generation(store) / "card.json"
    good = path.read_text()
    path.write_text(good.replace('"target_recall": 0.8', '"target_recall": 0.1', 1))
    with pytest.raises(
        AnnIndexError, match=r"card.json is damaged: its checksum is not that in CURR"
    ):
        Index.open(store, "image")
    path.unlink()
    with pytest.raises(AnnIndexError, match=r"card.json is missing or damaged"):
        Index.open(store, "image")


@pytest.mark.parametrize(
    "text", ["", "g-0", "../../x " + "0" * 64, "g-" + "a" * 12 + " " + "0" * 63]
)
def test_a_pointer_that_names_no_generation_is_refused(store, text):
    (index_folder(store, "image") / "CURRENT").write_text(text)
    with pytest.raises(AnnIndexError, match="names no generation. Build the index again"):
        Index.open(store, "image")
    build_index(store, "image", RECIPE)
    Index.open(store, "image")


def test_cards_of_another_store_encoder_and_release_are_refused(store):
    for values, error, words in (
        ({"store_id": "other"}, AnnIndexError, "store other; this store is"),
        ({"modality": "gene"}, AnnIndexError, "made from gene embeddings"),
        ({"fingerprint": "abcd"}, EncoderMismatchError, "encoder abcd; the store's is 0f0f"),
        ({"format": 7}, AnnIndexError, "format 7; this release reads 3"),
        ({"files": {}}, AnnIndexError, "does not list its files"),
    ):
        good = (generation(store) / "card.json").read_text()
        edit_card(store, **values)
        with pytest.raises(error, match=words):
            Index.open(store, "image")
        edit_card(store, **json.loads(good))
    Index.open(store, "image")
    (generation(store) / "card.json").write_text("[]")
    edit = segment(generation(store) / "card.json")[1]
    (index_folder(store, "image") / "CURRENT").write_text(f"{generation(store).name} {edit}\n")
    with pytest.raises(AnnIndexError, match="is not a JSON object"):
        Index.open(store, "image")


def put_back(folder):
    """A store whose tables somebody put back to an older copy, beside the index of S1 and S2."""
    store = empty_store(folder)
    change(store, ("add", "S1", 1))
    shutil.copytree(store.path, folder / "copy")
    change(store, ("add", "S2", 2))
    build_index(store, "image")
    shutil.copytree(store.path / "indexes", folder / "copy" / "indexes")
    return Store.open(folder / "copy")


def test_the_same_row_ids_with_other_slides_are_refused(tmp_path):
    other = put_back(tmp_path)
    Index.open(other, "image")  # one slide less is a deletion
    other.add(made("S9", 9))
    with pytest.raises(
        AnnIndexError,
        match=r"slide 'S9', added .*, in the store .* 'S2', added .* the store was put",
    ):
        Index.open(other, "image")
    build_index(other, "image")
    rows = Index.open(other, "image").search(QUERIES, 100)[1]
    assert rows.shape[1] == other.n_spots


def test_the_same_slide_added_twice_is_not_taken_for_one(tmp_path):
    other = put_back(tmp_path)
    rows = made("S2", 2)
    other.add(replace(rows, image=-rows.image))  # the same picture and counts, other vectors
    with pytest.raises(AnnIndexError, match=r"slide 'S2', added .* slide 'S2', added .* put back"):
        Index.open(other, "image")


# ---- two at once ---------------------------------------------------------------------------------


def test_a_reader_goes_over_to_the_new_generation_when_asked(store):
    reader = Index.open(Store.open(store.path), "image")
    before = reader.search(QUERIES, 5)
    build_index(store, "image", RECIPE, seed=3)
    for one, other in zip(before, reader.search(QUERIES, 5), strict=True):
        np.testing.assert_array_equal(one, other)  # its files are gone; it has them open
    reader.refresh()
    assert reader.card.seed == 3
    assert reader.search(QUERIES, 5)[1].shape == (5, 5)


def test_two_builders_at_once_are_refused(store):
    with builder(index_folder(store, "image")):
        with pytest.raises(StoreBusyError, match="index at .* is being written by process"):
            build_index(store, "image", RECIPE)
        with pytest.raises(StoreBusyError, match="is being written by process"):
            fold_index(store, "image")
    build_index(store, "image", RECIPE)


# ---- doctor --------------------------------------------------------------------------------------


def test_the_doctor_finds_damage_whatever_was_noted_before(original, tmp_path):
    store = Store.open(shutil.copytree(original, tmp_path / "store"))
    assert doctor.examine(store.path) == []
    path = file_of(store, "vectors")
    content = bytearray(path.read_bytes())
    content[40] ^= 4
    path.write_bytes(content)
    (finding,) = doctor.examine(store.path)
    assert finding.kind == "damage"
    assert "checksum" in finding.text
    assert doctor.mend(store.path) == []  # a build mends it
    build_index(store, "image", RECIPE)
    assert doctor.examine(store.path) == []


def test_the_doctor_removes_what_nobody_needs(store):
    folder = index_folder(store, "image")
    for name in ("building", "folding", "g-aaaaaaaaaaaa"):
        (folder / name).mkdir()
    (folder / "vectors-aaaaaaaaaaaa.f16").write_bytes(b"half")
    (folder.parent / "image_gone").mkdir()
    findings = doctor.examine(store.path)
    assert [finding.kind for finding in findings] == ["leftover"] * 5
    assert any("build again to go on" in finding.text for finding in findings)
    assert len(doctor.mend(store.path)) == 5
    assert doctor.examine(store.path) == []
    assert Index.open(store, "image").search(QUERIES, 3)[1].shape == (5, 3)


def test_the_doctor_leaves_what_links_lead_to_and_what_somebody_builds(store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    indexes, folder = store.path / "indexes", index_folder(store, "image")
    links = [indexes / "to_a_folder", indexes / "to_nothing", folder / "building", folder / "g-0"]
    for link in links:
        dangles = link.name in ("to_nothing", "building")
        link.symlink_to(tmp_path / "nothing" if dangles else elsewhere)
    (indexes / "note.txt").write_text("a file")
    busy = indexes / "image_new"
    with builder(busy):  # an encoder of which the store as it was opened knows nothing
        texts = [finding.text for finding in doctor.examine(store.path)]
        assert len(texts) == 6
        assert sum("busy. The index at" in text and "image_new" in text for text in texts) == 1
        done = doctor.mend(store.path)
        assert len(done) == 6
        assert any(
            "image_new stays" in text and "is being written by process" in text for text in done
        )
        assert busy.is_dir()
    assert (elsewhere / "kept").read_text() == "kept"
    assert not any(link.is_symlink() for link in links)
    assert doctor.mend(store.path) == [f"Removed {busy}."]
    assert doctor.examine(store.path) == []
    assert not busy.exists()
    Index.open(store, "image")


def test_a_noted_file_is_not_read_again_until_it_changes(store, monkeypatch):
    doctor.mend(store.path)  # notes stamps of the copy
    from stamp_index.index import files

    monkeypatch.setattr(files.hashlib, "sha256", None)  # taking a checksum would fail
    with pytest.raises(TypeError):
        Index.open(store, "image")  # that of the card is always taken
    monkeypatch.undo()
    taken = []
    real = files.hashlib.sha256
    monkeypatch.setattr(files.hashlib, "sha256", lambda *a: taken.append(1) or real(*a))
    Index.open(store, "image")
    assert len(taken) == 1
    file_of(store, "rows.npy").touch()
    Index.open(store, "image")
    assert len(taken) == 3
