"""Coordinate transformations of SpatialData."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import SlideError
from stamp_index.readers.spatialdata_zarr.ngff import apply, coordinate_systems, scale_of
from tests.spatial_data_files import axes, scaling, transformation

numbers = st.floats(-100, 100)
factors = st.floats(0.01, 100)


def matrix(one, names="cyx"):
    return coordinate_systems([one], list(names), "a test")["S"].matrix


def bare(one):
    return {key: value for key, value in one.items() if key not in ("input", "output")}


@given(
    factors, factors, numbers, numbers, st.sampled_from(["cyx", "xyc", "yx", "czyx"]), st.booleans()
)
def test_a_sequence_is_its_steps_one_after_the_other(sx, sy, tx, ty, names, stripped):
    factor, shift = {"x": sx, "y": sy}, {"x": tx, "y": ty}
    steps = [
        transformation("scale", "S", names, scale=[factor.get(n, 1.0) for n in names]),
        transformation("translation", "S", names, translation=[shift.get(n, 0.0) for n in names]),
    ]
    inner = [bare(step) for step in steps] if stripped else steps
    whole = matrix(transformation("sequence", "S", names, transformations=inner), names)
    assert np.allclose(whole, matrix(steps[1], names) @ matrix(steps[0], names))
    assert np.allclose(apply(whole, np.array([[1.0, 2.0]])), [[sx + tx, 2 * sy + ty]])


@given(st.lists(numbers, min_size=6, max_size=6), st.permutations("cyx"), st.permutations("cyx"))
def test_an_affine_means_the_same_in_whatever_order_its_axes_stand(values, source, target):
    plane = np.array(values).reshape(2, 3)  # rows x, y; columns x, y, 1
    if abs(np.linalg.det(plane[:, :2])) < 1e-6:
        return
    rows = {name: dict(zip("xy1", plane[i], strict=True)) for i, name in enumerate("xy")}
    rows["c"] = {"c": 1.0}
    stored = [[rows[t].get(s, 0.0) for s in (*source, "1")] for t in target]
    one = transformation("affine", "S", affine=stored)
    one["input"]["axes"], one["output"]["axes"] = axes("".join(source)), axes("".join(target))
    assert np.allclose(matrix(one)[:2], plane)


def test_axes_can_change_their_names():
    swapped = matrix(transformation("mapAxis", "S", "xy", mapAxis={"x": "y", "y": "x"}), "xy")
    assert np.allclose(apply(swapped, np.array([[1.0, 2.0]])), [[2.0, 1.0]])


@pytest.mark.parametrize(
    ("unit", "um"),
    [("micrometer", 1.0), ("nanometer", 1e-3), ("unit", None), ("parsec", None)],
)
def test_units_are_known_or_nothing(unit, um):
    assert coordinate_systems([scaling("S", 2.0, unit=unit)], "cyx", "it")["S"].unit_um == um


@pytest.mark.parametrize(
    ("one", "said"),
    [
        pytest.param(
            transformation("scale", "S", scale=[1.0, 2.0]), "cannot be read", id="too short"
        ),
        pytest.param(
            transformation("scale", "S", scale=[1.0, "a", 2.0]), "cannot be read", id="text"
        ),
        pytest.param(transformation("scale", "S"), "cannot be read", id="no factors"),
        pytest.param(transformation("affine", "S", affine=[[1.0]]), "shape", id="wrong shape"),
        pytest.param(
            transformation("affine", "S", affine=[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]),
            "not x or y",
            id="channels move y",
        ),
        pytest.param(transformation("displacements", "S"), "'displacements'", id="unknown"),
        pytest.param(scaling("S", float("nan")), "onto itself", id="nan"),
    ],
)
def test_a_damaged_transformation_is_refused(one, said):
    with pytest.raises(SlideError, match=said):
        coordinate_systems([one], "cyx", "the image 'I'")


def test_a_transformation_without_an_output_is_left_out():
    assert coordinate_systems([bare(scaling("S", 2.0))], "cyx", "it") == {}


@given(factors, st.floats(0, 6.3), st.booleans())
def test_turns_and_flips_keep_the_scale(factor, angle, flipped):
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 3], [np.sin(angle), np.cos(angle), 4], [0, 0, 1]]
    )
    turn[:, 0] *= -1 if flipped else 1
    assert scale_of(turn @ np.diag([factor, factor, 1.0]), "it") == pytest.approx(factor)
