"""Makes ``import timm`` work where torchvision was built for another torch.

A torchvision wheel made for CUDA torch registers its operators in a library that does not load beside a
CPU build of torch; the import then fails with "operator torchvision::nms does not exist". Declaring the two
schemas that it asks for at import is enough: nothing here calls them.
"""

from __future__ import annotations

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[torch.library.Library] = []  # a Library's schemas live as long as the object


def declare_torchvision_ops() -> None:
    """Declare the operators that torchvision expects, where the real ones are missing.

    The real library, if it loads, is left alone: torchvision's own import registers it first.
    """
    if _libraries:
        return
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError) as exc:
        if "torchvision::" not in str(exc):
            return  # not installed, or broken in another way: timm's own message says it better
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS.values():
            library.define(schema)  # type: ignore[no-untyped-call]
        _libraries.append(library)
