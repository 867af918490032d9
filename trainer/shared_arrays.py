"""A dataset whose arrays the workers of a loader share, instead of each having a copy."""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from multiprocessing.reduction import DupFd
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ALIGNED: Final = 64  # bytes; numpy is fastest on arrays that start at a multiple


class Shared(Dataset[Any]):
    """A dataset for the workers of a loader, who read its arrays from one file instead of each being sent a copy.

    A worker gets the dataset itself, its arrays read-only and mapped. Their pages are in memory once, and give way
    where it is short. The file has no name: it is gone with the last process that uses it.

    Parameters
    ----------
    dataset : Dataset
        Of anything that can be pickled; contiguous numpy arrays are what is shared.
    folder : Path
        On a disk with room for the arrays.

    Raises
    ------
    OSError
        If there is no room, with what to do.
    """

    def __init__(self, dataset: Dataset[Any], folder: Path) -> None:
        arrays: list[pickle.PickleBuffer] = []
        self._rest = pickle.dumps(dataset, protocol=5, buffer_callback=arrays.append)
        self._spans: list[tuple[int, int]] = []
        try:
            self._write(arrays, folder)
        except OSError as exc:
            size = sum(array.raw().nbytes for array in arrays) / 1e9
            msg = (
                f"The training arrays, {size:.2g} GB, that worker processes share could not be written to {folder}: "
                f"{exc.strerror}. Make room, or give --workers 0."
            )
            raise OSError(exc.errno, msg) from exc
        weakref.finalize(self, os.close, self._descriptor)

    def _write(self, arrays: Sequence[pickle.PickleBuffer], folder: Path) -> None:
        with TemporaryFile(dir=folder) as file:
            for array in arrays:
                start = file.seek(-(-file.tell() // _ALIGNED) * _ALIGNED)
                # Written rather than mapped: a full disk is then an error, and not the end of the process.
                file.write(array.raw())
                self._spans.append((start, file.tell()))
            file.flush()
            self._descriptor = os.dup(file.fileno())

    def __reduce__(self) -> tuple[Any, ...]:
        return _mapped, (self._rest, self._spans, DupFd(self._descriptor))


def _mapped(rest: bytes, spans: Sequence[tuple[int, int]], file: Any) -> Dataset[Any]:  # noqa: ANN401 - private to multiprocessing
    """Dataset of a `Shared`, in another process."""
    descriptor = file.detach()
    memory = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    os.close(descriptor)  # the map stays
    dataset: Dataset[Any] = pickle.loads(
        rest, buffers=[memory[start:stop] for start, stop in spans]
    )
    return dataset
