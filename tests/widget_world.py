"""The other end of a notebook's viewer: a comm that keeps what is sent, and speaks as a browser does."""

from __future__ import annotations

from typing import Any

import comm
from comm.base_comm import BaseComm


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
