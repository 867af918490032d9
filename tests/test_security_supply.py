"""What comes from others and what must not go out: the audit of packages, and secrets in tracked files."""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
import subprocess
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TODAY = dt.date(2026, 11, 22)
# Shapes that credentials of the services in use have, by their makers' documentation.
SECRETS = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "AWS key id": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "AWS secret": re.compile(r"(?i)aws_secret_access_key\W{1,4}[A-Za-z0-9/+]{40}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,})\b"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z]{30,}\b"),
    "PyPI token": re.compile(r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{20,}"),
    "Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "Google key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "password in an address": re.compile(r"[a-z][a-z0-9+]*://[^\s/:@'\"{}<>]+:[^\s/:@'\"{}<>]{3,}@[a-z0-9]"),
}  # fmt: skip
KNOWN = {  # the example below, and an address that is refused
    ("tests/test_security_supply.py", "password in an address"),
    ("tests/test_client_answers.py", "password in an address"),
    ("tests/test_serve_auth.py", "password in an address"),
    ("tests/test_shards_http.py", "password in an address"),
}
_MOST_BYTES = 4_000_000


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )  # fmt: skip
    if done.returncode:
        pytest.skip("not a checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def secrets_of(text: str) -> set[str]:
    return {kind for kind, shape in SECRETS.items() if shape.search(text)}


def test_no_tracked_file_holds_a_secret() -> None:
    files = [path for path in tracked() if path.is_file() and path.stat().st_size < _MOST_BYTES]
    assert len(files) > 500
    found = {
        (path.relative_to(ROOT).as_posix(), kind)
        for path in files
        for kind in secrets_of(path.read_bytes().decode("utf-8", "replace"))
    }
    assert found <= KNOWN, sorted(found - KNOWN)


def test_files_that_hold_credentials_are_not_tracked() -> None:
    names = {path.name for path in tracked()}
    wrong = {one for one in names if re.search(r"^(\.env|\.netrc|\.pypirc|credentials|id_rsa|secrets\.toml)$|\.(pem|p12|pfx|key)$", one)}  # fmt: skip
    assert not wrong


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "private key"),
        ("AKIA" + "ABCDEFGHIJKLMNOP", "AWS key id"),
        ("aws_secret_access_key = " + "a/B3" * 10, "AWS secret"),
        ("ghp_" + "a" * 36, "GitHub token"),
        ("hf_" + "a" * 34, "Hugging Face token"),
        ("https://user:" + "hunter2@host", "password in an address"),
        ("eyJhbGciOiJIUzI1" + ".eyJzdWIiOiIxMjM0." + "a" * 20, "JSON web token"),
    ],
)
def test_a_secret_is_known_by_its_shape(text: str, kind: str) -> None:
    assert secrets_of(f"x = '{text}'") == {kind}


# ---- the audit -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audit():
    loader = SourceFileLoader("audit", str(ROOT / ".ci" / "audit"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("audit", loader))
    loader.exec_module(module)
    return module


def package(*flaws: dict, name: str = "a") -> dict:
    return {"name": name, "version": "1.0", "vulns": list(flaws)}


def flaw(*fixes: str, aliases: tuple[str, ...] = ()) -> dict:
    return {"id": "PYSEC-1", "fix_versions": list(fixes), "aliases": list(aliases)}


def test_a_vulnerability_with_a_fix_fails_and_one_without_is_told(audit, capsys) -> None:
    assert audit.judge([package(flaw("1.1"))], {}, TODAY, strict=False) == 1
    assert "VULNERABLE: a 1.0: PYSEC-1, mended in 1.1" in capsys.readouterr().out
    assert audit.judge([package(flaw())], {}, TODAY, strict=False) == 0
    assert "without a fix: a 1.0: PYSEC-1" in capsys.readouterr().out


@pytest.mark.parametrize(("until", "status"), [(TODAY, 0), (TODAY - dt.timedelta(days=1), 1)])
def test_an_excuse_holds_until_its_day_and_by_any_name(until, status, audit) -> None:
    excuses = {"CVE-1": {"id": "CVE-1", "reason": "never opened", "since": TODAY, "until": until}}
    found = [package(flaw("1.1", aliases=("CVE-1",)))]
    assert audit.judge(found, excuses, TODAY, strict=False) == status


def test_a_database_that_knows_nothing_is_no_audit_and_says_so(audit, capsys) -> None:
    skipped = [{"name": "a", "skip_reason": "not found on PyPI"}] * 9
    assert audit.judge([*skipped, package()], {}, TODAY, strict=False) == 0
    assert "NOT AUDITED: the advisory database knows 1 of 10 packages" in capsys.readouterr().out
    assert audit.judge(skipped, {}, TODAY, strict=True) == 2
    assert audit.not_audited("it could not be reached", strict=False) == 0


def test_an_excuse_without_reason_or_dates_is_refused(audit, tmp_path) -> None:
    path = tmp_path / "audit.toml"
    path.write_text('[[ignore]]\nid = "CVE-1"\nreason = "x"\nsince = 2026-01-01\n')
    with pytest.raises(ValueError, match="CVE-1 needs a reason, and the dates"):
        audit.read_excuses(path)
    assert audit.read_excuses(ROOT / ".ci" / "audit.toml") == {}
