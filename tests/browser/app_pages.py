"""Running the app without a browser: shared by the page tests."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from tests.support import TOY_MPP

if TYPE_CHECKING:
    from stamp_index.store import Store

AppTest = pytest.importorskip("streamlit.testing.v1").AppTest

TOY_APP = Path(__file__).with_name("toy_app.py")
TEST_STORE = "store of the test"  # read by toy_app
PAGES = {name: f"../../app/app_pages/{name}.py" for name in ("slides", "genes", "image", "regions")}
IMAGE_PAGE, GENE_PAGE = PAGES["image"], PAGES["genes"]


def start(store: Store | Path | None, page: str | None = None, **query: str | list[str]) -> AppTest:
    """Run the app over a store; `query` is what the address carries."""
    at = AppTest.from_file(str(TOY_APP), default_timeout=60)
    at.session_state[TEST_STORE] = None
    run(at)  # the first page without a store: nothing of it stays behind
    at.session_state[TEST_STORE] = None if store is None else str(getattr(store, "path", store))
    at.switch_page(page or GENE_PAGE)
    for name, value in query.items():
        at.query_params[name] = value
    return run(at)


def slides_page(store: Store | Path, **query: str) -> AppTest:
    """Run the app on the page that it opens on; `query` is what the address carries."""
    at = AppTest.from_file(str(TOY_APP), default_timeout=60)
    at.session_state[TEST_STORE] = str(getattr(store, "path", store))
    for name, value in query.items():
        at.query_params[name] = value
    return run(at)


def run(at: AppTest) -> AppTest:
    """Run the page again; an exception on it fails the test."""
    at.run()
    assert not at.exception, at.exception
    return at


def component(at: AppTest, name: str) -> dict:
    """Data that a component was given."""
    found = [c.proto for c in at.get("bidi_component") if c.proto.component_name == f"stamp_{name}"]
    assert len(found) == 1, f"{len(found)} components named {name}"
    return json.loads(found[0].json)


def tiles(at: AppTest) -> list[dict]:
    return component(at, "gallery")["tiles"]


def chips(at: AppTest) -> list[str]:
    """Terms of the query bar, as they would be typed."""
    words = {1: "high", -1: "low"}
    terms = component(at, "query_bar")["terms"]
    return [f"{term['gene']} {words.get(term['weight'], term['weight'])}" for term in terms]


def edit(at: AppTest, text: str, key: str = "genes") -> AppTest:
    """Edit a query bar as a user does."""
    at.session_state[key] = {"said": {"n": uuid4().hex, "text": text}}
    return run(at)


def paste(at: AppTest, text: str, pasted: str) -> AppTest:
    """Paste a list into the query bar, which has `text`."""
    at.session_state["genes"] = {"pasted": {"n": uuid4().hex, "text": text, "pasted": pasted}}
    return run(at)


def html(at: AppTest) -> str:
    return "\n".join(element.proto.body for element in at.get("html"))


def errors(at: AppTest) -> str:
    return "\n".join(e.value.replace("\\", "") for e in at.error)


def infos(at: AppTest) -> str:
    return "\n".join(one.value.replace("\\", "") for one in at.info)


def markdown(at: AppTest) -> str:
    return "\n".join(m.value.replace("\\", "") for m in at.markdown)


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def crop(slide, row: int, width_um: float) -> np.ndarray:
    """Level-0 pixels around a spot, wide enough for `width_um`."""
    side = int(np.ceil(width_um / TOY_MPP))
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[row]
    return slide.image.read(x - side / 2, y - side / 2, side, side)


def upload(at: AppTest, data: bytes, name: str = "query.png", mpp: float = TOY_MPP) -> AppTest:
    at.number_input(key="mpp").set_value(mpp)
    at.file_uploader(key="upload").set_value((name, data, "image/png"))
    return run(at)
