"""The app's server with the encoder of the toy stores, which carry no checkpoint."""

from __future__ import annotations

from app import server, stores
from tests.support import ToyEncoder

if __name__ == "__main__":
    stores.use_encoder(ToyEncoder())
    server.serve()
