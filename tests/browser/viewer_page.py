"""A page with nothing but the slide viewer, and a server of made-up slides for it."""

from __future__ import annotations

import io
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FRONTEND = Path(__file__).parents[2] / "app" / "frontend"
OPENSEADRAGON = FRONTEND / "node_modules/openseadragon/build/openseadragon/openseadragon.min.js"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html; charset=utf-8"}
TILE = 254
OVERLAP = 1

# Two viewers can be mounted beside each other, each in a shadow root of its own as Streamlit does it.
PAGE = """<!doctype html><html lang="en"><title>viewer</title><link rel="icon" href="data:,">
<style>html, body { margin: 0; height: 100% } body { display: flex; flex-direction: column }
#row { display: flex; flex: 1; min-height: 0; gap: 8px } #row > div { flex: 1; min-width: 0 }</style>
<body><input id="elsewhere" aria-label="elsewhere"><div id="row"></div>
<script src="/node_modules/openseadragon/build/openseadragon/openseadragon.min.js"></script>
<script type="module">
import { mount } from "/viewer/index.js";
const css = await (await fetch("/viewer/viewer.css")).text();
window.viewers = [];
window.told = [];
const transportOf = (slide, blobs) => ({
  ...(blobs
    ? { tile: async (level, col, row) => {
        const answer = await fetch(`/tile/${slide}/${level}/${col}_${row}`);
        if (answer.headers.get("content-type") !== "image/jpeg") throw new Error("no tile");
        return answer.blob();
      } }
    : { tileUrl: (level, col, row) => `/tile/${slide}/${level}/${col}_${row}` }),
  bytes: async (path) => {
    const answer = await fetch(`/bytes/${slide}/${path}`);
    const error = answer.headers.get("x-error");
    if (error) throw new Error(error);
    return { buffer: await answer.arrayBuffer(), meta: JSON.parse(answer.headers.get("x-meta")) };
  },
  json: async (path) => (await fetch(`/json/${slide}/${path}`)).json(),
});
window.mountViewer = (slide, data, { blobs = false, drawer = "canvas" } = {}) => {
  const host = document.createElement("div");
  document.getElementById("row").append(host);
  const shadow = host.attachShadow({ mode: "open" });
  const style = document.createElement("style");
  style.textContent = css;
  const root = document.createElement("div");
  root.style.height = "100%";
  shadow.append(style, root);
  const number = viewers.length;
  const tell = (name) => (value) => told.push({ number, name, value });
  const on = {};
  for (const name of ["lasso", "spot", "region", "state", "key"]) on[name] = tell(name);
  const viewer = mount(root, { OpenSeadragon, transport: transportOf(slide, blobs), drawer, on });
  viewers.push({ host, shadow, root, viewer });
  const ready = new Promise((done) => root.addEventListener("stamp-ready", done, { once: true }));
  viewer.update(data);
  return ready.then(() => number);
};
window.pageReady = true;
</script></body></html>"""


@dataclass
class FakeSlide:
    """A slide of the server: picture, spots and layers."""

    spots: NDArray[np.float32]  # (n, 2)
    picture: Image.Image | None = None
    mpp: float | None = 0.5
    diameter: float = 55.0
    shape: str = "circle"
    layers: dict[str, tuple[NDArray[np.uint16], dict[str, Any]]] = field(default_factory=dict)
    cards: dict[int, dict[str, Any]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # tiles "level/col_row" that are no picture

    @cached_property
    def levels(self) -> list[Image.Image]:
        """The picture at all levels of a Deep Zoom pyramid, the smallest first."""
        assert self.picture is not None
        pictures = [self.picture]
        while max(pictures[-1].size) > 1:
            width, height = pictures[-1].size
            pictures.append(
                pictures[-1].resize((-(-width // 2), -(-height // 2)), Image.Resampling.BOX)
            )
        return pictures[::-1]

    def tile(self, level: int, column: int, row: int) -> bytes:
        picture = self.levels[level]
        left = column * TILE - (OVERLAP if column else 0)
        top = row * TILE - (OVERLAP if row else 0)
        right = min((column + 1) * TILE + OVERLAP, picture.width)
        bottom = min((row + 1) * TILE + OVERLAP, picture.height)
        out = io.BytesIO()
        picture.crop((left, top, right, bottom)).save(out, "JPEG", quality=90)
        return out.getvalue()

    def data(self, key: str = "slide", **more: Any) -> dict[str, Any]:
        """What Python would send to the viewer."""
        image = None
        if self.picture is not None:
            width, height = self.picture.size
            image = {"width": width, "height": height, "tileSize": TILE, "overlap": OVERLAP}
            image["maxLevel"] = len(self.levels) - 1
        spots = {
            "n": len(self.spots),
            "diameter": self.diameter,
            "shape": self.shape,
            "path": "spots",
        }
        base = {
            "key": key,
            "image": image,
            "mpp": self.mpp,
            "label": key,
            "spots": spots,
            "layer": None,
        }
        base |= {"marks": [], "picked": None, "regions": [], "lasso": None, "lassoStamp": None}
        base |= {"selected": None, "state": None, "focus": None, "link": None}
        return base | {"tools": ["pan", "lasso", "box"]} | more


def continuous(
    values: NDArray[np.floating], name: str, **meta: Any
) -> tuple[NDArray[np.uint16], dict]:
    """A layer of numbers as the server codes it; NaN is not measured."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    span = high - low or 1.0
    codes = np.where(np.isnan(values), 0, np.rint((np.nan_to_num(values) - low) / span * 65534) + 1)
    p1, p99 = (float(value) for value in np.nanpercentile(values, [1, 99]))
    about = {"kind": "continuous", "name": name, "unit": "log1p", "low": low, "high": high}
    return codes.astype("<u2"), about | {
        "p1": p1,
        "p99": p99,
        "categories": [],
        "note": None,
    } | meta


def categories(labels: NDArray[np.integer], names: list[str], name: str, **meta: Any):
    """A layer of labels, -1 for none."""
    about = {"kind": "categories", "name": name, "unit": None, "categories": names, "note": None}
    return (labels + 1).astype("<u2"), about | meta


class _Handler(BaseHTTPRequestHandler):
    server: SlideServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        first, *rest = parts.path.lstrip("/").split("/")
        answer = {"tile": self._tile, "bytes": self._bytes, "json": self._json}.get(first)
        if answer:
            answer(self.server.slides[rest[0]], "/".join(rest[1:]), parts.query)
        elif not first:
            self._send(PAGE.encode(), TYPES[".html"])
        else:
            file = FRONTEND / parts.path.lstrip("/")
            self._send(file.read_bytes(), TYPES[file.suffix])

    def _tile(self, slide: FakeSlide, path: str, _query: str) -> None:
        if path in slide.broken:
            # as Streamlit answers a path that it does not know: a page, and all is well
            return self._send(b"<html></html>", TYPES[".html"])
        level, place = path.split("/")
        column, row = place.split("_")
        return self._send(slide.tile(int(level), int(column), int(row)), "image/jpeg")

    def _bytes(self, slide: FakeSlide, path: str, query: str) -> None:
        self.server.asked.append(f"{path}?{query}" if query else path)
        if path == "spots":
            return self._send(slide.spots.astype("<f4").tobytes(), "application/octet-stream", {})
        ((_, (name,)),) = parse_qs(query).items()
        if name not in slide.layers:
            return self._send(b"", "application/octet-stream", error=f"no layer {name}")
        codes, meta = slide.layers[name]
        return self._send(codes.tobytes(), "application/octet-stream", meta)

    def _json(self, slide: FakeSlide, path: str, _query: str) -> None:
        index = int(unquote(path).removeprefix("spots/"))
        card = slide.cards.get(index, {"spot_id": f"SPOT-{index}", "values": []})
        self._send(json.dumps(card).encode(), "application/json")

    def _send(
        self, body: bytes, kind: str, meta: dict | None = None, error: str | None = None
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if meta is not None:
            self.send_header("X-Meta", json.dumps(meta))
        if error:
            self.send_header("X-Error", error)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class SlideServer(ThreadingHTTPServer):
    """A server of slides on a free port of this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.slides: dict[str, FakeSlide] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


@contextmanager
def slide_server() -> Iterator[SlideServer]:
    """Serve until the end of the block."""
    with SlideServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
