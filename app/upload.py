"""The query picture: an upload that was opened safely, or the patch of a stored spot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from PIL import Image

from app import components, drawing
from app.decoded import decode
from app.facts import slide_name, spot_facts
from app.markup import facts, plain
from app.slide_views import slide_view
from stamp_index.errors import ImageFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.stores import Opened

MAX_UPLOAD_MB = 20
SHOWN_PX = 720
MAX_SPOT_ID = 300
USUAL_MPP = (0.2, 1.1)
MARGIN = 0.1  # around the region, as a share of its width: resampling looks a little beyond
MPP_NEAR = 1.25  # factor within which a pixel size is called that of a slide


@dataclass(frozen=True)
class QueryPicture:
    """What is searched with.

    Attributes
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        What the encoder may look at, and a little around it: the answer is that of the whole file.
    centre_of_pixels : (float, float)
        Middle of the patch in `pixels`.
    mpp : float
        Microns per pixel.
    file_name : str
    centre_px : (float, float)
        Middle of the patch in the file.
    patch : ndarray of shape (s, s, 3), uint8
        The part of `pixels` that is the patch itself.
    """

    pixels: NDArray[np.uint8]
    centre_of_pixels: tuple[float, float]
    mpp: float
    file_name: str
    centre_px: tuple[float, float]
    patch: NDArray[np.uint8]


def uploaded(opened: Opened) -> QueryPicture | None:
    """Ask for a file, its pixel size and the place of the patch on it."""
    file = st.file_uploader(
        "H&E picture (PNG, JPEG or TIFF)",
        type=["png", "jpg", "jpeg", "tif", "tiff"],
        max_upload_size=MAX_UPLOAD_MB,
        key="upload",
    )
    mpp = st.number_input(
        "Pixel size (µm per pixel)",
        min_value=0.05,
        max_value=20.0,
        value=None,  # never guessed
        step=0.05,
        placeholder="such as 0.25",
        format="%.3f",
        key="mpp",
        bind="query-params",
        help="0.25 is about 40x, 0.5 about 20x, 1.0 about 10x. It decides how much tissue is seen.",
    )
    st.caption(
        f"At most {MAX_UPLOAD_MB} MB. The picture stays in this server's memory for your session "
        "and is never written to disk."
    )
    if mpp is not None and _is_unusual(mpp, opened):
        st.warning(
            f"{mpp:g} µm per pixel is outside 0.25 to 1.0, where scans of H&E usually lie, and no "
            "slide of this store has it. With a wrong pixel size the hits mean nothing."
        )
    if file is None:
        return None
    try:
        with st.spinner("Opening the picture …"):
            image = decode(file.getvalue(), st.session_state)
    except ImageFormatError as error:
        st.error(plain(f"{file.name} was not read. {error}"))
        return None
    if mpp is None:
        st.info(
            "Give the pixel size of your picture: microns that one of its pixels is wide. Scanners and QuPath tell it."
        )
        return None
    return _placed(image, mpp, opened, file.name)


def _is_unusual(mpp: float, opened: Opened) -> bool:
    near = (opened.slides["mpp"] / mpp).between(1 / MPP_NEAR, MPP_NEAR).any()
    return not (USUAL_MPP[0] <= mpp <= USUAL_MPP[1] or near)


def _placed(image: NDArray[np.uint8], mpp: float, opened: Opened, file_name: str) -> QueryPicture:
    """Let the user put the patch on the picture, and cut what the encoder looks at."""
    card = opened.store.card
    height, width = image.shape[:2]
    patch_px = math.ceil(card.patch_width_um / mpp)
    if patch_px > min(height, width):  # too small: the library's refusal names the widths
        middle = (width / 2, height / 2)
        return QueryPicture(image, middle, mpp, file_name, middle, image)
    key = components.short_key(image.shape, mpp, hash(image[::16, ::16].tobytes()))
    at = components.locator(
        drawing.data_uri(_shown(image)),
        key=key,
        at=(0.5, 0.5),
        half=(patch_px / width / 2, patch_px / height / 2),
        bar=drawing.scale_bar(width * mpp),
        texts=(
            "Your picture with a square around the patch that is searched",
            "Click, drag or use the arrow keys to move the patch",
        ),
    ) or (0.5, 0.5)
    reach = patch_px / 2
    centre = (
        min(max(at[0] * width, reach), width - reach),
        min(max(at[1] * height, reach), height - reach),
    )
    if patch_px < 0.97 * max(height, width):
        st.caption(
            f"The square is the patch, {card.patch_width_um:g} µm wide, centred at "
            f"{centre[0]:.0f}, {centre[1]:.0f} px. Click or drag it; arrow keys move it too."
        )
    return cut(image, centre, (patch_px, math.ceil(card.region_width_um / mpp)), (mpp, file_name))


def cut(
    image: NDArray[np.uint8],
    centre: tuple[float, float],
    sides_px: tuple[int, int],
    said: tuple[float, str],
) -> QueryPicture:
    """What the encoder looks at around a place: as much as patch and region need, and what their resampling sees.

    `sides_px` are those of patch and region, `said` pixel size and name of the file.
    """
    patch_px, region_px = sides_px
    reach = region_px / 2 + math.ceil(region_px * MARGIN) + 8
    left, top = (max(math.floor(at - reach), 0) for at in centre)
    right, bottom = (math.ceil(at + reach) for at in centre)
    mpp, name = said
    return QueryPicture(
        pixels=image[top:bottom, left:right],
        centre_of_pixels=(centre[0] - left, centre[1] - top),
        mpp=mpp,
        file_name=name,
        centre_px=centre,
        patch=drawing.square_crop(image, centre=centre, side_px=patch_px),
    )


def _shown(image: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
    return drawing.to_jpeg(picture)


def chosen_spot(opened: Opened) -> str:
    """Ask for a spot of the store: by its slide and a click on the overview, or by its id.

    The address carries the spot; the input and the slide follow it.
    """
    slide_ids = list(opened.slides.index)
    spot_id = st.query_params.get("spot", "").strip()[:MAX_SPOT_ID]
    slide_id = slide_of(spot_id, slide_ids)
    if not spot_id:
        spot_id = nearest_spot(opened, slide_id, (0.5, 0.5))
        take_spot(spot_id)
    st.session_state.update(of=slide_id, spot_id=spot_id)
    st.selectbox(
        "Slide",
        slide_ids,
        key="of",
        format_func=lambda name: slide_name(opened, name),
        on_change=_take_middle,
        args=(opened,),
    )
    st.text_input("Spot id", key="spot_id", on_change=_take_typed)
    return spot_id


def spot_on_overview(opened: Opened, spot_id: str) -> None:
    """Overview of the spot's slide; a click takes the nearest spot."""
    slide_id = slide_of(spot_id, list(opened.slides.index))
    view = slide_view(opened, slide_id)
    if view is None:
        st.caption(f"No overview is stored for slide {plain(slide_id)}: give the spot by its id.")
        return
    row = opened.store.row_of(spot_id)
    x_px, y_px = opened.store.spots(["x_px", "y_px"], rows=[row]).iloc[0]
    components.locator(
        drawing.data_uri(view.jpeg),
        key=components.short_key(opened.key, slide_id),
        at=view.share(float(x_px), float(y_px)),
        half=(0.0, 0.0),
        bar=view.bar(),
        texts=(
            f"Overview of slide {slide_id} with a ring at the query spot",
            "Click to take the nearest spot; arrow keys move the ring",
        ),
        on_move=lambda at: take_spot(nearest_spot(opened, slide_id, at)),
    )
    st.caption("Click the slide to take the nearest spot as the query.")


def spot_patch(opened: Opened, spot_id: str) -> None:
    """The query spot's own picture, and what is known about it."""
    row = opened.store.row_of(spot_id)
    jpeg = opened.store.thumbnails([row])[0]
    if jpeg is not None:
        width_um = opened.store.card.patch_width_um
        picture = drawing.data_uri(drawing.patch_picture(jpeg, width_um=width_um))
        caption = f"Query patch, {width_um:g} µm wide"
        st.image(picture, caption, width=190, alt=f"Patch of the query spot {spot_id}")
    slide_id = slide_of(spot_id, list(opened.slides.index))
    st.html(facts(spot_facts(opened, slide_id, row)))


def take_spot(spot_id: str) -> None:
    """Make a spot the query."""
    st.query_params["spot"] = spot_id


def _take_typed() -> None:
    take_spot(st.session_state["spot_id"])


def _take_middle(opened: Opened) -> None:
    take_spot(nearest_spot(opened, st.session_state["of"], (0.5, 0.5)))


def slide_of(spot_id: str, slide_ids: list[str]) -> str:
    """Slide that a spot id names; the first slide where it names none."""
    named = [slide_id for slide_id in slide_ids if spot_id.startswith(f"{slide_id}:")]
    return named[0] if named else slide_ids[0]


def nearest_spot(opened: Opened, slide_id: str, at: tuple[float, float]) -> str:
    """Spot nearest to a place given as shares of the slide's view."""
    slide = opened.slides.loc[slide_id]
    first, n = int(slide["first_spot"]), int(slide["n_spots"])
    spots = opened.store.spots(["spot_id", "x_px", "y_px"], rows=np.arange(first, first + n))
    view = slide_view(opened, slide_id)
    x, y = view.level0(at) if view else (spots["x_px"].mean(), spots["y_px"].mean())
    away = np.hypot(spots["x_px"] - x, spots["y_px"] - y)
    return str(spots["spot_id"].iloc[int(away.argmin())])
