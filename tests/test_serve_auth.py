"""Who is answered: tokens, a proxy, and a provider that the tests run on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from stamp_index.cli import main
from stamp_index.serve.oidc import KEEP_S, LONGEST_S, REFETCH_S, Provider
from stamp_index.serve.problems import RefusedError
from stamp_index.serve.settings import Access, ServeError
from stamp_index.serve.tokens import TokenFile, new_token
from tests.serve_world import asked, problem
from tests.support import toy_store

AUDIENCE = "stamp-index"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("auth"), n_slides=1)


# ---- tokens --------------------------------------------------------------------------------------


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def tokens(tmp_path):
    token, line = new_token("alice")
    path = tmp_path / "tokens"
    path.write_text(f"# who may search\n\n{line}\n")
    return token, path


def test_a_known_token_is_answered_and_no_other(store, tokens):
    token, path = tokens
    with asked(store.path, access=Access(auth="token", tokens=path)) as client:
        assert client.get("/v1/store", headers=bearer(token)).status_code == 200
        for headers in ({}, bearer("x"), bearer(token[:-1]), bearer(token + "x"), {"authorization": f"Basic {token}"},
                        {"authorization": token}, bearer("\u00e9".encode("latin-1").decode("latin-1"))):  # fmt: skip
            answer = client.get(
                "/v1/store", headers={k: v.encode("latin-1") for k, v in headers.items()}
            )
            assert problem(answer) == (401, "AuthenticationError")
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/openapi.json", "/metrics", "/v1/slides", "/nothing"])
def test_nothing_but_health_is_told_to_strangers(store, tokens, path):
    with asked(store.path, access=Access(auth="token", tokens=tokens[1])) as client:
        assert client.get(path).status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").json() == {"state": "ready"}


def test_a_token_that_is_taken_out_of_the_file_is_refused_at_once(store, tokens):
    token, path = tokens
    with asked(store.path, access=Access(auth="token", tokens=path)) as client:
        path.write_text(new_token("bob")[1])
        assert client.get("/v1/store", headers=bearer(token)).status_code == 401


def test_nobody_is_let_in_while_the_file_of_tokens_cannot_be_read(store, tokens):
    token, path = tokens
    with asked(store.path, access=Access(auth="token", tokens=path)) as client:
        path.unlink()
        answer = client.get("/v1/store", headers=bearer(token))
        assert problem(answer) == (503, "ServeError")
        assert str(path.parent) not in answer.text


def test_a_token_is_never_written_to_a_log(store, tokens, caplog):
    caplog.set_level(0)
    token, path = tokens
    with asked(store.path, access=Access(auth="token", tokens=path)) as client:
        client.get("/v1/store", headers=bearer(token))
        client.get("/v1/store", headers=bearer(token + "x"))
    assert token not in caplog.text


@pytest.mark.parametrize("content", ["", "# none", "alice", "alice " + "0" * 63, "a b " + "0" * 64, "a " + "0" * 64 + "\na " + "1" * 64])  # fmt: skip
def test_files_of_tokens_that_let_nobody_in_are_refused(tmp_path, content):
    path = tmp_path / "tokens"
    path.write_text(content)
    with pytest.raises(ServeError):
        TokenFile(path)


def test_a_refused_line_is_not_repeated(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("sti_SECRET")
    with pytest.raises(ServeError) as found:
        TokenFile(path)
    assert "SECRET" not in str(found.value)


def test_the_command_prints_a_token_once_and_its_line():
    result = CliRunner().invoke(main, ["serve", "--new-token", "alice"])
    token = result.stderr.rpartition(" ")[2].strip()
    assert result.stdout == f"alice {hashlib.sha256(token.encode()).hexdigest()}\n"
    assert token.startswith("sti_")
    assert len(token) > 40


def test_the_command_refuses_to_be_open_to_a_network(store):
    result = CliRunner().invoke(main, ["serve", str(store.path), "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "--anyone" in result.output


# ---- a proxy -------------------------------------------------------------------------------------


def test_a_proxy_names_the_user(store):
    access = Access(auth="proxy", allow=("*@hospital.example",))
    with asked(store.path, access=access) as client:
        named = {"x-forwarded-user": "Ann@hospital.example"}
        assert client.get("/v1/store", headers=named).status_code == 200
        assert problem(client.get("/v1/store")) == (401, "AuthenticationError")
        other = client.get("/v1/store", headers={"x-forwarded-user": "eve@evil.example"})
        assert problem(other) == (403, "ForbiddenError")


# ---- a provider ----------------------------------------------------------------------------------


class Issuer:
    """An OpenID Connect provider: its configuration and its keys."""

    def __init__(self):
        self.keys = [RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})]
        self.asked, self.leads_to, self.is_down = [], "", False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                if outer.is_down:
                    self.send_error(500)
                    return
                body = json.dumps(outer.answer(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path):
        if path == "/keys":
            return KeySet(self.keys).as_dict(private=False)
        return {"issuer": self.url, "jwks_uri": self.leads_to or f"{self.url}/keys"}

    def token(self, key=None, header=None, **claims):
        key = key or self.keys[0]
        said = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "u1",
            "exp": int(time.time()) + 300,
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": key.kid, **(header or {})}, said, key)


@contextmanager
def _running():
    issuer = Issuer()
    thread = threading.Thread(target=issuer.server.serve_forever)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.server.shutdown()
        issuer.server.server_close()
        thread.join()


@pytest.fixture
def issuer():
    with _running() as found:
        yield found


def refused(provider, token, status=401):
    with pytest.raises(RefusedError) as found:
        provider.user_of(token)
    assert found.value.status == status
    return str(found.value)


def test_a_token_of_the_provider_is_answered(store, issuer):
    access = Access(
        auth="oidc", issuer=issuer.url, audience=AUDIENCE, allow=("*@hospital.example",)
    )
    with asked(store.path, access=access) as client:
        token = issuer.token(email="ann@hospital.example", email_verified=True)
        assert client.get("/v1/store", headers=bearer(token)).status_code == 200
        unverified = issuer.token(email="ann@hospital.example")
        assert problem(client.get("/v1/store", headers=bearer(unverified))) == (
            403,
            "ForbiddenError",
        )
        assert problem(client.get("/v1/store", headers=bearer("x.y.z"))) == (
            401,
            "AuthenticationError",
        )


def test_tokens_that_are_not_for_us_or_not_valid_are_refused(issuer):
    provider = Provider(issuer.url, AUDIENCE)
    assert provider.user_of(issuer.token()) == "u1"
    assert provider.user_of(issuer.token(aud=["other", AUDIENCE])) == "u1"
    now = int(time.time())
    wrong = [
        {"aud": "other"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None}, {"exp": now - 60}, {"exp": None},
        {"nbf": now + 600}, {"sub": None}, {"exp": "later"},
    ]  # fmt: skip
    for claims in wrong:
        refused(provider, issuer.token(**claims))


def test_signatures_that_prove_nothing_are_refused(issuer):
    provider = Provider(issuer.url, AUDIENCE)
    good = issuer.token()
    header, claims, signature = good.split(".")
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    refused(provider, issuer.token(stranger))
    refused(provider, f"{header}.{claims}.{signature[:-8]}AAAAAAAA")
    none = "eyJhbGciOiJub25lIiwia2lkIjoib25lIn0"  # {"alg":"none","kid":"one"}
    for forged in (
        f"{none}.{claims}.",
        f"{none}.{claims}.{signature}",
        f"{header}.{claims}.",
        "",
        "a",
        "..",
        good * 50,
    ):
        refused(provider, forged)
    # signed with the public key as if it were a secret that both know
    public = issuer.keys[0].as_pem(private=False)
    asked_for = _text(b'{"alg":"HS256","kid":"one"}') + "." + claims
    made = _text(hmac.digest(public, asked_for.encode(), "sha256"))
    refused(provider, f"{asked_for}.{made}")


def _text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_keys_are_kept_and_an_unknown_one_is_looked_for_once_a_minute(issuer):
    now = [time.time()]
    provider = Provider(issuer.url, AUDIENCE, now=lambda: now[0])
    for _ in range(5):
        provider.user_of(issuer.token())
    assert issuer.asked.count("/keys") == 1
    issuer.keys.append(RSAKey.generate_key(2048, {"kid": "two", "use": "sig"}))
    fresh = issuer.token(issuer.keys[1])
    for _ in range(5):
        refused(provider, fresh)
    assert issuer.asked.count("/keys") == 1
    now[0] += REFETCH_S
    assert provider.user_of(fresh) == "u1"
    for number in range(5):  # made-up keys do not make us ask
        refused(provider, issuer.token(RSAKey.generate_key(2048, {"kid": f"x{number}"})))
    assert issuer.asked.count("/keys") == 2


def test_a_token_that_is_nested_without_end_is_refused(store, issuer):
    endless = _text(b"[" * 10_000)
    access = Access(auth="oidc", issuer=issuer.url, audience=AUDIENCE)
    with asked(store.path, access=access) as client:
        for token in (endless, f"{endless}.e30.x"):
            answer = client.get("/v1/store", headers=bearer(token))
            assert problem(answer) == (401, "AuthenticationError")


def test_a_key_that_is_taken_back_is_forgotten_within_an_hour(issuer):
    now = [time.time()]
    provider = Provider(issuer.url, AUDIENCE, now=lambda: now[0])
    token = issuer.token(exp=int(now[0]) + 10**6)
    provider.user_of(token)
    issuer.keys = [RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})]
    now[0] += KEEP_S
    refused(provider, token)


def test_old_keys_count_on_for_a_day_while_the_provider_is_down(issuer):
    now = [time.time()]
    provider = Provider(issuer.url, AUDIENCE, now=lambda: now[0])
    token = issuer.token(exp=int(now[0]) + 10**6)
    provider.user_of(token)
    issuer.is_down, n_asked = True, len(issuer.asked)
    now[0] += KEEP_S
    for _ in range(5):
        assert provider.user_of(token) == "u1"
    assert len(issuer.asked) == n_asked + 1
    now[0] += LONGEST_S - 2 * KEEP_S
    assert provider.user_of(token) == "u1"
    now[0] += KEEP_S
    for _ in range(2):
        refused(provider, token, 503)
    issuer.is_down = False
    now[0] += REFETCH_S
    assert provider.user_of(token) == "u1"


def test_a_provider_that_is_down_is_said_and_not_hammered(issuer):
    now = [time.time()]
    provider = Provider(issuer.url, AUDIENCE, now=lambda: now[0])
    issuer.is_down = True
    for _ in range(5):
        assert "provider" in refused(provider, issuer.token(), 503)
    assert len(issuer.asked) == 1
    issuer.is_down = False
    now[0] += REFETCH_S
    assert provider.user_of(issuer.token()) == "u1"


def test_keys_are_read_from_nowhere_that_others_could_change(issuer):
    issuer.leads_to = "http://evil.example/keys"
    refused(Provider(issuer.url, AUDIENCE), issuer.token(), 503)
    refused(Provider(issuer.url + "/", AUDIENCE), issuer.token(), 503)  # names itself otherwise


@pytest.mark.parametrize(
    "issuer",
    [
        "https://",
        "https://h:abc",
        "https://h:0",
        "https://[h",
        "https://u:secret@h",
        "http://u:secret@h",
        "https://u:s@secret@h",
        "https://h/?a=secret",
        "https://h/#a",
        "https://h\n",
    ],
)
def test_an_issuer_is_a_plain_safe_address_and_no_password_is_repeated(issuer):
    with pytest.raises(ServeError, match="--issuer is") as caught:
        Access(auth="oidc", issuer=issuer, audience="a")
    assert "secret" not in str(caught.value)


def test_an_issuer_may_have_a_port_and_a_path():
    for issuer in ("https://h.example:8443/realms/a", "http://127.0.0.1:80", "https://[::1]/a"):
        assert Access(auth="oidc", issuer=issuer, audience="a").issuer == issuer
    with pytest.raises(ServeError, match="--audience is blank"):
        Access(auth="oidc", issuer="https://h", audience=" ")
