"""Routes of the browser's own code: our ES modules, style sheets, and OpenSeadragon as a module.

The address of each file holds a hash of all of them, so that a browser never mixes two releases. They hold nothing of a
store, so they need no token.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from app.api.answers import refusal

if TYPE_CHECKING:
    from starlette.requests import Request

FRONTEND = Path(__file__).resolve().parents[1] / "frontend"
OPENSEADRAGON = "node_modules/openseadragon/build/openseadragon/openseadragon.min.js"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
KEPT = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
# Its build is a script that hands itself to whoever has `module`; as a module it is exported.
WRAPPED = (
    "const holder = {{ exports: {{}} }};\n"
    "(function (module, exports) {{\n{script}\n}}).call(window, holder, holder.exports);\n"
    "export default holder.exports;\n"
)


def is_installed() -> bool:
    """Whether OpenSeadragon is where its lock file puts it."""
    return (FRONTEND / OPENSEADRAGON).is_file()


@cache
def files() -> dict[str, bytes]:
    """Every file that is served, by its name below the folder."""
    held = {
        path.relative_to(FRONTEND).as_posix(): path.read_bytes()
        for path in sorted(FRONTEND.rglob("*"))
        if path.suffix in KINDS and "node_modules" not in path.parts
    }
    if is_installed():
        script = (FRONTEND / OPENSEADRAGON).read_text("utf-8")
        script = "\n".join(line for line in script.splitlines() if "sourceMappingURL" not in line)
        held["openseadragon.js"] = WRAPPED.format(script=script).encode()
    return held


@cache
def release() -> str:
    """Hash of all files."""
    digest = hashlib.sha256()
    for name, content in files().items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


async def asset(request: Request) -> Response:
    """One of the files."""
    name: Any = request.path_params["name"]
    content = files().get(name)
    if content is None or request.path_params["release"] != release():
        return refusal(404, "There is no such file in this release. Reload the page.")
    return Response(content, media_type=KINDS[Path(name).suffix], headers=KEPT)
