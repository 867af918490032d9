"""What a probe refuses, and that the sentence names a way that works."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import MissingGenesError, QueryError, StampIndexError
from stamp_index.evaluate import ProbeError, ProbeSettings, run_probe
from stamp_index.store import EncoderCard, Store
from tests.probe_world import probe_slide, probe_store, random_world, unit


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return random_world(tmp_path_factory.mktemp("refusals"))


def _store(folder, labels, *, image=True, **more):
    """A store with a slide for each list of labels; `more` are lists, one entry a slide."""
    rng = np.random.default_rng(0)
    slides = []
    for number, kinds in enumerate(labels):
        own = {name: values[number] for name, values in more.items()}
        slides.append(probe_slide(f"S{number + 1}", kinds, **own))
    vectors = [unit(rng.normal(size=(len(kinds), 4))) for kinds in labels]
    return probe_store(folder, slides, vectors, image=image)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "either a label or a gene"),
        ({"label": "a", "gene": "CD8A"}, "either a label or a gene"),
        ({"label": "a", "features": "pixels"}, "image, gene, both"),
        ({"label": "a", "split": "fold"}, "patient, slide, block, spot"),
        ({"label": "a", "n_folds": 1}, "at least 2"),
        ({"label": "a", "C": 0.0}, "above 0"),
        ({"label": "a", "C": float("nan")}, "above 0"),
        ({"label": "a", "block_um": float("inf")}, "above 0"),
        ({"label": "a", "buffer_um": -1.0}, "0 or more"),
        ({"label": "a", "max_spots": 5}, "at least 20"),
        ({"label": "a", "seed": -1}, "negative"),
        ({"label": "a", "slides": ()}, "at least one"),
        ({"label": "a", "classes": "fat"}, "as a tuple"),
        ({"gene": "CD8A", "classes": ("a", "b")}, "belong to a label"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        ProbeSettings(**values)


def test_a_label_that_is_not_there_is_refused_with_those_that_are(world):
    with pytest.raises(QueryError, match="no label 'regional'.*its labels are region"):
        run_probe(world, ProbeSettings(label="regional"))


def test_a_gene_that_was_not_measured_is_refused(world):
    with pytest.raises(MissingGenesError, match="CD9X"):
        run_probe(world, ProbeSettings(gene="CD9X"))


def test_a_slide_that_is_not_there_is_refused_with_close_names(world):
    with pytest.raises(QueryError, match="no slide 'S9'.*S1"):
        run_probe(world, ProbeSettings(label="region", slides=("S9",)))


def test_a_store_without_slides_is_refused(tmp_path):
    card = EncoderCard("vec", "0f0f", 4, 112.0, 224, 336.0, "none")
    empty = Store.create(tmp_path / "store", card)
    with pytest.raises(ProbeError, match="no slides yet"):
        run_probe(empty, ProbeSettings(label="region"))


def test_spots_without_the_embedding_or_the_label_leave_nothing(tmp_path, world):
    store = _store(tmp_path, [["a", "b"] * 10, [None] * 20], image=False)
    with pytest.raises(ProbeError, match="40 spots, and none with image embeddings"):
        run_probe(store, ProbeSettings(label="region"))
    with pytest.raises(ProbeError, match="20 spots, and none with label 'region'"):
        run_probe(store, ProbeSettings(label="region", features="gene", slides=("S2",)))
    with pytest.raises(ProbeError, match="none with label 'drawn'"):
        run_probe(world, ProbeSettings(label="drawn"), labels={})


def test_a_gene_that_the_chosen_slides_did_not_measure_is_refused(tmp_path):
    store = _store(tmp_path, [["a"] * 20, ["b"] * 20], genes=[("CD8A", "ACTB"), ("ACTB",)])
    with pytest.raises(ProbeError, match="none with measurement of CD8A"):
        run_probe(store, ProbeSettings(gene="CD8A", slides=("S2",)))


def test_one_class_is_refused(tmp_path):
    store = _store(tmp_path, [["a"] * 20, ["a"] * 20])
    with pytest.raises(ProbeError, match="'a'; a probe needs at least two classes"):
        run_probe(store, ProbeSettings(label="region"))


def test_a_class_that_is_not_there_is_refused_with_those_that_are(world):
    with pytest.raises(ProbeError, match="no class 'bone'.*'fat', 'stroma', 'tumour'"):
        run_probe(world, ProbeSettings(label="region", classes=("fat", "bone")))


def test_a_gene_that_is_equal_everywhere_is_refused(tmp_path):
    ones = [np.column_stack([np.zeros(20), np.arange(20) + slide]) for slide in (1, 2)]
    store = _store(tmp_path, [["a"] * 20] * 2, counts=ones, genes=[("CD8A", "ACTB")] * 2)
    with pytest.raises(ProbeError, match="CD8A has the same expression"):
        run_probe(store, ProbeSettings(gene="CD8A"))


@pytest.mark.parametrize(
    ("split", "words", "way"),
    [
        ("slide", "of one slide", {"split": "block", "block_um": 200.0, "buffer_um": 0.0}),
        ("patient", "of one patient", {"split": "block", "block_um": 200.0, "buffer_um": 0.0}),
        (
            "block",
            "smaller block_um than 5000",
            {"split": "block", "block_um": 200.0, "buffer_um": 0.0},
        ),
    ],
)
def test_one_group_is_refused_with_a_split_that_works(tmp_path, split, words, way):
    store = _store(tmp_path, [["a", "b"] * 50], patient=["P1"])
    with pytest.raises(ProbeError, match=words) as refused:
        run_probe(store, ProbeSettings(label="region", split=split, block_um=5000.0))
    assert "block" in str(refused.value)
    assert run_probe(store, ProbeSettings(label="region", C=1.0, **way)).counts.groups > 1


def test_slides_of_one_patient_are_told_to_split_by_slide(tmp_path):
    store = _store(tmp_path, [["a", "b"] * 10] * 2, patient=["P1", "P1"])
    with pytest.raises(ProbeError, match='split="slide"'):
        run_probe(store, ProbeSettings(label="region", split="patient"))


def test_slides_without_a_patient_cannot_be_split_by_patient(tmp_path):
    store = _store(tmp_path, [["a", "b"] * 10] * 3, patient=["P1", "", "P2"])
    with pytest.raises(ProbeError, match="Slides S2 have no patient"):
        run_probe(store, ProbeSettings(label="region", split="patient"))
    known = ProbeSettings(label="region", split="patient", slides=("S1", "S3"), C=1.0)
    assert run_probe(store, known).counts.patients == 2


def test_slides_without_microns_cannot_be_split_into_blocks(tmp_path):
    store = _store(tmp_path, [["a", "b"] * 10] * 2, mpp=[None, 1.0])
    with pytest.raises(ProbeError, match="Slides S1 have no positions in microns"):
        run_probe(store, ProbeSettings(label="region", split="block"))
    assert run_probe(store, ProbeSettings(label="region", C=1.0)).counts.slides == 2


def test_a_class_in_one_group_is_refused_and_can_be_left_out(tmp_path):
    store = _store(tmp_path, [["a", "b"] * 10, ["a", "b", "c", "b"] * 5])
    with pytest.raises(ProbeError, match=r"'c'.*one slide only.*classes=\('a', 'b'\)"):
        run_probe(store, ProbeSettings(label="region"))
    found = run_probe(store, ProbeSettings(label="region", classes=("a", "b"), C=1.0))
    assert found.classes == ("a", "b")


def test_a_single_spot_of_a_class_in_a_training_part_is_refused(tmp_path):
    store = _store(
        tmp_path, [["a", "b"] * 10, [*["a", "b"] * 9, "a", "c"], [*["a", "b"] * 9, "a", "c"]]
    )
    with pytest.raises(ProbeError, match="fold 2 of 3 has 1 spots of class 'c'"):
        run_probe(store, ProbeSettings(label="region"))


def test_a_buffer_that_leaves_nothing_is_named(tmp_path):
    store = _store(tmp_path, [["a", "b"] * 50])
    with pytest.raises(ProbeError, match="Lower buffer_um, which left out"):
        run_probe(
            store, ProbeSettings(label="region", split="block", block_um=500.0, buffer_um=900.0)
        )


def test_too_many_classes_are_measurements(tmp_path):
    store = _store(tmp_path, [list(np.linspace(0, 1, 120)), list(np.linspace(0, 1, 120))])
    with pytest.raises(ProbeError, match="120 different values"):
        run_probe(store, ProbeSettings(label="region"))


def test_drawn_labels_of_rows_that_are_not_there_are_refused(world):
    with pytest.raises(QueryError, match="2 of the 3 labelled rows.*first row 9000"):
        run_probe(world, ProbeSettings(label="drawn"), labels={0: "a", 9000: "b", -1: "b"})


def test_drawn_labels_do_not_go_with_a_gene(world):
    with pytest.raises(ValueError, match="gene CD8A"):
        run_probe(world, ProbeSettings(gene="CD8A"), labels={0: "a"})


class _Damaged(Store):
    """A store whose embeddings of row 3 are not numbers, as after a fault of the disk."""

    def vectors(self, modality, rows=None):
        vectors = super().vectors(modality, rows).copy()
        vectors[np.asarray(rows) == 3] = np.nan
        return vectors


def test_embeddings_that_are_not_finite_are_refused_with_the_spot(tmp_path):
    _store(tmp_path, [["a", "b"] * 10] * 2)
    damaged = _Damaged.open(tmp_path / "store")
    assert isinstance(damaged, _Damaged)
    with pytest.raises(
        ProbeError, match="of 1 spots hold numbers that are not finite.*'S1:B00003'"
    ):
        run_probe(damaged, ProbeSettings(label="region"))


def test_every_refusal_is_an_error_of_the_library():
    assert issubclass(ProbeError, StampIndexError)
