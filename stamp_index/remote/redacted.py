"""Messages without secrets."""

from __future__ import annotations

import os
import re
from typing import Final

# Environment variables whose values no message may hold.
_SECRET: Final = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|SAS|CREDENTIAL", re.IGNORECASE)
_QUERY: Final = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
_USER: Final = re.compile(r"(\w+://)[^/\s'\"]+@")
_SHORTEST: Final = 4  # characters of a secret; a shorter one would take half of a message with it


def redacted(text: str) -> str:
    """Take out of a text what may be secret.

    Queries of web addresses (they hold signatures), users and passwords before an ``@``, and the values of environment
    variables that are named as secrets are.
    """
    text = _USER.sub(r"\1...@", _QUERY.sub(r"\1?...", text))
    secrets = [value for name, value in os.environ.items() if _SECRET.search(name)]
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, "...")
    return text
