"""What differs between patients and slides: architecture, mixture, stain, scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stamp_index.phantom.noise import rng_for

MPP = 0.5
"""Pixel size of every phantom slide, um per level-0 pixel."""

DOMAINS: tuple[str, ...] = ("tumour", "stroma", "lymphoid", "fat", "necrosis", "normal")
"""Tissue domains in the order of their codes."""

TUMOUR, STROMA, LYMPHOID, FAT, NECROSIS, NORMAL = range(6)
GLASS = 255
GLASS_H, GLASS_E = 1, 2  # level of either dye on bare glass

_AREA = np.array([0.33, 0.24, 0.12, 0.11, 0.09, 0.11])  # in the order of DOMAINS


@dataclass(frozen=True)
class PatientStyle:
    """Traits that a patient's slides share.

    Attributes
    ----------
    area : tuple of 6 float
        Share of tissue area per domain, in the order of `DOMAINS`; sums to 1.
    nest_share : float
        Share of the tumour domain that is epithelium rather than septa, in (0, 1).
    nest_um, nest_stretch : float
        Size of tumour nests and their elongation.
    gland : float
        How much of the tumour forms glands with lumens, in [0, 1].
    collagen : float
        Density of collagen in the stroma, about 1.
    immune : float
        Lymphocytes outside the aggregates, about 1.
    pleomorphism : float
        Spread of tumour nuclear size and shape, in [0, 1].
    fat_um : float
        Mean diameter of adipocytes.
    """

    area: tuple[float, ...]
    nest_share: float
    nest_um: float
    nest_stretch: float
    gland: float
    collagen: float
    immune: float
    pleomorphism: float
    fat_um: float


@dataclass(frozen=True)
class ScanStyle:
    """Traits of one stained and scanned section.

    Attributes
    ----------
    haematoxylin, eosin : tuple of 3 float
        Optical density of R, G, B per unit of dye; unit length.
    h_gain, e_gain : float
        Strength of either dye, about 1.
    white : tuple of 3 float
        Level of bare glass, 0 to 255.
    gamma : float
        Tone curve of the scanner, about 1.
    blur_px, noise : float
        Width of the optics' blur in level-0 pixels; noise in grey levels.
    jpeg : int
        JPEG quality.
    """

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    h_gain: float
    e_gain: float
    white: tuple[float, float, float]
    gamma: float
    blur_px: float
    noise: float
    jpeg: int


# Three architectures that pathologists tell apart; later patients draw between them.
_SOLID = {"nest_share": 0.78, "nest_um": 150.0, "nest_stretch": 1.0, "gland": 0.25}
_GLANDULAR = {"nest_share": 0.74, "nest_um": 120.0, "nest_stretch": 1.2, "gland": 0.80}
_TRABECULAR = {"nest_share": 0.70, "nest_um": 95.0, "nest_stretch": 2.2, "gland": 0.40}


def patient_style(seed: int, patient: int) -> PatientStyle:
    """Draw the traits of patient number `patient` (from 0)."""
    rng = rng_for(seed, patient, 9001)
    base = (_SOLID, _GLANDULAR, _TRABECULAR)[patient % 3]
    area = _AREA * np.exp(rng.normal(0.0, 0.12, len(_AREA)))
    area = area / area.sum()
    return PatientStyle(
        area=tuple(float(a) for a in area),
        nest_share=float(np.clip(base["nest_share"] + rng.normal(0, 0.02), 0.6, 0.85)),
        nest_um=float(base["nest_um"] * np.exp(rng.normal(0, 0.1))),
        nest_stretch=float(base["nest_stretch"]),
        gland=float(np.clip(base["gland"] + rng.normal(0, 0.06), 0.1, 1.0)),
        collagen=float(np.exp(rng.normal(0, 0.12))),
        immune=float(np.exp(rng.normal(0, 0.2))),
        pleomorphism=float(rng.uniform(0.35, 0.8)),
        fat_um=float(rng.uniform(58, 72)),
    )


# Ruifrok & Johnston 2001 (Anal Quant Cytol Histol 23:291); the second eosin is the one that
# QuPath measures on brightfield slides. Real eosin lies between the two.
_H_RUIFROK = np.array([0.650, 0.704, 0.286])
_E_RUIFROK = np.array([0.072, 0.990, 0.105])
_E_QUPATH = np.array([0.216, 0.801, 0.558])


def _unit(vector: np.ndarray) -> tuple[float, float, float]:
    scaled = vector / np.linalg.norm(vector)
    return (float(scaled[0]), float(scaled[1]), float(scaled[2]))


def scan_style(seed: int, patient: int, slide: int) -> ScanStyle:
    """Draw stain and scanner of one slide: sections of a patient are alike, never equal."""
    own = rng_for(seed, patient, slide, 9002)
    shared = rng_for(seed, patient, 9003)
    pink = np.clip(shared.uniform(0.3, 0.75) + own.normal(0, 0.06), 0.15, 0.9)
    blue = _H_RUIFROK + shared.normal(0, 0.02, 3) + own.normal(0, 0.01, 3)
    eosin = (1 - pink) * _E_RUIFROK + pink * _E_QUPATH + own.normal(0, 0.012, 3)
    white = 243.0 + own.normal(0, 1.5) + own.normal(0, 1.6, 3)
    return ScanStyle(
        haematoxylin=_unit(blue),
        eosin=_unit(eosin),
        h_gain=float(np.exp(shared.normal(0, 0.10) + own.normal(0, 0.05))),
        e_gain=float(np.exp(shared.normal(0, 0.12) + own.normal(0, 0.06))),
        white=(float(white[0]), float(white[1]), float(white[2])),
        gamma=float(np.exp(own.normal(0, 0.04))),
        blur_px=float(own.uniform(0.55, 0.85)),
        noise=float(own.uniform(1.2, 2.2)),
        jpeg=int(own.integers(84, 91)),
    )
