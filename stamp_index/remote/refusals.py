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
_NO_KEYS: Final = ("169.254.169.254", "CredentialsNotLoaded")


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
    if "NoSuchBucket" in text:
        remedy = "Make it, or check the address and AWS_ENDPOINT_URL."
        return f"there is no bucket {urlsplit(name).netloc}", remedy
    if "builder error" in text and "http://" in text:
        remedy = (
            "Set AWS_ALLOW_HTTP=true in the environment if it may be used without TLS, as on this machine or in a "
            "private network."
        )
        return "its endpoint begins with http://, which is not allowed", remedy
    if any(sign in text for sign in _NO_KEYS):
        remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment."
        return "there are no credentials, as AWS_ACCESS_KEY_ID is not set", remedy
    return _shortened(text), ""


def _shortened(text: str) -> str:
    text = _SOURCE.sub("", _DEBUG.sub("", text))
    text = redacted(_XML.sub(_code_and_message, text)).strip().rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _code_and_message(body: re.Match[str]) -> str:
    found = [re.search(_FIELD.format(field), body[0]) for field in ("Code", "Message")]
    return ": ".join(field[1] for field in found if field)
