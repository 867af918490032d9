"""The browser's code of the notebook viewer as one ES module, made of the very files that the app serves.

An anywidget is given its code as one text. No bundler is needed: every file travels as a string, becomes a module
of its own through a ``blob:`` address, and imports the others by theirs.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from functools import cache
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StampIndexError
from stamp_index.resources import bundle_root

if TYPE_CHECKING:
    from pathlib import Path

ENTRY: Final = "viewer/notebook.js"
OPENSEADRAGON: Final = "openseadragon.js"
_SCRIPT: Final = "node_modules/openseadragon/build/openseadragon/openseadragon.min.js"
# Its build is a script that hands itself to whoever has `module`; as a module it is exported.
_WRAPPED: Final = (
    "const holder = {{ exports: {{}} }};\n"
    "(function (module, exports) {{\n{script}\n}}).call(window, holder, holder.exports);\n"
    "export default holder.exports;\n"
)
_IMPORT: Final = re.compile(r'(?m)^((?:import|export)\b[^;"\']*?)(["\'])(\.{1,2}/[^"\']+)\2')
# Loaded once a page for all widgets of a release. `@name@` stands for the address of a file.
_LOADER: Final = """
const files = {files};
const load = async () => {{
  const urls = {{}};
  for (const [name, text] of files) {{
    const linked = text.replace(/"@([^"@]+)@"/g, (whole, other) => (urls[other] ? `"${{urls[other]}}"` : whole));
    urls[name] = URL.createObjectURL(new Blob([linked], {{ type: "text/javascript" }}));
  }}
  try {{
    return (await import(urls[{entry}])).default;
  }} finally {{
    for (const url of Object.values(urls)) URL.revokeObjectURL(url);
  }}
}};
const key = Symbol.for("stamp-index.notebook." + {release});
export default await (globalThis[key] ??= load());
"""


def frontend_folder() -> Path:
    """Folder of the browser's code, in a checkout or in an installed wheel."""
    return bundle_root() / "app" / "frontend"


@cache
def notebook_module(folder: Path | None = None) -> str:
    """Text of the module.

    Parameters
    ----------
    folder : Path, optional
        Of the browser's code; that of this installation by default.

    Raises
    ------
    StampIndexError
        If OpenSeadragon is not installed, or a file is not there.
    """
    files = _in_order(folder or frontend_folder())
    text = json.dumps([[name, files[name]] for name in files])
    release = hashlib.sha256(text.encode()).hexdigest()[:16]
    return _LOADER.format(files=text, entry=json.dumps(ENTRY), release=json.dumps(release))


@cache
def notebook_style(folder: Path | None = None) -> str:
    """Text of the viewer's style sheet.

    Raises
    ------
    StampIndexError
        If it is not there.
    """
    return _read(folder or frontend_folder(), "viewer/viewer.css")


def _in_order(folder: Path) -> dict[str, str]:
    """Every file that the entry needs, those that others import before them, imports as ``"@name@"``."""
    found: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in found:
            return
        if name in path:
            msg = f"Files of the viewer import each other in a circle: {' > '.join([*path, name])}."
            raise StampIndexError(msg)
        text = _openseadragon(folder) if name == OPENSEADRAGON else _read(folder, name)
        base = posixpath.dirname(name)

        def linked(match: re.Match[str]) -> str:
            other = posixpath.normpath(posixpath.join(base, match[3]))
            visit(other, (*path, name))
            return f'{match[1]}"@{other}@"'

        if name != OPENSEADRAGON:
            text = _IMPORT.sub(linked, text)
        found[name] = text

    visit(ENTRY, ())
    return found


def missing_openseadragon(folder: Path) -> str:
    """Say what to run where OpenSeadragon is not installed in the folder of the browser's code; "" where it is."""
    if (folder / _SCRIPT).is_file():
        return ""
    return (
        f"The viewer needs OpenSeadragon, which is not in {folder}. Run `make demo` in the checkout, or "
        f"`npm ci --prefix {folder}`; a wheel that was built with `make wheel` has it."
    )


def _openseadragon(folder: Path) -> str:
    missing = missing_openseadragon(folder)
    if missing:
        raise StampIndexError(missing)
    lines = (folder / _SCRIPT).read_text("utf-8").splitlines()
    script = "\n".join(line for line in lines if "sourceMappingURL" not in line)
    return _WRAPPED.format(script=script)


def _read(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        msg = f"The viewer's file {name} is not in {folder}. Install stamp-index again."
        raise StampIndexError(msg)
    return path.read_text("utf-8")
