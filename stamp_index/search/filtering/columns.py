"""What a filter reads of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


class Columns(Protocol):
    """The columns of a store at one version.

    Every `slides` argument holds positions in the table `slides`. What is read of several slides
    is one array: the spots of the first slide in their order, then those of the second, and so on.
    """

    @property
    def slides(self) -> pd.DataFrame:
        """One row per slide that is not deleted.

        Columns are slide_id, patient_id, organ, disease, species, platform (text, "" for unknown),
        mpp (float), first_spot and n_spots (int): the slide's rows are first_spot to
        first_spot + n_spots. There may be rows between that belong to no slide.
        """

    @property
    def n_rows(self) -> int:
        """Row numbers are 0 to n_rows - 1."""

    @property
    def label_names(self) -> Collection[str]:
        """Names of all labels."""

    def label_texts(self, name: str) -> tuple[Collection[str], bool]:
        """Every text that a label of `label_names` says anywhere, and whether it is a number somewhere."""

    def resolve_gene(self, name: str) -> str:
        """Find the store's symbol of a gene.

        Raises
        ------
        MissingGenesError
            If no slide measured it; close names are given.
        QueryError
            If the name means several genes.
        """

    def numbers(self, name: str, slides: NDArray[np.int64]) -> NDArray[np.float64]:
        """Read a number column of the spots; NaN where it is missing."""

    def text(self, name: str, slides: NDArray[np.int64]) -> NDArray[np.object_]:
        """Column barcode or spot_id as strings."""

    def genes(
        self, gene: str, kind: Literal["expr", "count"], slides: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Log1p of counts per 10,000, or raw counts; NaN on slides that did not measure the gene."""

    def label(
        self, name: str, slides: NDArray[np.int64]
    ) -> Sequence[str | float | None] | NDArray[Any]:
        """Values of a label; None where a spot has none."""
