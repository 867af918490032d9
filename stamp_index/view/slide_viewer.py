"""The viewer for notebooks, or what says how to get it where anywidget is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stamp_index.view.widget import SlideViewer
else:
    try:
        from stamp_index.view.widget import SlideViewer
    except ModuleNotFoundError as missing:
        if missing.name not in ("anywidget", "ipywidgets", "traitlets"):
            raise

        class SlideViewer:
            """Stands where the viewer would be: it needs anywidget."""

            def __init__(self, *_: object, **__: object) -> None:
                msg = (
                    "SlideViewer needs anywidget, which is not installed. Run: pip install "
                    "'stamp-index[notebooks]', and start the notebook again."
                )
                raise ImportError(msg)

            from_slide = __init__


__all__ = ["SlideViewer"]
