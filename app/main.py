"""Entry of the app; `stamp-index app STORE` hands it the folder of the store."""

from __future__ import annotations

import sys

import stamp_frame

stamp_frame.run(sys.argv[1] if len(sys.argv) > 1 else None)
