"""What a filter can ask about: the fields of slides and spots, and the functions."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal

from stamp_index.search.filtering.messages import short
from stamp_index.store.schema import SPOT_QUALITY

Kind = Literal["text", "number", "either"]  # of the values; a label has text or numbers


@dataclass(frozen=True)
class FieldSpec:
    """One field.

    Attributes
    ----------
    kind : {"text", "number"}
        What its values are.
    column : str
        Name of the stored column.
    is_per_slide : bool
        Whether all spots of a slide have the same value.
    """

    kind: Kind
    column: str
    is_per_slide: bool


FIELDS: Final = {
    "organ": FieldSpec("text", "organ", is_per_slide=True),
    "disease": FieldSpec("text", "disease", is_per_slide=True),
    "species": FieldSpec("text", "species", is_per_slide=True),
    "platform": FieldSpec("text", "platform", is_per_slide=True),
    "patient": FieldSpec("text", "patient_id", is_per_slide=True),
    "slide": FieldSpec("text", "slide_id", is_per_slide=True),
    "mpp": FieldSpec("number", "mpp", is_per_slide=True),
    "x_um": FieldSpec("number", "x_um", is_per_slide=False),
    "y_um": FieldSpec("number", "y_um", is_per_slide=False),
    "x_px": FieldSpec("number", "x_px", is_per_slide=False),
    "y_px": FieldSpec("number", "y_px", is_per_slide=False),
    "n_counts": FieldSpec("number", "n_counts", is_per_slide=False),
    "n_genes": FieldSpec("number", "n_genes", is_per_slide=False),
    **{name: FieldSpec("number", name, is_per_slide=False) for name in SPOT_QUALITY},
    "barcode": FieldSpec("text", "barcode", is_per_slide=False),
    "spot": FieldSpec("text", "spot_id", is_per_slide=False),
}

# Function -> kind of its values, and an argument for examples.
FUNCTIONS: Final[dict[str, tuple[Kind, str]]] = {
    "expr": ("number", "CD8A"),
    "count": ("number", "CD8A"),
    "label": ("either", "region"),
}


def unknown_name(name: str) -> str:
    """Words for a name that is neither field nor function."""
    name = short(name)
    near = get_close_matches(name.casefold(), [*FIELDS, *FUNCTIONS], n=2, cutoff=0.6)
    if near:
        return f"There is no field {name}. Did you mean {' or '.join(near)}?"
    return (
        f"There is no field {name}. There are {', '.join(FIELDS)}. "
        f'A gene is written expr("{name}"), a label label("{name}").'
    )
