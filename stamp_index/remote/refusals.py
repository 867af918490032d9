"""What clients of object storage raise, in few words: the reason, and what to do where it is one of the usual ones."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from stamp_index.remote.redacted import redacted

_DEBUG: Final = re.compile(r"\s*Debug source:.*", re.DOTALL)  # Rust's own view of the error
_XML: Final = re.compile(r"(<\?xml[^>]*>\s*)?<Error>.*", re.DOTALL)  # may be cut off
_FIELD: Final = r"<{0}>([^<]*)</{0}>"
_SOURCE: Final = re.compile(r",? /\S+\.rs:\d+(:\d+)?")  # lines of code of whoever built Lance
_LONGEST: Final = 500
# Where a machine of Amazon's would get credentials: asked where the environment has none.
_NO_KEYS: Final = ("169.254.169.254", "metadata.google.internal", "CredentialsNotLoaded")
# How the variables begin that are for a storage, and those with which it is used.
_PREFIXES: Final = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
_KEYS: Final = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
_ENDPOINTS: Final = {"s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT"}


def environment_of(name: str) -> str:
    """Variables that are for the storage of an address: ``"AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL"``."""
    scheme = _scheme(name)
    return ", ".join([_KEYS[scheme][0], *([_ENDPOINTS[scheme]] if scheme in _ENDPOINTS else [])])


def plain_refusal(exc: BaseException, name: str) -> tuple[str, str]:
    """Why a storage refused, and what to do.

    Parameters
    ----------
    exc : Exception
        Of obstore, Lance or the disk.
    name : str
        Address or folder that was used.

    Returns
    -------
    why : str
        Without secrets, without what is only for who wrote the client, and without a full stop.
    remedy : str
        A sentence; "" where the reason is none of the usual ones.
    """
    text = str(exc)
    scheme = _scheme(name)
    if "NoSuchBucket" in text:
        also = f" and {_ENDPOINTS[scheme]}" if scheme in _ENDPOINTS else ""
        remedy = f"Make it, or check the address{also}."
        return f"there is no bucket {urlsplit(name).netloc}", remedy
    if "builder error" in text and "http://" in text:
        remedy = (
            f"Set {_PREFIXES[scheme]}_ALLOW_HTTP=true in the environment if it may be used without TLS, as on this machine or in a "
            "private network."
        )
        return "its endpoint begins with http://, which is not allowed", remedy
    if any(sign in text for sign in _NO_KEYS):
        keys = _KEYS[scheme]
        remedy = f"Set {' and '.join(keys)} in the environment."
        return f"there are no credentials, as {keys[0]} is not set", remedy
    return _shortened(text), ""


def _scheme(name: str) -> str:
    """Scheme of an address; that of S3 for others, whose texts are none of ours."""
    scheme = name.partition(":")[0]
    return scheme if scheme in _KEYS else "s3"


def _shortened(text: str) -> str:
    text = _SOURCE.sub("", _DEBUG.sub("", text))
    text = redacted(_XML.sub(_code_and_message, text)).strip().rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _code_and_message(body: re.Match[str]) -> str:
    found = [re.search(_FIELD.format(field), body[0]) for field in ("Code", "Message")]
    return ": ".join(field[1] for field in found if field)
