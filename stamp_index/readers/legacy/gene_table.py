"""A table of gene names that lies beside counts whose columns are Ensembl ids."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import pandas as pd

from stamp_index.errors import SlideError
from stamp_index.genes.reference.table import without_version
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.regular import regular
from stamp_index.readers.common.unpacked import open_unpacked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COLUMNS: Final = ("gene_id", "gene_name")  # as in GENCODE's attributes, and STUtility's tables


@dataclass(frozen=True)
class GeneTable:
    """Symbols by Ensembl id without version.

    Attributes
    ----------
    name : str
        The file's.
    by_id : mapping of str to str
        Symbols by id.
    """

    name: str
    by_id: Mapping[str, str]

    def symbols(self, names: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """Return a symbol per name, and a note.

        Parameters
        ----------
        names : sequence of str
            Ensembl ids, with or without version. What the table does not know keeps its id.
        """
        ids = [without_version(name) or name for name in names]
        found = sum(gene_id in self.by_id for gene_id in ids)
        note = f"{found} of {len(ids)} genes were named by {self.name}."
        return tuple(self.by_id.get(gene_id) or gene_id for gene_id in ids), note

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a table of gene names.

        Parameters
        ----------
        path : Path
            Tab-separated with columns gene_id and gene_name; may be gzipped.

        Raises
        ------
        SlideError
            If it is damaged.
        """
        try:
            with open_unpacked(path) as stream:
                table = pd.read_csv(stream, sep="\t", usecols=list(_COLUMNS), dtype=str).dropna()
        except (OSError, EOFError, ValueError, zlib.error) as exc:
            msg = (
                f"The gene names {path} cannot be read ({exc}). Copy the file again, or remove it."
            )
            raise SlideError(msg) from exc
        ids = [without_version(gene_id) or gene_id for gene_id in table["gene_id"]]
        return cls(path.name, dict(zip(ids, table["gene_name"], strict=True)))


def find_gene_table(folder: Path) -> Path | None:
    """Return the one table of gene names in a folder (``*genes*.tsv`` or ``.tsv.gz``), or None.

    Raises
    ------
    SlideError
        If there are several.
    """
    found = [path for path in sorted(folder.glob("*genes*.tsv*")) if _is_gene_table(path)]
    if len(found) > 1:
        msg = f"{folder} has {len(found)} tables of gene names ({', '.join(p.name for p in found)}). Keep one."
        raise SlideError(msg)
    return confined(found[0], folder) if found else None


def _is_gene_table(path: Path) -> bool:
    try:
        with (
            gzip.open(regular(path), "rb")
            if path.suffix == ".gz"
            else regular(path).open("rb") as stream
        ):
            columns = stream.readline(4096).decode().split()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error):
        return False
    return set(_COLUMNS) <= set(columns)
