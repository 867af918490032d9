"""Lists of genes as people paste them: a signature, a column, a table with a header, words, arrows and signs.

`parse_signature` stays the one grammar of a term. This module brings what was pasted into terms; what it cannot read
it lists, with the line, and never drops silently.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from stamp_index.errors import QueryError
from stamp_index.genes.signature import MAX_TERMS, Signature, parse_signature

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT_CHARS: Final = 100_000
MAX_NAME_CHARS: Final = 64  # 50 such names make a signature that `parse_signature` still reads
MAX_PROBLEMS: Final = 50

_UP: Final = "\u2191"  # an arrow up, to which all others are brought
_DOWN: Final = "\u2193"
_HIGH: Final = (_UP, "+", "high", "hi", "up", "upregulated", "up-regulated", "positive", "pos", "increased", "overexpressed")  # fmt: skip
_LOW: Final = (_DOWN, "-", "low", "lo", "down", "dn", "downregulated", "down-regulated", "negative", "neg", "decreased", "underexpressed")  # fmt: skip
LEVELS: Final = {**dict.fromkeys(_HIGH, "high"), **dict.fromkeys(_LOW, "low")}
_AND: Final = ("and", "&")
# What word processors, web pages and other keyboards put in place of the plain signs.
_GLYPHS: Final = str.maketrans(
    {
        **dict.fromkeys("\u25b2\u25b3\u2b06\u21e7\u21d1\u2197\U0001f53a\U0001f53c", _UP),
        **dict.fromkeys("\u25bc\u25bd\u2b07\u21e9\u21d3\u2198\U0001f53b\U0001f53d", _DOWN),
        **dict.fromkeys("\u2212\u2013\u2014\u2010\u2011\ufe63\uff0d", "-"),
        "\uff0b": "+",
        **dict.fromkeys("\u00a0\u2007\u202f\u3000", " "),
        **dict.fromkeys("\ufeff\u200b\u200c\u200d\u2060\ufe0e\ufe0f", None),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2018\u2019\u201a", "'"),
        **dict.fromkeys("\uff0c\u3001", ","),
        "\uff1b": ";",
        "\uff1a": ":",
    }
)
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DECIMAL_CELL: Final = re.compile(r"(?:(?<=[\t;])|^)( *[+-]?\d{1,12}),(\d{1,12} *)(?=[\t;]|$)")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_BULLET: Final = re.compile("(?:[*\u2022\u00b7\u25cf\u25e6\u25aa\u2023]|\\d{1,3}[.)])\\s+")
_DASHED: Final = re.compile(r"\s*-\s+\S")
_HEADING: Final = re.compile(r"\s*([A-Za-z-]+)(?:[ -]genes)?\s*:(.*)", re.IGNORECASE)
GENE_COLUMNS: Final = ("gene", "genes", "symbol", "symbols", "gene_symbol", "gene_name", "gene symbol", "gene name", "hgnc_symbol", "feature", "names", "name", "target")  # fmt: skip
LEVEL_COLUMNS: Final = ("weight", "direction", "level", "sign", "score", "regulation", "change", "logfc", "log2fc", "avg_log2fc", "avg_logfc", "log2foldchange", "logfoldchanges", "coefficient")  # fmt: skip


@dataclass(frozen=True)
class GeneText:
    """What was read from a text.

    Attributes
    ----------
    terms : tuple of (str, float)
        Genes as they were written, with their weights, in order; each gene once, at most 50.
    problems : tuple of str
        One sentence for each thing that was not read, with its line; at most 50, the last says how many more there are.
    """

    terms: tuple[tuple[str, float], ...]
    problems: tuple[str, ...] = ()

    @cached_property
    def signature(self) -> Signature:
        """The terms as a signature.

        Raises
        ------
        EmptyQueryError
            If there is no term.
        """
        return Signature(self.terms)

    @property
    def text(self) -> str:
        """The terms as the text that `parse_signature` reads; "" where there are none."""
        return self.signature.text if self.terms else ""


class _Piece(NamedTuple):
    """A gene as it was written, and its level: a word, a number or ""; no gene is a problem said in `level`."""

    line: int
    gene: str
    level: str


def read_gene_text(text: str) -> GeneText:
    """Read genes from what was pasted or uploaded.

    Parameters
    ----------
    text : str
        A signature (`parse_signature` gives its grammar); genes in lines or separated by commas, semicolons, tabs or
        spaces, each with or without a word (high, up, low, down, ...), an arrow, a sign or a number before or after it;
        headings such as ``"Up:"`` for what follows; or a table with a header that names a column of genes (gene, symbol)
        and, where there is one, a column of weights or directions (weight, direction, logFC).

    Returns
    -------
    GeneText

    Raises
    ------
    QueryError
        If `text` is longer than 100,000 characters, or is no text but the bytes of a file.
    """
    if len(text) > MAX_TEXT_CHARS:
        msg = f"The list has {len(text)} characters; at most {MAX_TEXT_CHARS} are read. Paste only the genes."
        raise QueryError(msg)
    if "\0" in text:
        msg = "The list holds bytes that are no text. Save it as plain text or CSV and paste that."
        raise QueryError(msg)
    lines = text.translate(_GLYPHS).splitlines()
    terms: dict[str, tuple[str, float]] = {}
    problems: list[str] = []
    left_out: dict[str, None] = {}
    for piece in _pieces(lines):
        problem = _add(piece, terms, left_out)
        if problem:
            problems.append(f"Line {piece.line}: {problem}")
    if left_out:
        problems.insert(
            0,
            f"At most {MAX_TERMS} genes can be asked for at once; {len(left_out)} more are left out, from {next(iter(left_out))} on.",
        )
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS + 1
        problems[MAX_PROBLEMS - 1 :] = [f"{more} more things could not be read."]
    return GeneText(tuple(terms.values()), tuple(problems))


def _add(piece: _Piece, terms: dict[str, tuple[str, float]], left_out: dict[str, None]) -> str:
    """Add a piece to the terms; say why not where it cannot be one."""
    if not piece.gene:
        return piece.level
    if len(piece.gene) > MAX_NAME_CHARS:
        return f"{_quoted(piece.gene)} is too long for the name of a gene."
    try:
        n_terms = len(parse_signature(f"{piece.gene} high").items)
    except QueryError:
        n_terms = 0
    if n_terms != 1:  # a cell may hold several, as in "CD8A;CD4"
        return f"{_quoted(piece.gene)} cannot be read as a gene."
    level = LEVELS.get(piece.level.casefold(), piece.level) or "high"
    if level not in ("high", "low") and not _NUMBER.fullmatch(level):
        return (
            f"{_quoted(level)} of {piece.gene} is neither a number nor a word such as high or low."
        )
    try:
        ((gene, weight),) = parse_signature(f"{piece.gene} {level}").items
    except QueryError as exc:
        return str(exc)
    earlier = terms.get(gene.casefold())
    if earlier is not None and earlier[1] != weight:
        return f"{gene} has been given another weight ({earlier[1]:g}) before; this one ({weight:g}) is left out."
    if earlier is None and len(terms) >= MAX_TERMS:
        left_out[gene] = None
    else:
        terms.setdefault(gene.casefold(), (gene, weight))
    return ""


def _pieces(lines: list[str]) -> Iterator[_Piece]:
    filled = [number for number, line in enumerate(lines) if line.strip()]
    table = _Table.of(lines[filled[0]]) if filled else None
    if table is not None:
        yield from table.pieces(lines, filled[0])
        return
    section = ""
    for number, line in enumerate(lines, start=1):
        heading = _HEADING.fullmatch(line)
        level = heading[1].casefold() if heading else ""
        if line.lstrip().startswith("#"):
            yield _Piece(number, "", f"{_quoted(line.strip())} is a comment and was not read.")
        elif _DASHED.match(line):
            name = line.strip()[1:].strip()
            yield _Piece(
                number,
                "",
                f"{_quoted(line.strip())} may be an item of a list, or low. Write {_quoted(name)} or {_quoted('-' + name)}.",
            )
        elif heading is None or level not in LEVELS:
            yield from _of_line(number, line, section)
        elif heading[2].strip():
            yield from _of_line(number, heading[2], level)
        else:
            section = level


def _of_line(number: int, line: str, section: str) -> Iterator[_Piece]:
    """Genes of a line; a level that fills a cell belongs to the gene before it, if that has none yet."""
    found: list[_Piece] = []
    line = line.strip()
    bullet = _BULLET.match(line)
    for cell in _cells(line[bullet.end() :] if bullet else line):
        for gene, level in _of_cell(cell):
            bare = bool(found) and bool(found[-1].gene) and not found[-1].level
            if gene:
                found.append(_Piece(number, gene, level))
            elif bare:
                found[-1] = found[-1]._replace(level=level)
            else:
                found.append(_Piece(number, "", f"{_quoted(level)} stands without a gene."))
    for piece in found:
        yield piece if piece.level else piece._replace(level=section)


def _cells(line: str) -> Iterator[list[str]]:
    """Words of each part of a line between commas, semicolons and tabs."""
    if not {"\t", ";"}.isdisjoint(line):  # then a comma between digits is a decimal one
        line = _DECIMAL_CELL.sub(r"\1.\2", line)
    for cell in re.split(r"[,;\t]", line):
        plain = re.sub(r"[\"'()\[\]]", " ", cell)
        mark = max(plain.rfind(":"), plain.rfind("="))  # EPCAM = -0.5, EPCAM:low
        if mark > 0 and len(plain[mark + 1 :].split()) == 1:
            plain = f"{plain[:mark]} {plain[mark + 1 :]}"
        yield [word for word in plain.split() if word.casefold() not in _AND]


def _of_cell(words: list[str]) -> Iterator[tuple[str, str]]:
    """Genes of a cell with their levels, "" for none; a level without a gene has "" for one.

    Levels follow their genes. In a cell that begins with one they go before, and hold until the next.
    """
    if len(words) == 2 and (words[1].casefold() in ("high", "low") or _NUMBER.fullmatch(words[1])):
        yield words[0], words[1]  # as in the grammar, even for a gene called UP
        return
    goes_before = bool(words) and _is_level(words[0])
    found: list[tuple[str, str]] = []
    ahead = ""
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if not _is_level(word):
            gene, sign = _signed(word)
            found.append((gene, sign or ahead))
        elif goes_before and after and not _is_level(after):
            ahead = word
        elif not goes_before and found and found[-1][0] and not found[-1][1]:
            found[-1] = (found[-1][0], word)
        else:
            found.append(("", word))
    yield from found


def _is_level(word: str) -> bool:
    return word.casefold() in LEVELS or _NUMBER.fullmatch(word) is not None


def _signed(word: str) -> tuple[str, str]:
    """Take a sign or an arrow off a gene: +CD8A, CD8A+, -EPCAM, EPCAM-."""
    for sign in ("+", "-", _UP, _DOWN):
        if word.startswith(sign) and len(word) > 1:
            return word[1:], sign
        if word.endswith(sign) and len(word) > 1:
            return word[:-1], sign
    return word, ""


class _Table(NamedTuple):
    """Columns of a table with a header."""

    separator: str
    gene: int
    level: int | None
    unread: tuple[str, ...]

    @classmethod
    def of(cls, header: str) -> _Table | None:
        """Tell the columns from the first line; None where it is no header."""
        separator = next((mark for mark in "\t;," if mark in header), ",")
        names = [cell.strip() for cell in next(csv.reader([header], delimiter=separator))]
        folded = [name.casefold() for name in names]
        level = next((folded.index(name) for name in LEVEL_COLUMNS if name in folded), None)
        gene = next((folded.index(name) for name in GENE_COLUMNS if name in folded), None)
        if gene is None and level not in (None, 0) and not folded[0]:
            gene = 0  # R writes the row names below an empty heading
        if gene is None:
            return None
        unread = [name for at, name in enumerate(names) if at not in (gene, level) and name]
        return cls(separator, gene, level, tuple(unread))

    def pieces(self, lines: list[str], header: int) -> Iterator[_Piece]:
        if self.unread:
            columns = ", ".join(self.unread[:10]) + (", ..." if len(self.unread) > 10 else "")
            yield _Piece(header + 1, "", f"these columns are not read: {_quoted(columns)}.")
        if not any(line.strip() for line in lines[header + 1 :]):
            heading = _quoted(lines[header].strip())
            yield _Piece(header + 1, "", f"{heading} is a heading, and nothing stands below it.")
        for number, line in enumerate(lines[header + 1 :], start=header + 2):
            if not line.strip():
                continue
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=self.separator))]
            gene = cells[self.gene] if self.gene < len(cells) else ""
            if not gene:
                yield _Piece(number, "", f"{_quoted(line)} names no gene.")
                continue
            level = cells[self.level] if self.level is not None and self.level < len(cells) else ""
            if _DECIMAL_COMMA.fullmatch(level):
                level = level.replace(",", ".")
            yield _Piece(number, gene, level)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
