"""For tests of filters: random trees, small random stores, and a slow interpreter of one row."""

from __future__ import annotations

import operator

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from stamp_index.errors import MissingGenesError
from stamp_index.search.filtering import (
    And,
    Call,
    Compare,
    Field,
    In,
    Known,
    Not,
    Or,
)

COMPARES = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TEXT_COLUMNS = {
    "organ": "organ", "disease": "disease", "species": "species", "platform": "platform",
    "patient": "patient_id", "slide": "slide_id", "barcode": "barcode", "spot": "spot_id",
}  # fmt: skip
SLIDE_NUMBERS = ("mpp",)
SPOT_NUMBERS = ("x_um", "y_um", "x_px", "y_px", "n_counts", "n_genes")
GENES = ("CD8A", "EPCAM")
LABELS = ("region", "grade")

TEXTS = ("breast", "skin", 'a "b" \\ c', "")
NUMBERS = (0.0, 1.0, 2.5, -3.0)
NAN = float("nan")


# ---- the slow obvious way: one row at a time, three truth values -----------------------------------


def truth(condition, row):
    """True, False or None for unknown."""
    if isinstance(condition, Not):
        inner = truth(condition.term, row)
        return None if inner is None else not inner
    if isinstance(condition, (And, Or)):
        terms = [truth(term, row) for term in condition.terms]
        deciding = isinstance(condition, Or)  # one true term decides "or", one false "and"
        if deciding in terms:
            return deciding
        return None if None in terms else not deciding
    subject = condition.subject
    value = value_of(subject, row)
    if isinstance(condition, Known):
        return value is not None and value != ""
    asked = (condition.value,) if isinstance(condition, Compare) else condition.values
    if value is None or isinstance(value, str) != isinstance(asked[0], str):
        return None
    if isinstance(condition, In):
        return any(value == one for one in asked)
    return COMPARES[condition.operator](value, condition.value)


def value_of(subject, row):
    """Value of a field or function; None where it is missing."""
    if isinstance(subject, Call):
        value = row[subject.function, subject.argument]
        return None if isinstance(value, float) and np.isnan(value) else value
    if subject.name in TEXT_COLUMNS:
        return row[TEXT_COLUMNS[subject.name]] or ""
    value = row[subject.name]
    return None if value is None or np.isnan(value) else value


def leaves(condition):
    if isinstance(condition, (And, Or)):
        return [leaf for term in condition.terms for leaf in leaves(term)]
    return leaves(condition.term) if isinstance(condition, Not) else [condition]


# ---- random trees ----------------------------------------------------------------------------------


def trees(texts, numbers, *, calls=True, names=None, depth=10):
    """Conditions about any field (or `names`), and about functions if `calls`."""
    named = names or (*TEXT_COLUMNS, *SLIDE_NUMBERS, *SPOT_NUMBERS)
    about_text = [Field(name) for name in named if name in TEXT_COLUMNS]
    about_numbers = [Field(name) for name in named if name not in TEXT_COLUMNS]
    if calls:
        about_text += [Call("label", name) for name in LABELS]
        about_numbers += [Call("label", "grade")]
        about_numbers += [Call(kind, gene) for kind in ("expr", "count") for gene in GENES]
    subjects = st.sampled_from([*about_text, *about_numbers])
    of_text, of_numbers = st.sampled_from(about_text), st.sampled_from(about_numbers)
    leaf = st.one_of(
        st.builds(Compare, of_text, st.sampled_from(["==", "!="]), texts),
        st.builds(Compare, of_numbers, st.sampled_from(list(COMPARES)), numbers),
        st.builds(In, of_text, st.lists(texts, min_size=1, max_size=3).map(tuple)),
        st.builds(In, of_numbers, st.lists(numbers, min_size=1, max_size=3).map(tuple)),
        st.builds(Known, subjects),
    )

    def larger(inner):
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(st.builds(Not, inner), st.builds(And, several), st.builds(Or, several))

    return st.recursive(leaf, larger, max_leaves=depth)


# ---- a store in memory -----------------------------------------------------------------------------


class World:
    """A store that implements `Columns` with lists of rows, and notes what is read of it."""

    def __init__(self, slides, rows, n_rows, *, genes=GENES):
        self.slides = slides
        self.n_rows = n_rows
        self.rows = rows  # one list of dicts per slide, in the order of `slides`
        self.reads = []
        self._genes = genes

    @property
    def label_names(self):
        return LABELS

    def label_texts(self, name):
        found = {row["label", name] for rows in self.rows for row in rows}
        texts = {value for value in found if isinstance(value, str)}
        return texts, any(isinstance(value, float) for value in found)

    def resolve_gene(self, name):
        if name.upper() not in self._genes:
            msg = f"1 of 1 genes are not known here ({name})."
            raise MissingGenesError(msg)
        return name.upper()

    def numbers(self, name, slides):
        return np.array(self._read(name, slides), np.float64)

    def text(self, name, slides):
        return np.array(self._read(name, slides), object)

    def genes(self, gene, kind, slides):
        return np.array(self._read((kind, gene), slides), np.float64)

    def label(self, name, slides):
        return self._read(("label", name), slides)

    def _read(self, key, slides):
        assert len(slides), "nothing is asked for"
        self.reads.append((key, self.slides["slide_id"].iloc[slides].tolist()))
        return [row[key] for slide in slides for row in self.rows[slide]]


def make_world(seed, *, n_slides=5, most_spots=6):
    """Slides in any order, with rows between them that belong to none, and everything missing somewhere."""
    rng = np.random.default_rng(seed)

    def one(*values):
        return values[rng.integers(len(values))]

    slides, rows, at = [], [], 0
    for number in range(n_slides):
        slide_id = f"S{number}" if number != 1 else "S0:b"  # its spots begin like those of S0
        slide = {
            name: one(*TEXTS) for name in ("patient_id", "organ", "disease", "species", "platform")
        }
        slide |= {
            "slide_id": slide_id,
            "mpp": one(*NUMBERS, NAN),
            "n_spots": one(*range(most_spots + 1)),
        }
        at += one(0, 0, 2)
        slide["first_spot"] = at
        at += slide["n_spots"]
        measured = [gene for gene in GENES if one(True, True, False)]
        slides.append(slide)
        rows.append([])
        for i in range(slide["n_spots"]):
            row = {name: one(*NUMBERS, -0.0, NAN) for name in SPOT_NUMBERS}
            row |= {
                ("label", "region"): one(*TEXTS, None),
                ("label", "grade"): one(*NUMBERS, *TEXTS, None),
            }
            for gene in GENES:
                row["expr", gene] = one(*NUMBERS) if gene in measured else NAN
                row["count", gene] = one(*NUMBERS) if gene in measured else NAN
            row |= {"barcode": f"b{i}", "spot_id": f"{slide_id}:b{i}"}
            rows[-1].append(slide | row)
    order = rng.permutation(n_slides)
    frame = pd.DataFrame([slides[i] for i in order])
    return World(frame, [rows[i] for i in order], at + one(0, 3))
