"""Reads the files that go with published weights: vocabulary, gene means, symbols, gene lists."""

from __future__ import annotations

import csv
import gzip
import unicodedata
import zlib
from tokenize import TokenError
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from stamp_index.encoders.published.vocabulary import Vocabulary
from stamp_index.errors import EncoderError
from stamp_index.genes.names import refuse_duplicates
from stamp_index.genes.safe_pickle import load_plain_pickle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Under the names of the STAMP repository (src/), and as plain tables.
_VOCABULARY: Final = ("model.h5ad", "vocabulary.csv", "vocabulary.csv.gz")
_MEANS: Final = ("Visium_mean.npy",)
_SYMBOLS: Final = ("gene_name_id_dict.pkl", "symbol_to_ensembl.csv", "symbol_to_ensembl.csv.gz")
_GENES: Final = ("genes.txt",)
_STATS: Final = ("gene_stats.csv", "gene_stats.csv.gz")
_LARGEST_MEAN: Final = float(np.finfo(np.float32).max)
# Raised where a damaged header claims more values than there are bytes.
_TOO_LARGE: Final = (MemoryError, OverflowError, RuntimeError)


class GeneList(NamedTuple):
    """Genes of a dense gene model, in its order, with their statistics.

    Attributes
    ----------
    genes : tuple of str, length g
    mean, std : ndarray of shape (g,), float32
        Of the model's input over its training spots; 0 and 1 where they are not known.
    """

    genes: tuple[str, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read STAMP's vocabulary, means and symbols.

    Parameters
    ----------
    folder : Path
        Holds ``model.h5ad`` or ``vocabulary.csv[.gz]`` (columns ``ensembl_id`` and ``mean``);
        ``Visium_mean.npy``, if the table has no means; and ``gene_name_id_dict.pkl`` or
        ``symbol_to_ensembl.csv[.gz]`` (columns ``symbol`` and ``ensembl_id``).

    Raises
    ------
    EncoderError
        If a file is missing or cannot be read, or the files are not of one model.
    """
    path = _find(folder, _VOCABULARY, "the vocabulary")
    if path.suffix == ".h5ad":
        gene_ids, means = _names_of_h5ad(path), None
    else:
        rows = _read_csv(path, ("ensembl_id",), ("mean",))
        gene_ids = [row["ensembl_id"] for row in rows]
        given = [_number(row.get("mean") or "nan", path) for row in rows]
        means = np.array(given) if "mean" in rows[0] else None
    found = [folder / name for name in _MEANS if (folder / name).is_file()]
    if means is None or found:
        means = _read_means(_find(folder, _MEANS, "the gene means"), len(gene_ids))
    means = _checked_means(means, folder)
    symbols = _read_symbols(_find(folder, _SYMBOLS, "the symbols of genes"))
    if not set(symbols.values()) & set(gene_ids):
        msg = (
            f"None of the {len(symbols)} symbols in {folder} means one of the vocabulary's {len(gene_ids)} "
            "genes: the files are of different models. Copy both from the same repository."
        )
        raise EncoderError(msg)
    return Vocabulary.from_tables(gene_ids, means, symbols)


def read_gene_list(folder: Path, n_genes: int) -> GeneList:
    """Read the ordered genes of a SEAL gene model, and their mean and deviation where they are known.

    Parameters
    ----------
    folder : Path
        Holds ``genes.txt``, one symbol a line in the order of the model's input; and, if they are known,
        ``gene_stats.csv[.gz]`` with the columns ``gene``, ``mean`` and ``std``.
    n_genes : int
        Length of the model's input.

    Raises
    ------
    EncoderError
        If the list is missing or has another length, or a file cannot be read.
    """
    path = folder / _GENES[0]
    if not path.is_file():
        msg = (
            f"There is no {_GENES[0]} in {folder}. SEAL's weights do not say which genes their input columns "
            f"are, and its authors have not published the list: put the {n_genes} symbols of the model that "
            "you have, in training order and one a line, into that file."
        )
        raise EncoderError(msg)
    genes = _read_lines(path)
    if len(genes) != n_genes:
        msg = f"{path} has {len(genes)} genes, but the weights take {n_genes}. Give the list of that model."
        raise EncoderError(msg)
    refuse_duplicates(genes, str(path))
    mean, std = np.zeros(n_genes, dtype=np.float32), np.ones(n_genes, dtype=np.float32)
    table = next((folder / name for name in _STATS if (folder / name).is_file()), None)
    if table is not None:
        rows = {row["gene"]: row for row in _read_csv(table, ("gene", "mean", "std"))}
        missing = [gene for gene in genes if gene not in rows]
        if missing:
            msg = f"{table} lacks {len(missing)} genes of {path.name} ({', '.join(missing[:5])}). Add them."
            raise EncoderError(msg)
        mean[:] = [_number(rows[gene]["mean"], table) for gene in genes]
        std[:] = [_number(rows[gene]["std"], table) for gene in genes]
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            msg = f"Means in {table} must be numbers and deviations must be above 0. Correct the table."
            raise EncoderError(msg)
    return GeneList(genes, mean, std)


def asset_files(folder: Path) -> list[Path]:
    """Return the files of a folder that the readers here know, for the record."""
    names = (*_VOCABULARY, *_MEANS, *_SYMBOLS, *_GENES, *_STATS)
    return [folder / name for name in names if (folder / name).is_file()]


def _find(folder: Path, names: Sequence[str], what: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    msg = f"{what.capitalize()} cannot be found in {folder}: expected {' or '.join(names)} there."
    raise EncoderError(msg)


def _checked_means(means: NDArray[np.float64], folder: Path) -> NDArray[np.float64]:
    """Means with 0 for the genes that the corpus never shows, which are NaN."""
    filled = np.where(np.isnan(means), 0.0, means)
    if np.isnan(means).all() or (filled < 0).any() or (filled > _LARGEST_MEAN).any():
        msg = (
            f"The gene means in {folder} must be numbers, 0 or more, and at most {_LARGEST_MEAN:g}; NaN may "
            "stand for some genes but not for all. Copy the published file again."
        )
        raise EncoderError(msg)
    return filled


def _read_lines(path: Path) -> tuple[str, ...]:
    """Names in a text file, one a line; a mark of byte order before them is no part of the first."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        msg = f"{path} is no readable list of genes ({exc}). Save it as UTF-8 text, one symbol a line."
        raise EncoderError(msg) from exc
    # Not splitlines, which takes some control characters for the end of a line.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if "," in line or any(unicodedata.category(letter).startswith("C") for letter in line):
            msg = (
                f"Line {number} of {path} is {line[:40]!r}; expected one gene symbol, without commas, tabs or "
                "control characters. Keep the column of symbols alone."
            )
            raise EncoderError(msg)
    return tuple(text.split())


def _names_of_h5ad(path: Path) -> list[str]:
    """Names of the genes alone; nothing else of the file is read."""
    import h5py

    try:
        with h5py.File(path) as file:
            var = file["var"]
            index = var[var.attrs["_index"]]
            if len(index.shape) != 1:
                msg = f"its index of genes has shape {index.shape} instead of one dimension"
                raise ValueError(msg)
            return [str(name) for name in index.asstr()[:]]
    # ValueError: names that are not UTF-8, among others; RuntimeError: HDF5's own complaints.
    except (OSError, LookupError, TypeError, AttributeError, ValueError, *_TOO_LARGE) as exc:
        msg = f"{path} is no readable .h5ad file ({exc}). Copy it again."
        raise EncoderError(msg) from exc


def _read_means(path: Path, n_genes: int) -> NDArray[np.float64]:
    try:
        # Not np.load, which opens archives and pickles too by how the file begins.
        with path.open("rb") as file:
            means = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, TokenError, *_TOO_LARGE) as exc:
        msg = f"{path} is no readable array of numbers ({exc}). Copy it again."
        raise EncoderError(msg) from exc
    if means.shape != (n_genes,) or means.dtype.kind not in "fiu":
        msg = (
            f"{path} holds {means.dtype} of shape {means.shape}; expected one number for each of the "
            f"vocabulary's {n_genes} genes. Copy both from the same repository."
        )
        raise EncoderError(msg)
    numbers: NDArray[np.float64] = means.astype(np.float64)
    return numbers


def _read_symbols(path: Path) -> dict[str, str]:
    if path.suffix != ".pkl":
        rows = _read_csv(path, ("symbol", "ensembl_id"))
        return {row["symbol"]: row["ensembl_id"] for row in rows}
    table = load_plain_pickle(path)
    if isinstance(table, dict):
        symbols = {k: v for k, v in table.items() if isinstance(k, str) and isinstance(v, str)}
        if symbols and len(symbols) == len(table):
            return symbols
    msg = f"{path} is no table of symbols and Ensembl ids. Copy it again, or give symbol_to_ensembl.csv."
    raise EncoderError(msg)


def _read_csv(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Rows of a CSV file, gzipped or not, that has `columns`; others than these and `optional` are left out."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as exc:
        msg = f"{path} is no readable CSV file ({exc}). Copy it again."
        raise EncoderError(msg) from exc
    lost = [name for name in columns if not rows or rows[0].get(name) is None]
    if lost:
        msg = f"{path} has no column {', '.join(lost)} or no row; expected {', '.join(columns)}. Correct it."
        raise EncoderError(msg)
    kept = (*columns, *(name for name in optional if rows[0].get(name) is not None))
    return [{name: row[name] or "" for name in kept} for row in rows]


def _number(text: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError as exc:
        msg = f"{path} holds {text!r} where a number was expected. Correct the table."
        raise EncoderError(msg) from exc
