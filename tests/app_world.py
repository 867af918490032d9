"""The app's routes over a toy store, without a server: Starlette's test client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("streamlit")

from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import settings as served
from app import stores
from app.api.routes import routes, store_address
from app.api.tokens import mint
from tests.support import ToyEncoder

if TYPE_CHECKING:
    from stamp_index.store import Store


class Client:
    """Asks the routes of one store, with a token unless another is given."""

    def __init__(self, store: Store, **rules: str) -> None:
        stores.use_encoder(ToyEncoder())
        served.configure(served.Settings(store_path=str(store.path), **rules))
        self.opened = stores.open_store(str(store.path))
        self.http = TestClient(Starlette(routes=routes()), raise_server_exceptions=False)

    def get(self, path: str, *, token: str | None = None, **query: str):
        """Answer of a route below the store's address."""
        asked = {"t": mint() if token is None else token, **query}
        return self.http.get(f"{store_address(self.opened)}/{path}", params=asked)
