"""What a crash leaves in a store is found and mended; what is damaged is told and not touched."""

import os
import shutil
import signal

import pytest
from click.testing import CliRunner

from stamp_index.cli import main
from stamp_index.errors import StoreError
from stamp_index.store import Store
from stamp_index.store.doctor import examine, mend
from stamp_index.store.drafts import draft_of
from tests.support import toy_rows, toy_slide, toy_store
from tests.test_store_crash import KILLED, child, finish


@pytest.fixture
def store(tmp_path):
    return toy_store(tmp_path, n_slides=2, n_spots=10)


def kinds(path):
    return [(finding.kind, finding.text) for finding in examine(path)]


def test_a_whole_store_has_nothing_to_mend(store):
    assert examine(store.path) == []
    assert mend(store.path) == []
    assert store.refresh() == 3


def test_what_a_killed_writer_left_is_found_and_mended(store):
    status, errors = finish(child(KILLED, store.path, 2))
    assert status == -signal.SIGKILL, errors
    draft = draft_of(store.path)
    draft.mkdir()
    copy = store.path / "encoders" / "of_nobody"  # copied, and killed before the encoder was added
    copy.mkdir(parents=True)
    mine = [store.path.with_name(f".{store.path.name}.{name}") for name in ("bak", "0123")]
    for folder in mine:  # of somebody else
        folder.mkdir()
    found = kinds(store.path)
    assert {kind for kind, _ in found} == {"leftover"}
    told = " ".join(text for _, text in found)
    assert str(draft) in told
    assert "Table 'spots' has versions" in told
    assert "Table 'slides'" not in told
    files = sum(len(files) for _, _, files in os.walk(store.path))
    assert [text.split()[0] for text in mend(store.path)] == ["Removed", "Removed", "Took"]
    assert not draft.exists()
    assert not copy.exists()
    assert all(folder.is_dir() for folder in mine)
    assert sum(len(files) for _, _, files in os.walk(store.path / "spots.lance")) < files
    assert examine(store.path) == []
    again = Store.open(store.path)
    assert again.spots()["slide_id"].unique().tolist() == ["S1", "S2"]
    again.add(toy_rows(toy_slide("S3", 10, 9)))


def test_damage_is_told_and_nothing_is_mended(store):
    # another store's table in the place of ours
    other = toy_store(store.path.parent / "other", n_slides=3, n_spots=7)
    while other.version < store.version:
        other.add(toy_rows(toy_slide(f"more{other.version}", 5, 30 + other.version)))
    shutil.rmtree(store.path / "spots.lance")
    shutil.copytree(other.path / "spots.lance", store.path / "spots.lance")
    found = kinds(store.path)
    assert "spots" in " ".join(text for kind, text in found if kind == "damage")
    with pytest.raises(StoreError, match="Nothing was mended"):
        mend(store.path)
    done = CliRunner().invoke(main, ["doctor", str(store.path)])
    assert done.exit_code == 1
    assert "damage: " in done.output


@pytest.mark.parametrize(
    ("table", "damage"),
    [("spots", "gone"), ("expression", "short"), ("labels", "long"), ("slides", "empty")],
)
def test_a_lost_or_cut_file_of_a_table_is_found(store, table, damage):
    file = next((store.path / f"{table}.lance" / "data").iterdir())
    held = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"short": held[:-9], "long": held + b"x", "empty": b""}[damage])
    found = kinds(store.path)
    assert {kind for kind, _ in found} == {"damage"}
    assert any(file.name in text or "cannot be read" in text for _, text in found)
    assert CliRunner().invoke(main, ["doctor", str(store.path)]).exit_code == 1


def test_the_verbs_delete_compact_and_doctor_say_what_they_did(store):
    def run(*words):
        done = CliRunner().invoke(main, [words[0], str(store.path), *words[1:]])
        assert done.exit_code == 0, done.output
        return done.output

    assert "version 4, 10 spots" in run("delete", "S1")
    # version 3 stays: `store` has it open
    assert "version 5, 3 older versions removed" in run("compact")
    assert "is whole" in run("doctor", "--mend")
    assert "S2" in run("info")
    assert "S1" not in run("info")


def test_a_slide_that_is_not_there_is_named_by_the_verb(store):
    done = CliRunner().invoke(main, ["delete", str(store.path), "S9"])
    assert done.exit_code == 1
    assert "S9" in done.output
    assert store.refresh() == 3
