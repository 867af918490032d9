"""What ``config`` and ``panel`` of a checkpoint hold, by kind of encoder, checked before anything is built."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from stamp_index.encoders.json_shapes import (
    FLAG,
    NUMBER,
    NUMBERS,
    TABLE,
    TEXT,
    TEXT_BY_KEY,
    TEXTS,
    WHOLE,
    Absent,
    Kind,
    Null,
    is_whole,
)
from stamp_index.encoders.layers import MOST_PIXELS, MOST_RANKS
from stamp_index.encoders.model_config import ModelConfig


def _up_to(most: int) -> Kind:
    return Kind(
        f"a whole number from 1 to {most:,}",
        lambda value: is_whole(value) and 1 <= value <= most,
    )


# By annotation: fields of a `ModelConfig`. All of them are in every checkpoint of this format; one that joins them
# later is `Absent`.
_SPEC: Final = {"width_um": NUMBER, "size_px": _up_to(MOST_PIXELS)}
_FIELDS: Final[dict[str, Any]] = {
    "int": WHOLE,
    "bool": FLAG,
    "str": TEXT,
    "dict[str, Any]": TABLE,
    "tuple[str, ...]": TEXTS,
    "PatchSpec": _SPEC,
}
_SURROUNDINGS: Final = {"k": WHOLE, "radius_um": NUMBER, "self_weight": NUMBER}
_GENE_INPUT: Final = {
    "context": _up_to(MOST_RANKS),
    "around": {"scales": [_SURROUNDINGS], "niche": Null(_SURROUNDINGS)},
}
_MODEL: Final = {field.name: _FIELDS[str(field.type)] for field in fields(ModelConfig)}
_STAMP: Final = {
    "options": {
        **{"gene_heads": WHOLE, "vision_heads": WHOLE},
        **{"compat": Absent(FLAG), "bgr": Absent(FLAG)},
    },
    "vocabulary": {"gene_ids": TEXTS, "synonyms": TEXT_BY_KEY},
}
CONFIGS: Final[dict[str, Any]] = {
    "trained": {"model": _MODEL, "gene_input": _GENE_INPUT},
    "ridge": {"patch": _SPEC, "region": _SPEC, "gene_input": _GENE_INPUT},
    "published_stamp": _STAMP,
    "published_seal": {"backbone": Null(TEXT)},
}
PANEL: Final[dict[str, Any]] = {
    **{"genes": TEXTS, "means": NUMBERS, "species": TEXT},
    **{"normalisation": Absent(TEXT), "hash": Absent(TEXT)},
}
