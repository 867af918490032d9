"""What object storage refuses, in words that name the remedy: by a real server, and from the texts of clients."""

from __future__ import annotations

import os

import pytest

from stamp_index.errors import StoreError
from stamp_index.remote.objects import open_objects, unreachable
from stamp_index.remote.refusals import environment_of, plain_refusal
from stamp_index.store import Store
from stamp_index.store.guarded import unwritten
from stamp_index.store.places import place_of
from tests.s3_world import environment, make_bucket, s3_server
from tests.store_world import CARD

pytest.importorskip("obstore", reason="object storage needs the package obstore")
pytest.importorskip("moto", reason="the S3 server of the tests is moto")

NOISE = ("Debug source", "Generic {", "<?xml", "<Error>", ".rs:")


@pytest.fixture(scope="module")
def port():
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(port, tmp_path, monkeypatch, request):
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STAMP_INDEX_CACHE", str(tmp_path / "cache"))
    digest = abs(hash(request.node.name)) % 10**9
    return make_bucket(port, f"r{digest}-{os.getpid()}")


@pytest.mark.parametrize(
    "use", [Store.open, lambda at: Store.create(at, CARD)], ids=["open", "make"]
)
def test_a_bucket_that_is_not_there_is_named(bucket, use):
    with pytest.raises(StoreError, match=r"there is no bucket absent-bucket\. Make it") as caught:
        use("s3://absent-bucket/a")
    assert not [word for word in NOISE if word in str(caught.value)]


def test_an_endpoint_without_tls_names_the_variable_that_allows_it(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StoreError, match="Set AWS_ALLOW_HTTP=true") as caught:
        Store.open(f"{bucket}/plain")
    assert not [word for word in NOISE if word in str(caught.value)]


def test_what_lance_cannot_write_without_a_bucket_names_it(bucket):
    import lance
    import pyarrow as pa

    with (
        pytest.raises(StoreError, match=r"\(there is no bucket gone\)\. Make it.* Try again\."),
        unwritten(place_of("s3://gone/a"), "It could not be written", "Try again."),
    ):
        lance.write_dataset(pa.table({"a": [1]}), "s3://gone/a.lance")


@pytest.mark.parametrize(
    "text",
    [
        "Error performing PUT http://169.254.169.254/latest/api/token in 1s - Server returned 403 Forbidden",
        "LanceError(IO): Failed to get AWS credentials: CredentialsNotLoaded(...)",
    ],
)
def test_credentials_that_are_not_set_are_named(text):
    why, remedy = plain_refusal(OSError(text), "s3://bucket/a")
    assert "AWS_ACCESS_KEY_ID is not set" in why
    assert "AWS_SECRET_ACCESS_KEY" in remedy


def test_other_refusals_keep_their_code_and_message_alone():
    text = (
        "Generic S3 error: PUT http://host/b?X-Amz-Signature=1 - 403 Forbidden: <?xml version='1.0'?>\n<Error>"
        "<Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>1</RequestId></Error>, "
        "/home/runner/lance/object_store.rs:1576:42\n\nDebug source:\nGeneric {\n    store: 1"
    )
    why, remedy = plain_refusal(OSError(text), "s3://b/a")
    assert why.endswith("403 Forbidden: AccessDenied: Access Denied")
    assert remedy == ""
    assert "Signature" not in why


def test_what_a_disk_refuses_is_as_it_says(tmp_path):
    with (
        pytest.raises(StoreError, match=r"could not be written \(disk full\)\. Make room\."),
        unwritten(place_of(tmp_path), "It could not be written", "Make room."),
    ):
        raise OSError("disk full")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", "does not begin with https://"),
        ("AWS_ENDPOINT_URL", "", "does not begin with https://"),
        ("AWS_ENDPOINT_URL_S3", "host", "does not begin with https://"),
        ("AWS_REGION", "a b\n", "has a blank or a line end"),
        ("AWS_ACCESS_KEY_ID", "hidden\n", "has a blank or a line end"),
        ("AWS_SECRET_ACCESS_KEY", "hidden\n", "has a blank or a line end"),
        ("AWS_SESSION_TOKEN", "hidden\r\n", "has a blank or a line end"),
    ],
)
def test_an_environment_of_which_no_request_can_be_made_is_refused(
    bucket, monkeypatch, variable, value, said
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(StoreError, match=f"{variable} {said}") as caught:
        open_objects(bucket)
    assert "hidden" not in str(caught.value)
    assert "9000" not in str(caught.value).replace("s3.example:9000", "")


def test_a_panic_of_the_client_is_a_store_error_and_other_ends_are_not():
    class PanicException(BaseException):
        pass

    with (
        pytest.raises(StoreError, match=r"s3://b/a could not be used.*AWS_ACCESS_KEY_ID") as caught,
        unreachable("s3://b/a"),
    ):
        raise PanicException("hidden")
    assert "hidden" not in str(caught.value)
    with pytest.raises(KeyboardInterrupt), unreachable("s3://b/a"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("address", ["s3://b/..", "s3://b/a/../c", "s3://b/./a", "s3://b/%2E%2e/a"])
def test_an_address_that_leads_up_is_none(address):
    with pytest.raises(StoreError, match="is no address of a store"):
        open_objects(address)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("gs://b/a", "GOOGLE_APPLICATION_CREDENTIALS"), ("az://b/a", "AZURE_STORAGE_ACCOUNT_NAME")],
)
def test_advice_is_for_the_storage_that_was_asked(name, variable):
    texts = ("http://169.254.169.254/token", "NoSuchBucket", "builder error http://host")
    said = [plain_refusal(OSError(text), name) for text in texts]
    assert said[0] == (f"there are no credentials, as {variable} is not set", said[0][1])
    assert variable in said[0][1]
    assert variable in environment_of(name)
    assert "AWS_" not in f"{said} {environment_of(name)}"
