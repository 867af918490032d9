"""``stamp-index serve`` as people start it: a process that says where it is, answers, and stops when told."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

import stamp_index as si
from stamp_index.cli import main
from stamp_index.serve.settings import Limits
from tests.support import toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("cli"), n_slides=2)


def test_the_command_serves_until_it_is_told_to_stop(store):
    command = [
        sys.executable,
        "-c",
        "from stamp_index.cli import main; main()",
        "serve",
        str(store.path),
        "--port",
        "0",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline()).group()
            with si.connect(
                url
            ) as there:  # waits until the store is open, as the server says when to ask again
                hits = there.search_spot("S1:B0001-1", k=3)
            assert hits.store_version == store.version
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=30)[1]
    assert "Traceback" not in said
    assert str(store.path) not in said


def test_help_names_every_limit_with_its_default():
    said = CliRunner().invoke(main, ["serve", "--help"]).output
    for name in Limits.__dataclass_fields__:
        assert f"--max-{name.replace('_', '-')}" in said
    assert "1000" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--auth", "token"], "needs --tokens"),
        (["--auth", "oidc", "--issuer", "https://a.example"], "needs --audience"),
        (["--host", "0.0.0.0"], "--anyone"),
        (["--max-k", "0"], "limit k"),
        (["--port", "99999"], "cannot be used"),
        (["--encoder", "other"], "no embeddings of encoder"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(store, options, words):
    result = CliRunner().invoke(main, ["serve", str(store.path), *options])
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_certificate_that_is_none_and_a_locked_key_are_one_sentence(store, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text("garbage")
    key.write_text("garbage")
    options = ["serve", str(store.path), "--certificate", str(certificate), "--key", str(key)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert f"--certificate '{certificate}' and --key '{key}' cannot be used" in result.output
    certificate.write_bytes(self_signed())
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"locked"),
        )
    )
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert f"--key '{key}' is locked by a password" in result.output


def self_signed():
    """A certificate in PEM format."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_store_that_is_not_there_is_said_before_anything_listens(tmp_path):
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "no store" in result.output
