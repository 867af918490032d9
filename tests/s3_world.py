"""Buckets on an S3 server of the tests' own, and the environment that leads there."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
SECRET = "never-shown-secret"


def environment(port: int) -> dict[str, str]:
    """What a process needs to reach the server; the server takes any credentials."""
    return {
        "AWS_ACCESS_KEY_ID": "shown-to-nobody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def s3_server() -> Iterator[int]:
    """Run the server in a process of its own; gives its port."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "s3_server.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment(0)},
    )
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def make_bucket(port: int, name: str) -> str:
    """Make a bucket; returns its address."""
    signed = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=b"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{name}", method="PUT", headers={"Authorization": signed}
    )
    with urllib.request.urlopen(request, timeout=30):
        return f"s3://{name}"
