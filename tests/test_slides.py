from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stamp_index.errors import MissingPixelSizeError, SlideError
from stamp_index.readers import read
from stamp_index.slides import ArrayImage, PatchSpec, Slide, iter_patches, read_patches

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
CENTRES = np.array([[50.0, 60.0], [200.0, 150.0], [399.0, 299.0], [0.0, 0.0], [120.5, 80.5]])


def make(centres: np.ndarray = CENTRES, mpp: float | None = 0.5, slide_id: str = "S1") -> Slide:
    barcodes = [f"b{i}" for i in range(len(centres))]
    spots = pd.DataFrame({"x_px": centres[:, 0], "y_px": centres[:, 1]}, index=barcodes)
    counts = csr_matrix(np.arange(2.0 * len(centres), dtype=np.float32).reshape(-1, 2))
    return Slide(slide_id, spots, counts, ("A", "B"), ArrayImage(PIXELS), mpp, 55.0)


SLIDE = make()


def test_positions_and_sizes_come_in_pixels_and_microns() -> None:
    np.testing.assert_array_equal(SLIDE.xy_px, CENTRES)
    np.testing.assert_array_equal(SLIDE.xy_um, CENTRES * 0.5)
    assert SLIDE.xy_px.dtype == np.float64
    assert (SLIDE.width_px, SLIDE.height_px) == (400, 300)
    assert (SLIDE.width_um, SLIDE.height_um) == (200.0, 150.0)
    assert SLIDE.spot_ids[:2] == ["S1:b0", "S1:b1"]
    no_image = replace(SLIDE, image=None)
    assert no_image.width_um is no_image.height_px is None


@given(st.floats(0.05, 20), st.floats(-1e5, 1e5))
def test_microns_and_pixels_turn_into_each_other(mpp: float, x_um: float) -> None:
    slide = make(np.array([[x_um / mpp, 0.0]]), mpp)
    assert slide.xy_um[0, 0] == pytest.approx(x_um, rel=1e-12, abs=1e-9)


@settings(deadline=None)
@given(
    st.integers(0, 400), st.integers(0, 300), st.integers(1, 30), st.sampled_from([0.25, 0.5, 2.0])
)
def test_a_patch_equals_the_pixels_around_its_spot(x: int, y: int, half: int, mpp: float) -> None:
    slide = make(np.array([[float(x), float(y)]]), mpp)
    patch = read_patches(slide, PatchSpec(2 * half * mpp, 2 * half))[0]
    canvas = np.full((300 + 2 * half, 400 + 2 * half, 3), 255, dtype=np.uint8)
    canvas[half:-half, half:-half] = PIXELS
    np.testing.assert_array_equal(patch, canvas[y : y + 2 * half, x : x + 2 * half])


def test_offsets_move_the_centre_by_microns() -> None:
    spec = PatchSpec(20.0, 40)
    offsets = np.array([[5.0, -3.0], [0.0, 10.0]])
    moved = read_patches(SLIDE, spec, rows=[0, 1], offsets_um=offsets)
    elsewhere = make(CENTRES[:2] + offsets / 0.5)
    np.testing.assert_array_equal(moved, read_patches(elsewhere, spec))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_hold_the_same_patches_in_order(batch_size: int) -> None:
    spec = PatchSpec(30.0, 24)
    batches = list(iter_patches(SLIDE, spec, batch_size=batch_size))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    expected = [SLIDE.image.read(x - 30, y - 30, 60.0, 24) for x, y in CENTRES]
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_rows_choose_spots_in_any_order_and_repeatedly() -> None:
    spec = PatchSpec(30.0, 24)
    every = read_patches(SLIDE, spec)
    np.testing.assert_array_equal(read_patches(SLIDE, spec, rows=[4, 0, 4]), every[[4, 0, 4]])
    assert read_patches(SLIDE, spec, rows=[]).shape == (0, 24, 24, 3)
    assert list(iter_patches(SLIDE, spec, batch_size=3, rows=[])) == []


def test_reading_is_lazy_but_a_slide_without_patches_is_refused_at_once() -> None:
    reads = []

    class Counting(ArrayImage):
        def read(self, *place: float) -> np.ndarray:
            reads.append(place)
            return super().read(*place)

    slide = replace(SLIDE, image=Counting(PIXELS))
    batches = iter_patches(slide, PatchSpec(10.0, 8), batch_size=2)
    assert reads == []
    next(batches)
    assert len(reads) == 2
    with pytest.raises(SlideError, match=r"S1 has no image.*slide\.toml"):
        iter_patches(replace(SLIDE, image=None), PatchSpec(10.0, 8), batch_size=2)
    with pytest.raises(MissingPixelSizeError, match=r"a patch of 10 um has no width in pixels"):
        iter_patches(replace(SLIDE, mpp=None), PatchSpec(10.0, 8), batch_size=2)


def test_impossible_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="width_um is -1"):
        PatchSpec(-1.0, 224)
    with pytest.raises(ValueError, match="width_um is nan"):
        PatchSpec(float("nan"), 224)
    with pytest.raises(ValueError, match="size_px is 0"):
        PatchSpec(112.0, 0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        iter_patches(SLIDE, PatchSpec(10.0, 8), batch_size=0)
    with pytest.raises(ValueError, match=r"offsets_um has shape \(5, 3\); expected \(5, 2\)"):
        read_patches(SLIDE, PatchSpec(10.0, 8), offsets_um=np.zeros((5, 3)))
    assert PatchSpec(112.0, 224).mpp == 0.5


def test_a_slide_without_pixel_size_has_no_microns() -> None:
    with pytest.raises(MissingPixelSizeError, match="S1 has no microns per pixel"):
        _ = replace(SLIDE, mpp=None).xy_um


def test_the_counts_hash_depends_on_numbers_and_names_alone() -> None:
    unsorted = SLIDE.counts.copy()
    unsorted.indices, unsorted.data = unsorted.indices.copy(), unsorted.data.copy()
    last = slice(unsorted.indptr[-2], unsorted.indptr[-1])
    unsorted.indices[last], unsorted.data[last] = (
        unsorted.indices[last][::-1],
        unsorted.data[last][::-1],
    )
    unsorted.has_sorted_indices = False
    same = replace(SLIDE, slide_id="other", counts=unsorted, organ="skin")
    assert same.counts_hash() == SLIDE.counts_hash()
    others = [
        replace(SLIDE, genes=("A", "C")),
        replace(SLIDE, counts=SLIDE.counts * 2),
        replace(SLIDE, spots=SLIDE.spots.rename(index={"b0": "x"})),
    ]
    assert len({SLIDE.counts_hash(), *(slide.counts_hash() for slide in others)}) == 4


def test_a_slide_travels_to_other_processes() -> None:
    copy = pickle.loads(pickle.dumps(SLIDE))
    spec = PatchSpec(30.0, 24)
    np.testing.assert_array_equal(read_patches(copy, spec), read_patches(SLIDE, spec))


def test_real_patches_show_tissue_at_the_width_asked_for(shared_data: Path) -> None:
    slide = read(shared_data / "her2st/ST-cnts/C2.tsv.gz")
    for width_um, size_px in ((200.0, 224), (600.0, 160)):
        patches = read_patches(slide, PatchSpec(width_um, size_px), rows=range(0, 180, 20))
        assert patches.shape == (9, size_px, size_px, 3)
        assert patches.std(axis=(1, 2)).min() > 3  # none is blank
        assert 60 < patches.mean() < 235
