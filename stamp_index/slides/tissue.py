"""Where a slide has tissue, and where that tissue is under ink, out of focus or folded."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from stamp_index.slides.artefacts import find_blur, find_folds, find_ink
from stamp_index.slides.glass import balance, brightest, darkest, saturation
from stamp_index.slides.regions import drop_mostly, drop_small, fill_small_holes, share_of_squares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stamp_index.slides.images import SlideImage

# A slide of 22 x 22 mm at 8 um/px; a larger one gets a coarser mask. Finding it takes some 30 bytes a pixel.
MAX_MASK_PX: Final = 8_000_000
_MIN_LOG: Final = 0.01  # saturations below it are noise of 8 bits
_COLOURS: Final = {"pen": (0, 90, 255), "blur": (255, 170, 0), "fold": (220, 0, 0)}


@dataclass(frozen=True)
class TissueSettings:
    """Thresholds of the tissue mask and of its checks. Colours are measured after division by the glass's own.

    Attributes
    ----------
    mpp : float
        Microns per pixel of the mask; coarser where the image is.
    min_saturation, max_saturation : float
        Bounds of the threshold that Otsu's method finds: below the first, a slide without tissue would
        be split at its noise; above the second, one that is all tissue would lose its paler half.
    min_colour : float
        Saturation as a share of the light that is absorbed; shadows, print and dust are grey and have less.
    max_even : float
        A piece is a shadow, such as a printed frame's below the glass, if a larger share has no texture.
    black : int
        Pixels whose channels all are at most this are painted, not seen.
    smooth_um : float
        Sigma of the Gaussian by which saturation is smoothed.
    max_hole_um2, min_object_um2 : float
        Smaller holes are filled, and smaller pieces dropped.
    ink_saturation, ink_black : float
        Ink is at least as saturated as the first, or, black ink, at most as bright as the second.
    min_ink_um2 : float
        Smaller marks are pigment or dust.
    fold_excess : float
        Saturation minus brightness above the tissue's median in a fold.
    min_fold_um2 : float
        Smaller spots are nuclei and vessels.
    blur_mpp, blur_cell_um : float
        Focus is measured at the first (microns per pixel) in squares of the second.
    blur_ratio : float
        Out of focus is a square whose variance of the Laplacian, as a share of its contrast, is below
        this part of the slide's median.
    blur_max_mpp : float
        Images coarser than this show no focus.
    min_tissue : float
        Places with a smaller share of tissue are glass.
    max_pen, max_blur : float
        Places with a larger share of ink, or whose tissue is out of focus to a larger share, are dropped.
    """

    mpp: float = 8.0
    min_saturation: float = 0.035
    max_saturation: float = 0.06
    min_colour: float = 0.2
    max_even: float = 0.6
    black: int = 12
    smooth_um: float = 8.0
    max_hole_um2: float = 40_000.0
    min_object_um2: float = 40_000.0
    ink_saturation: float = 0.45
    ink_black: float = 0.35
    min_ink_um2: float = 40_000.0
    fold_excess: float = 0.45
    min_fold_um2: float = 5_000.0
    blur_mpp: float = 2.0
    blur_cell_um: float = 128.0
    blur_ratio: float = 0.2
    blur_max_mpp: float = 4.0
    min_tissue: float = 0.25
    max_pen: float = 0.1
    max_blur: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                msg = f"{field.name} is {value}; expected a number of 0 or more."
                raise ValueError(msg)
        if min(self.mpp, self.blur_mpp, self.blur_cell_um) <= 0:
            msg = "mpp, blur_mpp and blur_cell_um must be above 0."
            raise ValueError(msg)
        if self.min_saturation > self.max_saturation:
            msg = (
                f"min_saturation is {self.min_saturation}, above max_saturation, which is "
                f"{self.max_saturation}."
            )
            raise ValueError(msg)

    def as_parameters(self) -> Mapping[str, float]:
        """Every threshold, its name led by ``tissue_``."""
        return {f"tissue_{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class TissueMask:
    """Where a slide has tissue, as arrays of shape (h, w) that cover the whole image.

    Attributes
    ----------
    tissue : ndarray of bool
        Tissue that can be seen: ink is taken out.
    pen, blur, fold : ndarray of bool
        Ink (on tissue and on glass), tissue out of focus, and folded tissue.
    mpp : float
        Microns per pixel of the arrays.
    size_px : (int, int)
        Width and height of the image in level-0 pixels.
    threshold : float
        Saturation above which tissue begins.
    flags : tuple of str
        What is out of the ordinary, such as ``"no glass"``; empty for a clean slide.
    """

    tissue: NDArray[np.bool_]
    pen: NDArray[np.bool_]
    blur: NDArray[np.bool_]
    fold: NDArray[np.bool_]
    mpp: float
    size_px: tuple[int, int]
    threshold: float
    flags: tuple[str, ...] = ()

    @property
    def tissue_mm2(self) -> float:
        """Area of the tissue."""
        return float(self.tissue.sum()) * self.mpp**2 / 1e6

    def share(
        self,
        x_px: NDArray[np.floating],
        y_px: NDArray[np.floating],
        width_px: float,
        *,
        of: Literal["tissue", "pen", "blur", "fold"] = "tissue",
    ) -> NDArray[np.float32]:
        """Share of squares that is tissue, or ink, out of focus or folded.

        Parameters
        ----------
        x_px, y_px : ndarray of shape (n,)
            Centres in level-0 pixels; what lies outside the image counts as glass.
        width_px : float
            Width of the squares in level-0 pixels, above 0.
        of : {"tissue", "pen", "blur", "fold"}
            Which of the arrays.

        Returns
        -------
        ndarray of shape (n,), float32
            Between 0 and 1; pixels of the mask that are cut by a square count in part.
        """
        array: NDArray[np.bool_] = getattr(self, of)
        per_px = (array.shape[1] / self.size_px[0], array.shape[0] / self.size_px[1])
        return share_of_squares(array, (x_px, y_px), width_px, per_px)

    def to_overlay(self, thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Paint the mask on a picture of the whole slide.

        Parameters
        ----------
        thumbnail : ndarray of shape (h, w, 3), uint8
            Such as `SlideImage.overview` gives; of any size.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8
            Glass is lightened, the tissue's outline green, ink blue, blur orange, folds red.
        """
        from scipy.ndimage import binary_erosion

        tissue = _resized(self.tissue, thumbnail.shape)
        out = thumbnail.copy()
        out[~tissue] = 128 + thumbnail[~tissue] // 2
        for name, colour in _COLOURS.items():
            here = _resized(getattr(self, name), thumbnail.shape)
            out[here] = (out[here].astype(np.uint16) + np.array(colour, dtype=np.uint16)) // 2
        out[tissue & ~binary_erosion(tissue, iterations=2)] = (0, 160, 0)
        return out


def tissue_mask(
    image: SlideImage, mpp: float, *, settings: TissueSettings | None = None
) -> TissueMask:
    """Find tissue on an H&E slide: Otsu's threshold on saturation against the slide's own glass.

    Parameters
    ----------
    image : SlideImage
        Read at some 8 um/px, and its tissue once more at 2 um/px for focus; never as a whole.
    mpp : float
        Microns per level-0 pixel, above 0.
    settings : TissueSettings, optional
        Thresholds.

    Returns
    -------
    TissueMask
        Empty where the slide is bare glass or has no colours.

    Raises
    ------
    ImageFormatError
        If pixels cannot be decoded.
    ValueError
        If `mpp` is not above 0.
    """
    if not (math.isfinite(mpp) and mpp > 0):
        msg = f"mpp is {mpp}; expected microns per pixel above 0."
        raise ValueError(msg)
    settings = settings or TissueSettings()
    width, height = image.size_px
    mask_mpp = max(settings.mpp, mpp, mpp * math.sqrt(width * height / MAX_MASK_PX))
    pixels = image.overview(max(1, round(max(width, height) * mpp / mask_mpp)))
    mask_mpp = mpp * math.sqrt(width * height / (pixels.shape[0] * pixels.shape[1]))
    painted = drop_small(brightest(pixels) <= settings.black, settings.min_object_um2 / mask_mpp**2)
    balanced = balance(pixels, painted, mask_mpp)
    pen = find_ink(balanced.pixels, mask_mpp, settings)
    tissue, threshold = _stained(balanced.pixels, mask_mpp, settings)
    tissue = fill_small_holes(tissue & ~pen, settings.max_hole_um2 / mask_mpp**2) & ~pen & ~painted
    tissue = drop_small(tissue, settings.min_object_um2 / mask_mpp**2)
    tissue = drop_mostly(tissue, balanced.even, settings.max_even)
    fold = find_folds(balanced.pixels, tissue, mask_mpp, settings)
    blur = find_blur(image, tissue, mpp, settings)
    found = {
        "no glass": not balanced.has_glass,
        "painted background": bool(painted.any()),
        "pen": bool(pen.any()),
        "out of focus": bool(blur.any()),
        "folds": bool(fold.any()),
        "too coarse to tell focus": mpp > settings.blur_max_mpp,
    }
    return TissueMask(
        tissue=tissue,
        pen=pen,
        blur=blur,
        fold=fold,
        mpp=mask_mpp,
        size_px=image.size_px,
        threshold=threshold,
        flags=tuple(name for name, is_so in found.items() if is_so),
    )


def _stained(
    balanced: NDArray[np.uint8], mpp: float, settings: TissueSettings
) -> tuple[NDArray[np.bool_], float]:
    """Return what is more saturated than Otsu's threshold, kept within its bounds.

    The threshold is of the logarithm: of the values themselves it would part dark tissue from pale.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    values = gaussian_filter(saturation(balanced), settings.smooth_um / mpp)
    absorbed = 1 - darkest(balanced) / np.float32(255)
    absorbed = gaussian_filter(absorbed, settings.smooth_um / mpp)
    values[values < settings.min_colour * absorbed] = 0
    logarithm = np.log(np.maximum(values, _MIN_LOG))
    varies = float(logarithm.min()) < float(logarithm.max())
    otsu = math.exp(threshold_otsu(logarithm)) if varies else 0.0  # type: ignore[no-untyped-call]
    threshold = min(max(otsu, settings.min_saturation), settings.max_saturation)
    return values > threshold, threshold


def _resized(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    rows = np.arange(shape[0]) * mask.shape[0] // shape[0]
    columns = np.arange(shape[1]) * mask.shape[1] // shape[1]
    return mask[np.ix_(rows, columns)]
