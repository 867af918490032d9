from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.readers.common.spot_pitch import array_pitch, square_turn
from tests.hest_files import hexagon
from tests.stimage_files import square


@settings(max_examples=80, deadline=None)
@given(
    hexagonal=st.booleans(),
    pitch=st.floats(2, 900),
    degrees=st.floats(-180, 180),
    jitter=st.floats(0, 0.02),
    holes=st.floats(0, 0.4),
    seed=st.integers(0, 999),
)
def test_the_pitch_of_any_array_is_found(
    *, hexagonal: bool, pitch: float, degrees: float, jitter: float, holes: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    xy = hexagon(100 / pitch, 14, 12) if hexagonal else square(pitch, 14, 12)
    xy = xy[rng.uniform(size=len(xy)) >= holes]
    xy = xy + rng.normal(scale=jitter * pitch, size=xy.shape)
    angle = np.deg2rad(degrees)
    turned = xy @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) + 7
    found = array_pitch(turned)
    assert found == pytest.approx(pitch, rel=0.015)
    if not hexagonal:
        off = (square_turn(turned, found) + degrees + 45) % 90 - 45
        assert abs(off) < 2


@pytest.mark.parametrize("n", [8, 100, 3000])
def test_scattered_places_have_no_pitch(n: int) -> None:
    xy = np.random.default_rng(n).uniform(0, 1000, (n, 2))
    assert array_pitch(xy) is None


def test_cells_that_keep_their_distance_have_no_pitch() -> None:
    rng = np.random.default_rng(5)
    cells: list[np.ndarray] = []
    for place in rng.uniform(0, 400, (4000, 2)):
        if not cells or np.hypot(*(np.array(cells) - place).T).min() > 10:
            cells.append(place)
    assert len(cells) > 500
    assert array_pitch(np.array(cells)) is None


@pytest.mark.parametrize(
    "xy", [np.zeros((0, 2)), np.zeros((50, 2)), np.full((9, 2), np.nan), square(5.0)[:7]]
)
def test_too_little_has_no_pitch(xy: np.ndarray) -> None:
    assert array_pitch(xy) is None
