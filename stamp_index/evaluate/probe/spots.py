"""Which spots of a store a probe is run on, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.evaluate.probe.errors import ProbeError
from stamp_index.evaluate.probe.splits import Places, sample_evenly
from stamp_index.store.label_classes import class_name, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.settings import Features, ProbeSettings
    from stamp_index.store.schema import Modality
    from stamp_index.store.view import StoreView

MAX_CLASSES: Final = 100  # more are measurements, not classes


@dataclass(frozen=True)
class ProbeSpots:
    """Spots with what a probe is to tell of them.

    Attributes
    ----------
    rows : ndarray of shape (n,), int64
        Row ids, ascending.
    truth : ndarray of shape (n,)
        Number of the class (int64), or log1p of counts per 10,000 (float64).
    classes : tuple of str
        Names of the classes, sorted; none for a gene.
    table : DataFrame
        slide_id, patient_id, x_um, y_um of the spots.
    places : Places
    notes : tuple of str
        Which spots were left out, and why.
    """

    rows: NDArray[np.int64]
    truth: NDArray[Any]
    classes: tuple[str, ...]
    table: pd.DataFrame
    places: Places
    notes: tuple[str, ...] = field(default=())

    @property
    def class_of(self) -> NDArray[np.int64] | None:
        """Class of each spot, or None for a gene."""
        return self.truth if self.classes else None

    def sampled(self, settings: ProbeSettings) -> ProbeSpots:
        """At most as many spots as the settings allow, in proportion by group and class."""
        n, most = len(self.rows), settings.max_spots
        if most is None or n <= most:
            return self
        by = "slide" if settings.split == "spot" else settings.split
        kind = self.truth if self.classes else np.zeros(n, np.int64)
        at = sample_evenly(np.column_stack([self.places.groups(by), kind]), most, settings.seed)
        note = f"{most:,} of {n:,} spots were used, a random sample in proportion by {by}{' and class' * bool(self.classes)}."
        return replace(
            self,
            rows=self.rows[at],
            truth=self.truth[at],
            table=self.table.iloc[at].reset_index(drop=True),
            places=self.places.at(at),
            notes=(*self.notes, note),
        )


def find_spots(
    store: StoreView, settings: ProbeSettings, labels: Mapping[int, str] | None = None
) -> ProbeSpots:
    """Spots that have the embeddings and the target that are asked for.

    Raises
    ------
    QueryError
        If there is no such slide or label, or `labels` names rows that the store does not have.
    MissingGenesError
        If no slide measured the gene.
    ProbeError
        If no spot has what is needed.
    """
    notes: list[str] = []
    rows = _with_embeddings(store, settings, _rows_of(store, settings), notes)
    known, classes, truth = (
        _expression(store, settings.gene, rows, notes)
        if settings.gene
        else _numbered_classes(_class_text(store, settings, rows, labels), settings, notes)
    )
    rows = rows[known]
    table = store.spots(("slide_id", "patient_id", "x_um", "y_um"), rows)
    places = Places(
        pd.factorize(table["slide_id"], sort=True)[0].astype(np.int64),
        pd.factorize(table["patient_id"].fillna(""), sort=True)[0].astype(np.int64),
        table[["x_um", "y_um"]].to_numpy(np.float64),
        settings.block_um,
    )
    return ProbeSpots(rows, truth[known], classes, table, places, tuple(notes))


def read_features(
    store: StoreView, features: Features, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Embeddings (n, d) of unit length, "both" next to each other (n, 2 d).

    Raises
    ------
    ProbeError
        If a number is not finite.
    """
    parts = []
    for modality in _modalities(features):
        vectors = store.vectors(modality, rows).astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            spot = store.spots(("spot_id",), rows[bad[:1]])["spot_id"].iloc[0]
            msg = (
                f"The {modality} embeddings of {len(bad):,} spots hold numbers that are not finite, first at "
                f"'{spot}'. Embed their slides again."
            )
            raise ProbeError(msg)
        # Half precision is off unit length by up to 5e-4.
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        parts.append(vectors / np.maximum(length, np.float32(1e-12)))
    return np.concatenate(parts, axis=1)


def _modalities(features: Features) -> tuple[Modality, ...]:
    return ("image", "gene") if features == "both" else (features,)


def _rows_of(store: StoreView, settings: ProbeSettings) -> NDArray[np.int64]:
    """Rows of the slides that are asked for."""
    from stamp_index.genes import close_names

    held = list(store.slides()["slide_id"])
    if not held:
        msg = f"The store at {store.place} has no slides yet, so there is nothing to probe. Add some first."
        raise ProbeError(msg)
    if settings.slides is None:
        return store.rows()
    for name in settings.slides:
        if name not in held:
            near = ", ".join(close_names(name, held) or held[:5])
            msg = f"There is no slide '{name}' in the store at {store.place}. Close names: {near}."
            raise QueryError(msg)
    mask = store.mask_of(np.isin(held, settings.slides))
    return np.flatnonzero(mask).astype(np.int64)


def _with_embeddings(
    store: StoreView, settings: ProbeSettings, rows: NDArray[np.int64], notes: list[str]
) -> NDArray[np.int64]:
    """Rows that have every embedding asked for."""
    has = np.ones(len(rows), np.bool_)
    for modality in _modalities(settings.features):
        has &= store.has_vector(modality)[rows]
    kinds = " and ".join(_modalities(settings.features))
    _leave_out(has, f"{kinds} embeddings of encoder '{store.encoder}'", notes)
    return rows[has]


def _leave_out(kept: NDArray[np.bool_], what: str, notes: list[str]) -> None:
    """Note how many spots lack something; refuse where none is left."""
    lost = int((~kept).sum())
    if lost == len(kept):
        msg = (
            f"There is nothing to probe: {len(kept):,} spots, and none with {what}. Choose other slides, or "
            f"something that these slides have."
        )
        raise ProbeError(msg)
    if lost:
        notes.append(f"{lost:,} of {len(kept):,} spots were left out: they have no {what}.")


def _expression(
    store: StoreView, gene: str, rows: NDArray[np.int64], notes: list[str]
) -> tuple[NDArray[np.bool_], tuple[str, ...], NDArray[np.float64]]:
    """Which spots were measured, no classes, and log1p of counts per 10,000."""
    values = store.expression([gene], rows)[:, 0].astype(np.float64)
    known = np.isfinite(values)
    _leave_out(known, f"measurement of {gene}", notes)
    return known, (), values


def _class_text(
    store: StoreView,
    settings: ProbeSettings,
    rows: NDArray[np.int64],
    labels: Mapping[int, str] | None,
) -> pd.Series[Any]:
    """Class of each row as text, None where it has none."""
    if labels is None:
        values = store.label(str(settings.label), rows)
    else:
        _check_drawn(store, labels)
        values = pd.Series([labels.get(int(row)) for row in rows], dtype=object)
    named = pd.Series([_text(value) for value in values], dtype=object)
    return named.where(named.notna(), None)


def _check_drawn(store: StoreView, labels: Mapping[int, str]) -> None:
    """Refuse labels of rows that are not there."""
    held = store.rows()
    asked = np.fromiter(labels, np.int64, len(labels))
    gone = asked[~np.isin(asked, held)]
    if len(gone):
        msg = (
            f"{len(gone):,} of the {len(asked):,} labelled rows are not in the store at {store.place}, first row "
            f"{gone[0]}. Draw the labels again on its present slides."
        )
        raise QueryError(msg)


def _text(value: object) -> str | None:
    """Write a class as text; None for what is missing."""
    if value is None or value != value:  # NaN
        return None
    return class_name(value).strip() or None


def _numbered_classes(
    text: pd.Series[Any], settings: ProbeSettings, notes: list[str]
) -> tuple[NDArray[np.bool_], tuple[str, ...], NDArray[np.int64]]:
    """Which spots take part, names of the classes, and number of each spot's class (-1 of the others)."""
    known = text.notna().to_numpy()
    _leave_out(known, f"label '{settings.label}'", notes)
    held = in_order(set(text[known]))
    if settings.classes is not None:
        unknown = [name for name in settings.classes if name not in held]
        if unknown:
            msg = (
                f"Label '{settings.label}' has no class {', '.join(map(repr, unknown))} on these spots; its classes "
                f"are {', '.join(map(repr, held[:20]))}."
            )
            raise ProbeError(msg)
        other = known & ~text.isin(settings.classes).to_numpy()
        if other.any():
            notes.append(f"{int(other.sum()):,} spots of other classes were left out.")
        known, held = known & ~other, in_order(set(settings.classes))
    if len(held) > MAX_CLASSES:
        msg = (
            f"Label '{settings.label}' has {len(held):,} different values, such as {held[0]!r}; a probe tells at most "
            f"{MAX_CLASSES} classes apart. Choose a label with classes, or name some with `classes`."
        )
        raise ProbeError(msg)
    number = {name: place for place, name in enumerate(held)}
    codes = np.array([number.get(name, -1) for name in text], np.int64)
    return known, tuple(held), codes
