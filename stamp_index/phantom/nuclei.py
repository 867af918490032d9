"""Banks of ready-made nuclei and cell bodies, one per look; cells are pasted from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.phantom.noise import rng_for, wrapped_noise
from stamp_index.phantom.style import MPP

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_ANGLES = 16
"""Orientations per half turn in a bank of oriented nuclei."""
PER_ANGLE = 5
"""Nuclei of each orientation."""


@dataclass(frozen=True)
class Look:
    """How the nuclei of one kind of cell look.

    Attributes
    ----------
    length_um, width_um : float
        Mean axes of the nucleus.
    spread : float
        Relative spread of size between cells.
    wobble : float
        Irregularity of the outline.
    dark, rim, grain : float
        Haematoxylin inside, added at the envelope, and of chromatin clumps, 0 to 1.
    nucleoli : float
        Mean number of nucleoli.
    body_um : float
        Diameter of the cell body; 0 draws none.
    body_e, body_h : float
        Eosin and haematoxylin of the cell body, 0 to 1.
    off_um : float
        Distance of the nucleus from the cell's centre.
    oriented : bool
        Whether the bank holds all angles in order.
    """

    length_um: float
    width_um: float
    spread: float
    wobble: float
    dark: float
    rim: float
    grain: float
    nucleoli: float = 0.0
    body_um: float = 0.0
    body_e: float = 0.0
    body_h: float = 0.0
    off_um: float = 0.0
    oriented: bool = False


# Axes after textbook histology (lymphocyte 7 um, carcinoma 10-14 um, fibroblast 14 x 3.5 um).
LOOKS: dict[str, Look] = {
    "tumour": Look(9.8, 7.6, 0.15, 0.06, 0.40, 0.20, 0.13, 1.1, 16.5, 0.29, 0.165),
    "tumour_dividing": Look(10.8, 8.6, 0.20, 0.10, 0.62, 0.14, 0.17, 1.4, 16.0, 0.27, 0.23),
    "tumour_hypoxic": Look(8.2, 6.2, 0.16, 0.08, 0.62, 0.08, 0.08, 0.2, 15.5, 0.42, 0.12),
    "tumour_column": Look(10.5, 6.2, 0.12, 0.05, 0.46, 0.18, 0.12, 0.7, oriented=True),
    "mitosis": Look(9.0, 3.2, 0.15, 0.22, 0.95, 0.0, 0.10, 0.0, 17.0, 0.22, 0.08),
    "lymphocyte": Look(6.4, 5.9, 0.08, 0.03, 0.78, 0.06, 0.20, 0.0, 8.4, 0.16, 0.14),
    "centroblast": Look(8.6, 7.6, 0.12, 0.05, 0.46, 0.18, 0.15, 1.6, 11.5, 0.20, 0.17),
    "plasma": Look(6.8, 6.2, 0.08, 0.03, 0.72, 0.10, 0.26, 0.0, 11.5, 0.25, 0.23, 2.4),
    "fibroblast": Look(14.5, 3.2, 0.22, 0.08, 0.62, 0.08, 0.10, oriented=True),
    "endothelial": Look(10.0, 2.6, 0.18, 0.06, 0.70, 0.06, 0.08, oriented=True),
    "adipocyte": Look(11.0, 2.6, 0.15, 0.06, 0.68, 0.06, 0.05, oriented=True),
    "macrophage": Look(8.4, 5.6, 0.16, 0.14, 0.44, 0.16, 0.12, 0.4, 16.0, 0.26, 0.06, 2.0),
    "neutrophil": Look(6.6, 5.2, 0.12, 0.55, 0.88, 0.0, 0.12, 0.0, 10.0, 0.42, 0.0),
    "pyknotic": Look(4.2, 3.6, 0.35, 0.12, 0.92, 0.0, 0.05, 0.0, 10.5, 0.54, 0.0),
    "fragment": Look(1.9, 1.5, 0.40, 0.15, 0.85, 0.0, 0.0),
    "ghost": Look(8.4, 7.0, 0.20, 0.06, 0.11, 0.07, 0.05, 0.0, 15.0, 0.43, 0.0),
    "luminal": Look(7.6, 5.4, 0.07, 0.03, 0.56, 0.12, 0.11, 0.4, oriented=True),
    "myoepithelial": Look(8.6, 3.0, 0.12, 0.05, 0.66, 0.06, 0.07, oriented=True),
    "red_cell": Look(6.6, 6.2, 0.06, 0.04, 0.0, 0.0, 0.0, 0.0, 6.8, 0.93, 0.0),
}

LOOK_NAMES: tuple[str, ...] = tuple(LOOKS)
"""Looks in the order of their codes."""


@dataclass(frozen=True)
class Stamp:
    """One drawn cell: two dyes of the nucleus and, where there is one, of the body.

    Attributes
    ----------
    nucleus : ndarray of shape (s, s), uint8
        Haematoxylin.
    cap : ndarray of shape (s, s), uint8
        Upper bound that the nucleus sets on eosin, 255 outside it.
    body_e, body_h : ndarray of shape (b, b), uint8, or None
        Eosin and haematoxylin of the cell body.
    """

    nucleus: NDArray[np.uint8]
    cap: NDArray[np.uint8]
    body_e: NDArray[np.uint8] | None
    body_h: NDArray[np.uint8] | None


_POOL = 256


@lru_cache(maxsize=1)
def _pool() -> NDArray[np.float32]:
    """Noise as coarse as chromatin; every nucleus takes its own window, which costs no blur."""
    return wrapped_noise(rng_for(9021), (_POOL, _POOL), 1.15)


def _window(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    top, left = rng.integers(0, _POOL - side, 2)
    return _pool()[top : top + side, left : left + side]


@lru_cache(maxsize=128)
def polar_grid(half_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Radius in px and angle in radians around the centre of a square of side 2 * half + 1."""
    y, x = np.mgrid[-half_px : half_px + 1, -half_px : half_px + 1].astype(np.float32)
    return np.hypot(x, y), np.arctan2(y, x)


def outline(
    rng: np.random.Generator,
    theta: NDArray[np.float32],
    axes: tuple[float, float, float],
    wobble: float,
) -> NDArray[np.float32]:
    """Radius at each angle of an ellipse (half axes a, b, turn) with a wavy border."""
    a, b, turn = axes
    t = theta - turn
    radius = (a * b) / np.sqrt((b * np.cos(t)) ** 2 + (a * np.sin(t)) ** 2)
    for k in (2, 3, 4, 5):
        size = wobble * rng.normal() / (k - 1)
        radius = radius * (1 + size * np.cos(k * t + rng.uniform(0, 2 * np.pi)))
    out: NDArray[np.float32] = np.maximum(radius, 0.4).astype(np.float32)
    return out


def _chromatin(
    rng: np.random.Generator, look: Look, half: int, radius: tuple[NDArray[np.float32], ...]
) -> NDArray[np.float32]:
    """Haematoxylin inside a nucleus, before it is cut to the outline."""
    rho, border, theta = radius
    noise = _window(rng, rho.shape[0])
    depth = border - rho  # px inside the envelope
    ink = look.dark * rng.normal(1, 0.10) + look.grain * np.clip(noise, -1.5, 2.0)
    ink = ink + look.rim * np.exp(-((depth - 0.8) ** 2) / 1.6)
    for _ in range(rng.poisson(look.nucleoli)):
        spot, turn = rng.uniform(0, 0.5) * half, rng.uniform(0, 2 * np.pi)
        dx = rho * np.cos(theta) - spot * np.cos(turn)
        dy = rho * np.sin(theta) - spot * np.sin(turn)
        size = rng.uniform(1.0, 1.7)
        ink = ink + 0.42 * np.exp(-(dx**2 + dy**2) / (2 * size**2))
    return np.asarray(np.clip(ink, 0.04, 1.0), dtype=np.float32)


def _body(
    rng: np.random.Generator, look: Look
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Draw the cell body: a rounded polygon, granular, a little denser at the membrane."""
    if look.body_um == 0:
        return None, None
    radius_px = look.body_um / 2 / MPP * rng.normal(1, 0.06)
    half = int(np.ceil(radius_px * 1.35)) + 1
    rho, theta = polar_grid(half)
    stretch = np.exp(rng.normal(0, 0.1))
    axes = (radius_px * stretch, radius_px / stretch, rng.uniform(0, np.pi))
    border = outline(rng, theta, axes, 0.05)
    soft = np.clip((border - rho) / 2.0 + 0.5, 0, 1)
    level = rng.normal(1, 0.09) + 0.09 * _window(rng, rho.shape[0])
    level = level + 0.22 * np.exp(-((border - rho - 1.5) ** 2) / 2)
    eosin = np.clip(look.body_e * level, 0, 1) * soft
    blue = np.clip(look.body_h * level, 0, 1) * soft
    return (255 * eosin).astype(np.uint8), (255 * blue).astype(np.uint8)


def draw_stamp(rng: np.random.Generator, look: Look, *, angle: float, spread: float) -> Stamp:
    """Draw one cell.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    look : Look
        What to draw.
    angle : float
        Direction of the long axis, radians.
    spread : float
        Multiplies the look's spread of size and outline.

    Returns
    -------
    Stamp
    """
    size = np.exp(rng.normal(0, look.spread * spread))
    a = look.length_um / 2 / MPP * size * np.exp(rng.normal(0, 0.08))
    b = look.width_um / 2 / MPP * size * np.exp(rng.normal(0, 0.08))
    half = int(np.ceil(max(a, b) * (1.15 + look.wobble * spread))) + 2
    rho, theta = polar_grid(half)
    border = outline(rng, theta, (a, b, angle), look.wobble * spread)
    mask = np.clip((border - rho) + 0.5, 0, 1)
    ink = _chromatin(rng, look, min(a, b), (rho, border, theta)) * mask
    body_e, body_h = _body(rng, look)
    bound = np.full(rho.shape, 255.0)
    if look.dark > 0:
        # A nucleus takes little eosin; the ghost of one keeps what the dead cell took.
        bound = bound - mask * 255 * (0.84 if look.dark > 0.3 else 0.66)
    return Stamp((255 * ink).astype(np.uint8), bound.astype(np.uint8), body_e, body_h)


def make_banks(rng: np.random.Generator, *, spread: float) -> list[list[Stamp]]:
    """Draw all looks of a slide.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    spread : float
        Pleomorphism of tumour nuclei; 1 is ordinary.

    Returns
    -------
    list of list of Stamp
        One bank per look in the order of `LOOK_NAMES`; an oriented bank holds its angles as
        consecutive groups of equal length.
    """
    banks: list[list[Stamp]] = []
    for name, look in LOOKS.items():
        wide = spread if name.startswith("tumour") else 1.0
        if look.oriented:
            turns = [np.pi * (i // PER_ANGLE) / N_ANGLES for i in range(PER_ANGLE * N_ANGLES)]
        else:
            turns = [float(t) for t in rng.uniform(0, np.pi, 72)]
        banks.append([draw_stamp(rng, look, angle=t, spread=wide) for t in turns])
    return banks
