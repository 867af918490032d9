"""Where imported models lie, and what ``published:NAME`` means."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from stamp_index.errors import EncoderError

PREFIX: Final = "published:"
_FOLDER_VARIABLE: Final = "STAMP_INDEX_MODELS"
_MANIFEST: Final = "encoder.json"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SOURCES: Final = {
    "stamp": (
        "pytorch_model.bin from https://huggingface.co/minghaofdu/STAMP, and model.h5ad, Visium_mean.npy and "
        "gene_name_id_dict.pkl from https://github.com/Hanminghao/STAMP (src/) into one folder ASSETS",
        "stamp-index import-model stamp pytorch_model.bin --assets ASSETS",
    ),
    "seal": (
        "seal_conch_omics.pth from https://huggingface.co/MahmoodLab/SEAL, and put the model's gene list as "
        "genes.txt into a folder ASSETS",
        "stamp-index import-model seal seal_conch_omics.pth --assets ASSETS",
    ),
}


def models_folder() -> Path:
    """Folder of imported models: ``$STAMP_INDEX_MODELS``, else the user's data folder."""
    named = os.environ.get(_FOLDER_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:  # also on macOS, as most command line tools do
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "stamp-index" / "models"


def checked_name(name: str) -> str:
    """Return `name`, if it can be the name of an imported model.

    Raises
    ------
    EncoderError
        If it is not made of lower-case letters, digits, ``-`` and ``_``.
    """
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is not the name of a model; expected lower-case letters, digits, - and _, such as stamp."
        raise EncoderError(msg)
    return name


def model_folder(name: str) -> Path:
    """Folder of the imported model `name`, whether or not it is there.

    Raises
    ------
    EncoderError
        See `checked_name`.
    """
    return models_folder() / checked_name(name)


def resolve_encoder(name: str | Path) -> Path:
    """Find the checkpoint folder that a user means.

    Parameters
    ----------
    name : str or Path
        A folder, or ``published:NAME`` for a model that ``stamp-index import-model`` has imported.

    Returns
    -------
    Path
        The folder. Of a folder nothing is checked here, loading does.

    Raises
    ------
    EncoderError
        If the published model has not been imported; the message says what to download and to run.
    """
    given = str(name)
    if not given.startswith(PREFIX):
        return Path(name)
    model = given.removeprefix(PREFIX)
    folder = model_folder(model)
    if (folder / _MANIFEST).is_file():
        return folder
    if model in _SOURCES:
        files, command = _SOURCES[model]
        msg = f"{given} has not been imported to {folder}: download {files}, then run `{command}`."
        raise EncoderError(msg)
    parent = models_folder()
    there = sorted(path.parent.name for path in parent.glob(f"*/{_MANIFEST}"))
    known = ", ".join(f"{PREFIX}{found}" for found in there) or "none yet"
    msg = f"There is no model {model!r} in {parent} (imported: {known}). See `stamp-index import-model --help`."
    raise EncoderError(msg)
