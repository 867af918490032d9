"""The HTTP API over one store: ``stamp-index serve STORE``. FastAPI and uvicorn are imported here alone, inside functions."""

from __future__ import annotations

from stamp_index.serve.server import run_server
from stamp_index.serve.settings import Access, Address, Limits

__all__ = ["Access", "Address", "Limits", "run_server"]
