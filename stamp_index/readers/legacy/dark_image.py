"""HER2ST's small app images: background blacked out and an annotated overview pasted in a corner.

Both would be taken for tissue, so they are painted white. At 2000 px width the overview fills x > 1480,
y < 560, where there are no spots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.slides import ArrayImage, open_image

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.slides import SlideImage

SUFFIX: Final = "_HE_image_dark.png"
_CORNER: Final = (1480 / 2000, 560 / 2000)  # left edge, and bottom as a share of the width
_BLACK: Final = 3  # largest channel value of the painted background
_WHITE: Final = 255


class DarkImage(ArrayImage):
    """An app image with its background and corner painted white.

    Parameters
    ----------
    path : Path
        ``<section>_HE_image_dark.png``.
    """

    def __init__(self, path: Path) -> None:
        source = open_image(path)
        width, height = source.size_px
        pixels = source.read_box(0, 0, (width, height), (width, height)).copy()
        pixels[: round(_CORNER[1] * width), round(_CORNER[0] * width) :] = 0
        self._is_background = pixels.max(axis=2) <= _BLACK  # (h, w)
        pixels[self._is_background] = _WHITE
        super().__init__(pixels, uri=str(path))
        self._file_hash = source.content_hash()

    def content_hash(self) -> str:
        """SHA-256 of the file's bytes, as hex."""
        return self._file_hash

    def share_on_tissue(self, xy_px: NDArray[np.float64]) -> float:
        """Share of positions (n, 2) that lie inside the image and off the painted background."""
        height, width = self._is_background.shape
        x, y = np.floor(xy_px).astype(np.int64).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        on_tissue = ~self._is_background[y[inside], x[inside]]
        return float(on_tissue.sum() / max(len(xy_px), 1))


def open_section_image(path: Path) -> SlideImage:
    """Open a section's image; app images are cleaned on the way."""
    return DarkImage(path) if path.name.endswith(SUFFIX) else open_image(path)


def tissue_note(image: SlideImage | None, spots: pd.DataFrame) -> list[str]:
    """Return a note where many spots of an app image lie on its blacked-out background.

    Parameters
    ----------
    image : SlideImage or None
        Only app images know where their background is.
    spots : DataFrame
        With ``x_px`` and ``y_px`` in the image's pixels.

    Returns
    -------
    list of str
        Empty, or one note.
    """
    if not isinstance(image, DarkImage):
        return []
    share = image.share_on_tissue(spots[["x_px", "y_px"]].to_numpy(dtype=np.float64))
    # A1, which is registered, has all its spots on tissue; A2, which is shifted, about 80 %.
    if share >= 0.95:
        return []
    return [
        f"Only {share:.0%} of the spots lie on tissue: image and spots are probably shifted against "
        "each other, so do not train on this section's patches."
    ]
