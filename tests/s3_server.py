"""An S3 server on loopback: moto, one request at a time, so that what is conditional is atomic as S3's own is."""

from __future__ import annotations

import logging
import sys


def serve() -> None:
    """Serve on a free port, which is printed, until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    serve()
