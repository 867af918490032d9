"""Notebook viewers for tests, and their other end: a comm that keeps what is sent, and speaks as a browser does."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import comm
import numpy as np
from comm.base_comm import BaseComm
from PIL import Image

import stamp_index as si
from stamp_index.slides import open_image
from tests.support import TOY_GENES, toy_slide, toy_store

SQUARE = [(80.0, 30.0), (320.0, 30.0), (320.0, 170.0), (80.0, 170.0)]


def widget_store(folder):
    """S1's picture is a file, S2's only an overview, S3 has none; S3 lacks ten genes."""
    slides = [
        toy_slide("S1", 40, 0),
        toy_slide("S2", 40, 1),
        toy_slide("S3", 40, 2, image=False, genes=TOY_GENES[10:]),
    ]
    slides[0] = with_file(slides[0], folder / "S1.png")
    return toy_store(folder, slides=slides)


def with_file(slide, path):
    """The slide with its picture in a file."""
    Image.fromarray(slide.image.overview(10_000)).save(path)
    return replace(slide, image=open_image(path))


class KeptComm(BaseComm):
    """A comm without a kernel."""

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        self.__dict__.setdefault("sent", []).append((msg_type, data or {}, buffers or []))


def use_kept_comms(monkeypatch) -> None:
    """Give widgets that are made from now on a comm that keeps what is sent."""
    monkeypatch.setattr(comm, "create_comm", KeptComm)


class FrontEnd:
    """Hears a viewer and asks it, as the browser's model does."""

    def __init__(self, viewer) -> None:
        self.comm: KeptComm = viewer.comm
        self.read = 0
        self.state: dict[str, Any] = {}
        self.messages: list[tuple[dict, list]] = []
        self.listen()

    def listen(self) -> None:
        """Take in what was sent since."""
        for kind, data, buffers in self.comm.sent[self.read :]:
            if kind == "comm_open" or data.get("method") == "update":
                self.state |= data["state"]
            elif data.get("method") == "custom":
                self.messages.append((data["content"], [bytes(one) for one in buffers]))
        self.read = len(self.comm.sent)

    def tell(self, content: object) -> None:
        """Send a message as the browser does."""
        data = {"method": "custom", "content": content}
        self.comm.handle_msg({"content": {"data": data}, "buffers": [], "parent_header": {}})
        self.listen()

    def ask(self, **question: object) -> tuple[dict, list[bytes]]:
        """Ask about the slide that is shown; the answer and its buffers."""
        n = len(self.messages)
        self.tell({"id": f"q{n}", "key": self.shown["key"], **question})
        (told, buffers), *more = self.messages[n:]
        assert (told["id"], more) == (f"q{n}", [])
        return told, buffers

    def said(self, said: str, value: object, by: str = "me:1") -> None:
        """Say what the user did."""
        self.tell({"said": said, "value": value, "by": by, "key": self.shown["key"]})

    @property
    def shown(self) -> dict[str, Any]:
        """What the browser was told to show."""
        self.listen()
        return self.state["_shown"]


@contextmanager
def viewers(monkeypatch):
    """Makes viewers and the browsers that show them; all are closed at the end."""
    use_kept_comms(monkeypatch)
    made = []

    def viewer(*args, **rules):
        made.append(si.SlideViewer(*args, **rules))
        return made[-1], FrontEnd(made[-1])

    yield viewer
    for one in made:
        one.close()


def decoded(front: FrontEnd) -> np.ndarray:
    """Values or names of the layer that the browser is told to draw, in the order of the spots."""
    told, (codes,) = front.ask(ask="bytes", path=front.shown["layer"]["path"])
    meta, held = told["meta"], np.frombuffer(codes, "<u2").astype(float)
    if meta["kind"] == "categories":
        return np.array([meta["categories"][int(c) - 1] if c else None for c in held], object)
    values = meta["low"] + (held - 1) / 65534 * (meta["high"] - meta["low"])
    return np.where(held == 0, np.nan, values)
