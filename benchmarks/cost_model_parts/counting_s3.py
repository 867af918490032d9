"""An S3 server on loopback that counts what it is asked: moto behind a counter, one request at a time.

    python benchmarks/cost_model_parts/counting_s3.py

Prints its port. ``GET /-counts`` answers with requests and bytes since it was last asked.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

COUNTS = "/-counts"


class Counting:
    """Counts requests by what S3 charges for, and bytes in both directions, on their way to an application."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._counts: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == COUNTS:
            said, self._counts = json.dumps(self._counts).encode(), Counter()
            start("200 OK", [("Content-Length", str(len(said)))])
            return [said]
        method = environ["REQUEST_METHOD"]
        listed = method == "GET" and "list-type" in environ.get("QUERY_STRING", "")
        self._counts["LIST" if listed else method] += 1
        self._counts["bytes_in"] += int(environ.get("CONTENT_LENGTH") or 0)
        body = b"".join(self._application(environ, start))
        if method != "HEAD":
            self._counts["bytes_out"] += len(body)
        return [body]


def serve() -> None:
    """Serve on a free port until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    counting = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counting)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    serve()
