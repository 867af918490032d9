"""A store that mixes measured slides with plain H&E."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.embed import ingest
from stamp_index.store import EncoderCard, Store
from tests.support import ToyEncoder, toy_slide


def plain(slide):
    """The same picture and places, with nothing measured."""
    empty = csr_matrix((slide.n_spots, 0), dtype=np.float32)
    return replace(
        slide,
        counts=empty,
        genes=(),
        gene_ids=(),
        platform="H&E",
        spots=slide.spots[["x_px", "y_px"]],
    )


def mixed_store(folder, *, measured=2, n_spots=80):
    """`measured` slides M0, M1, ... with counts, then plain slide W; and what was measured on W, hidden."""
    encoder = ToyEncoder()
    store = Store.create(folder / "mixed", EncoderCard.of(encoder))
    for number in range(measured):
        slide = toy_slide(f"M{number}", n_spots, seed=number, patient_id=f"P{number}")
        ingest(store, encoder, slide)
    hidden = toy_slide("W", n_spots, seed=99, patient_id="P9", organ="lung")
    ingest(store, encoder, plain(hidden))
    return store, encoder, hidden
