"""What was found of a store's domains."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stamp_index.evaluate.domains.spaces import COORDINATES, EXPRESSION, RANDOM

if TYPE_CHECKING:
    import pandas as pd

_TEXT: Final = (
    "Clusters of all labelled spots against the label, as many clusters as there are classes. Numbers are means over "
    "{n_seeds} seeds, sd is their sample standard deviation.\n\nARI is 1 for the same parts and about 0 for random ones. "
    "Coherence, the share of a spot's nearest spots in its own cluster, tells how patchy clusters are, not whether they "
    "are right. Rows over different slides (n slides, N) do not compare."
)
_KIND: Final = ("features", "method", "smoothing")
_BASELINES: Final = (EXPRESSION, COORDINATES, RANDOM)
_DIGITS: Final = 3  # as tables of DLPFC have it


def _score(name: str, title: str | None = None) -> dict[str, Any]:
    return {"name": name, "title": title or name, "digits": _DIGITS}


_SUMMARY: Final = (
    *_KIND,
    {"name": "n_slides", "title": "n slides"},
    *(_score("ARI"), _score("NMI")),
)
_ROWS: Final = (
    *("scope", "on", *_KIND, _score("own_weight", "own weight"), "N"),
    {"name": "n_classes", "title": "classes"},
    {"name": "n_clusters", "title": "clusters"},
    *(_score("ARI"), _score("ARI_sd", "sd"), _score("NMI"), _score("NMI_sd", "sd")),
    *(_score("coherence"), _score("label_coherence", "of the label")),
)


@dataclass(frozen=True)
class DomainReport:
    """What `evaluate_domains` found.

    Attributes
    ----------
    settings : dict
        What was asked: label, exclude, features, methods, smoothing_um, seeds.
    source : dict
        store_id, store_version, encoder, fingerprint; and spots_hash, of the row ids and their classes: two reports with the
        same one were compared with the same labels.
    rows : tuple of dict
        One for each slide or patient (``scope``, ``on``), kind of vectors (``features``, ``baseline``), ``method`` and
        ``smoothing`` (with a spot's own weight in the mean, ``own_weight``): ``N`` spots on ``n_slides``, ``n_classes`` (the
        number of clusters wanted), ``n_clusters`` (mean number found); ``ARI``, ``NMI``, ``homogeneity``,
        ``completeness`` as means over seeds, ``ARI_sd``, ``NMI_sd`` as sample standard deviations (None with one seed);
        and for context ``coherence`` of the clusters and ``label_coherence`` of the labels (`spatial_coherence`; None
        without positions).
    notes : tuple of str
        What was left out, and why.
    """

    settings: dict[str, Any]
    source: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    def with_baseline(self, other: DomainReport, name: str) -> DomainReport:
        """Add the image rows of a report on the same slides as a baseline of that name."""
        rows = [
            {**row, "features": name, "baseline": True}
            for row in other.rows
            if row["features"] == "image"
        ]
        return replace(self, rows=(*self.rows, *rows))

    def summary(self) -> list[dict[str, Any]]:
        """Mean of each kind of vectors, method and smoothing over the slides, as tables of DLPFC have it."""
        import pandas as pd

        by = ["features", "baseline", "method", "smoothing"]
        single = [row for row in self.rows if row["scope"] == "slide"]
        # A slide may lack what others have, so the order of appearance is not that of the kinds.
        first = self.settings["features"]
        other = [
            row["features"] for row in self.rows if row["features"] not in (*first, *_BASELINES)
        ]
        kinds = [*first, *dict.fromkeys(other), *_BASELINES]
        single.sort(key=lambda row: kinds.index(row["features"]))
        table = pd.DataFrame(single)
        grouped = table.groupby(by, sort=False)
        out = grouped[["ARI", "NMI"]].mean()
        out.insert(0, "n_slides", grouped.size())
        rows: list[dict[str, Any]] = json.loads(
            out.reset_index().to_json(orient="records", double_precision=15)
        )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "settings": self.settings,
            "source": self.source,
            "rows": list(self.rows),
            "summary": self.summary(),
            "notes": list(self.notes),
        }

    def section(self) -> dict[str, Any]:
        """Write it as a section of a page (`stamp_index.evaluate.html.render_html`)."""
        return {
            "title": f"Spatial domains: {self.settings['label']}",
            "text": _TEXT.format(n_seeds=len(self.settings["seeds"])),
            "tables": [
                {"columns": _SUMMARY, "rows": self.summary(), "caption": "Mean over slides."},
                {"columns": _ROWS, "rows": list(self.rows), "caption": "Each slide and patient."},
            ],
            "plots": [
                {
                    "kind": "bars_with_interval",
                    "data": _bars(self.summary()),
                    "caption": "ARI without smoothing, mean over slides.",
                }
            ],
        }

    def to_pandas(self) -> pd.DataFrame:
        """Give the rows as a table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))


def _bars(summary: list[dict[str, Any]]) -> dict[str, Any]:
    """Bars of the rows without smoothing: a group for each kind of vectors, a series for each method."""
    plain = [row for row in summary if row["smoothing"] == "none" and row["method"] != "none"]
    value = {(row["features"], row["method"]): row["ARI"] for row in plain}
    n_slides = {row["features"]: row["n_slides"] for row in plain}
    methods = list(dict.fromkeys(row["method"] for row in plain))
    series = [
        {"name": method, "values": [value.get((label, method)) for label in n_slides]}
        for method in methods
    ]
    labels = [f"{name}, {n} slide{'s' * (n != 1)}" for name, n in n_slides.items()]
    return {"labels": labels, "series": series, "chance": 0.0, "x_label": "ARI, mean over slides"}
