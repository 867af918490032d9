"""Exception tree of the library.

::

    StampIndexError
    ├─ SlideError
    │  ├─ MissingPixelSizeError      no microns per pixel, or two that contradict
    │  ├─ SpotOutsideImageError      positions do not lie on the image
    │  ├─ BarcodeMismatchError       counts and positions name different spots
    │  └─ ImageFormatError           a file that is not a readable image, or is too large to open
    ├─ PanelError
    │  ├─ MissingGenesError          genes that the panel or the store does not hold
    │  └─ DuplicateGenesError
    ├─ EncoderError
    │  └─ EncoderMismatchError       two things made by different encoders
    ├─ StoreError
    │  ├─ StoreVersionError          written by a newer release
    │  └─ DuplicateSlideError        the slide is already in the store
    ├─ AnnIndexError                 an index that is missing, damaged or of another store
    │  └─ ShardError                 shards that cannot be reached, do not answer, or are of something else
    │     └─ StalePlanError          others were put in their place meanwhile
    ├─ CrewError                     workers that cannot be started, or are lost again and again
    ├─ QueryError
    │  └─ EmptyQueryError
    └─ RemoteError                   a server of a store cannot be reached, or does not answer

Every message says what is wrong (with the value), what was expected, and what to do.
Wrong argument types or ranges raise the builtin ``ValueError`` and ``TypeError``.
"""

from __future__ import annotations


class StampIndexError(Exception):
    """Base of every error that the library raises about its users' data."""


class SlideError(StampIndexError):
    """A slide cannot be read or is inconsistent."""


class MissingPixelSizeError(SlideError):
    """The slide has no microns per pixel, or two sources contradict each other."""


class SpotOutsideImageError(SlideError):
    """Spot positions do not lie on the slide's image."""


class BarcodeMismatchError(SlideError):
    """Counts and positions name different spots."""


class ImageFormatError(SlideError):
    """A file is not an image that can be opened safely."""


class PanelError(StampIndexError):
    """Genes do not fit the gene panel."""


class MissingGenesError(PanelError):
    """Genes that are asked for are not there."""


class DuplicateGenesError(PanelError):
    """The same gene stands more than once where it must be unique."""


class EncoderError(StampIndexError):
    """An encoder checkpoint is missing, damaged or unusable."""


class EncoderMismatchError(EncoderError):
    """Two artefacts were made by different encoders."""


class StoreError(StampIndexError):
    """A store is missing, damaged or locked."""


class StoreVersionError(StoreError):
    """The store was written by a newer release of the library."""


class StoreBusyError(StoreError):
    """Another process is writing."""


class DuplicateSlideError(StoreError):
    """The slide is already in the store."""


class AnnIndexError(StampIndexError):
    """An index is missing, damaged or does not belong to the store."""


class ShardError(AnnIndexError):
    """Shards of an index cannot be reached, do not answer, or are of another store or encoder."""


class StalePlanError(ShardError):
    """Other shards were put in the place of those that were asked."""


class CrewError(StampIndexError):
    """Workers of another engine cannot be started, or a job loses them again and again."""


class QueryError(StampIndexError):
    """A query cannot be understood or answered."""


class EmptyQueryError(QueryError):
    """Nothing is left of the query."""


class RemoteError(StampIndexError):
    """A server of a store cannot be reached, or does not answer a request.

    Attributes
    ----------
    status : int
        Of its answer, such as 401 where it does not know the token; 0 where there was none.
    kind : str
        Name that the server gives to the error, such as ``"BusyError"``.
    """

    def __init__(self, message: str, *, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind
