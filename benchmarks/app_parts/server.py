"""The app's server with the toy encoder that the benchmark's stores were made with, and with torch."""

from __future__ import annotations

import os
import sys

sys.modules["plotly"] = (
    None  # installed for the peer alone; Streamlit imports it where it is (17 MB)
)

import torch  # noqa: F401 - as every trained encoder does: its memory belongs to the server's

from app import server, stores
from tests.support import ToyEncoder

if __name__ == "__main__":
    stores.use_encoder(ToyEncoder(int(os.environ.get("BENCHMARK_DIM", "32"))))
    server.serve()
