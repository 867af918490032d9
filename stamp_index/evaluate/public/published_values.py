"""Numbers that others published, to stand beside ours; each with its source. None is a result of this library."""

from __future__ import annotations

from typing import Any, Final

# HEST-Benchmark, table "HEST-Benchmark results (08.30.24)" of the README of mahmoodlab/HEST, and the lines added to it
# later for H0-mini, Virchow2 and UNI v1.5; Pearson, PCA of 256 components and ridge. The published names of the tasks are
# those of cancers; folders are called as `TASK_FOLDERS` says.
HEST_SOURCE: Final = (
    "Published: README of mahmoodlab/HEST, 30 August 2024 and later lines; PCA of 256 components and ridge regression. Means "
    "are over the tasks shown."
)
_TASKS: Final = ("IDC", "PRAD", "PAAD", "SKCM", "COAD", "READ", "ccRCC", "LUAD", "LYMPH")
TASK_FOLDERS: Final = {
    "IDC": "IDC",
    "PRAD": "PRAD",
    "PAAD": "PAAD",
    "SKCM": "SKCM",
    "COAD": "COAD",
    "READ": "READ",
    "CCRCC": "ccRCC",
    "LUNG": "LUAD",
    "LYMPH_IDC": "LYMPH",
}
_HEST: Final = {
    "ResNet50": (0.4741, 0.3075, 0.3889, 0.4822, 0.2528, 0.0812, 0.2231, 0.4917, 0.2322),
    "CTransPath": (0.511, 0.3427, 0.4378, 0.5106, 0.2285, 0.11, 0.2279, 0.4985, 0.2353),
    "Phikon": (0.5327, 0.342, 0.4432, 0.5355, 0.2585, 0.1517, 0.2423, 0.5468, 0.2373),
    "CONCH": (0.5363, 0.3548, 0.4475, 0.5791, 0.2533, 0.1674, 0.2179, 0.5312, 0.2507),
    "Remedis": (0.529, 0.3471, 0.4644, 0.5818, 0.2856, 0.1145, 0.2647, 0.5336, 0.2473),
    "GigaPath": (0.5508, 0.3708, 0.4768, 0.5538, 0.301, 0.186, 0.2391, 0.5399, 0.2493),
    "UNI": (0.5702, 0.314, 0.4764, 0.6254, 0.263, 0.1762, 0.2427, 0.5511, 0.2565),
    "H0-mini": (0.5862, 0.3684, 0.4919, 0.6011, 0.2494, 0.1863, 0.2670, 0.5481, 0.2629),
    "Virchow": (0.5702, 0.3309, 0.4875, 0.6088, 0.311, 0.2019, 0.2637, 0.5459, 0.2594),
    "Virchow2": (0.5922, 0.3465, 0.4661, 0.6174, 0.2578, 0.2084, 0.2788, 0.5605, 0.2582),
    "UNI v1.5": (0.5989, 0.3645, 0.4902, 0.6401, 0.2925, 0.2240, 0.2522, 0.5586, 0.2597),
    "H-optimus-0": (0.5982, 0.385, 0.4932, 0.6432, 0.2991, 0.2292, 0.2654, 0.5582, 0.2595),
}

# ST-Align (arXiv 2411.16793), zero-shot clustering of six DLPFC slices, ARI, mean of five runs. The text read does not say
# by which algorithm the spots are clustered.
ST_ALIGN_SOURCE: Final = "Published by ST-Align: ARI, zero-shot, mean of five runs, clustering algorithm not named; 151669 as printed there."
ST_ALIGN_SLICES: Final = ("151507", "151508", "151509", "151669", "151670", "151673")
_ST_ALIGN: Final = {
    "CTransPath": (0.0589, 0.0702, 0.0823, 0.0030, 0.0482, 0.2269),
    "UNI": (0.1056, 0.1068, 0.1647, 0.0022, 0.0642, 0.2101),
    "GigaPath": (0.1047, 0.0951, 0.1535, 0.0314, 0.0880, 0.1927),
    "Hibou": (0.0669, 0.0609, 0.0754, 0.0132, 0.0862, 0.2198),
    "CONCH": (0.1019, 0.1623, 0.1930, 0.0053, 0.0838, 0.2243),
    "Scanpy (genes)": (0.2184, 0.2246, 0.3902, 0.2878, 0.2334, 0.2288),
    "scFoundation": (0.2058, 0.2333, 0.3869, 0.2851, 0.2593, 0.1989),
    "scGPT": (0.2483, 0.2592, 0.3282, 0.2115, 0.2869, 0.2348),
    "CLIP (retrained)": (0.2977, 0.3171, 0.3747, 0.1136, 0.2277, 0.2058),
    "PLIP (retrained)": (0.2707, 0.3010, 0.4207, 0.0918, 0.1790, 0.2267),
    "ST-Align": (0.3098, 0.3319, 0.4700, 0.2956, 0.3523, 0.2783),
}


def hest_rows(tasks: list[str]) -> list[dict[str, Any]]:
    """Rows of the published table for some tasks, named as their folders; none where it has none of them.

    Parameters
    ----------
    tasks : list of str

    Returns
    -------
    list of dict
        encoder, a column for each task that was published, and their mean where all of them were.
    """
    shown = [(task, _TASKS.index(TASK_FOLDERS[task])) for task in tasks if task in TASK_FOLDERS]
    if not shown:
        return []
    rows = []
    for name, values in _HEST.items():
        row: dict[str, Any] = {"encoder": name, "from": "published"}
        row |= {task: values[at] for task, at in shown}
        if len(shown) == len(tasks):
            row["mean"] = sum(values[at] for _, at in shown) / len(shown)
        rows.append(row)
    return rows


def st_align_rows(slices: list[str]) -> list[dict[str, Any]]:
    """Rows of ST-Align's table for some slices.

    Parameters
    ----------
    slices : list of str
        Of `ST_ALIGN_SLICES`.
    """
    at = [ST_ALIGN_SLICES.index(name) for name in slices]
    return [
        {"features": name, "method": "published", "smoothing": ""}
        | {ST_ALIGN_SLICES[i]: values[i] for i in at}
        | {"mean": sum(values[i] for i in at) / len(at)}
        for name, values in _ST_ALIGN.items()
    ]
