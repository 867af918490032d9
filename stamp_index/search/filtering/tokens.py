"""From the text of a filter to its words, numbers, texts and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from stamp_index.search.filtering.messages import number_text, printable, short, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYWORDS: Final = ("and", "or", "not", "in", "is")
OPERATORS: Final = ("==", "!=", "<=", ">=", "<", ">")

_NUMBER: Final = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_PATTERN: Final = re.compile(
    rf"""
      (?P<space>\s+)
    | (?P<number>{_NUMBER}) (?P<stuck>[^\W\d][\w.-]*)?
    | (?P<name>[^\W\d]\w*)
    | (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<operator>[=<>!&|]+)
    | (?P<mark>[()\[\],])
    | (?P<curly>[“”„«][^“”„«»"]*[“”»] | [‘’‚][^‘’‚']*[‘’])
    | (?P<open>["'].*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)

# What people write, and what is meant.
_MEANT: Final = {
    "=": "==", "===": "==", "=<": "<=", "=>": ">=", "<>": "!=", "!==": "!=", "=!": "!=",
    "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not", "~": "not", ";": "and",
    "≤": "<=", "≥": ">=", "≠": "!=", "−": "-", "–": "-", "{": "(", "}": ")",
}  # fmt: skip


@dataclass(frozen=True)
class Token:
    """A piece of the text.

    Attributes
    ----------
    kind : str
        "name", "keyword", "number", "text", "operator", "mark", "bad" or "end".
    value : str or float
        What it says: lower case for keywords, unescaped for texts; of a bad piece what is wrong.
    start, end : int
        Where it stands.
    """

    kind: Literal["name", "keyword", "number", "text", "operator", "mark", "bad", "end"]
    value: str | float
    start: int
    end: int

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords, operators or marks."""
        return self.kind in ("keyword", "operator", "mark") and self.value in words


def tokenize(text: str) -> list[Token]:
    """Cut a text into pieces; never fails, as bad pieces are told when they are reached.

    Returns
    -------
    list of Token
        The last one has kind "end".
    """
    tokens = [
        _token(match) for match in _PATTERN.finditer(text) if match.lastgroup not in (None, "space")
    ]
    return [*tokens, Token("end", "", len(text), len(text))]


def _token(match: re.Match[str]) -> Token:
    raw, start, end = match[0], match.start(), match.end()
    group = match.lastgroup
    if group == "name":
        word = raw.casefold()
        return (
            Token("keyword", word, start, end)
            if word in KEYWORDS
            else Token("name", raw, start, end)
        )
    if group == "text":
        return _text_token(match)
    if group == "number":
        number = float(raw)
        if number in (float("inf"), float("-inf")):
            problem = f"The number is too large; numbers end at {number_text(1.7e308)}."
            return Token("bad", problem, start, end)
        return Token("number", number, start, end)
    if group == "mark" or (group == "operator" and raw in OPERATORS):
        return Token("mark" if group == "mark" else "operator", raw, start, end)
    return Token("bad", _problem(match), start, end if group != "open" else start + 1)


def _text_token(match: re.Match[str]) -> Token:
    for escape in _ESCAPE.finditer(match[0]):
        if escape[1] not in "\\\"'":
            problem = (
                f"{printable(escape[0])} means nothing inside quotes. Write \\\\ for a backslash, "
                f"\\\" or \\' for a quote."
            )
            start = match.start() + escape.start()
            return Token("bad", problem, start, start + 2)
    return Token("text", _ESCAPE.sub(r"\1", match[0][1:-1]), match.start(), match.end())


def _problem(match: re.Match[str]) -> str:
    raw = match[0]
    if match.lastgroup == "stuck":
        return (
            f"{short(raw)} is neither a number nor text in quotes. Numbers have no unit, as in "
            f"x_um > {short(match['number'])}; text is written {shown(raw)}."
        )
    if match.lastgroup == "curly":
        return f"These quotes are curly. Use straight ones: {shown(raw[1:-1])}."
    if match.lastgroup == "open":
        return "This quote is not closed. End the text with the same quote."
    if raw in _MEANT:
        return f"There is no {raw} in filters. Write {_MEANT[raw]} instead."
    if raw in "“”„«»‘’‚":
        return 'This quote is curly. Use straight ones: ".'
    if match.lastgroup == "operator":
        return f"There is no operator {short(raw)}. There are {', '.join(OPERATORS)}, in, not in and is."
    return (
        f"{short(raw)} has no meaning here. Text stands in quotes; there is no arithmetic, and "
        f"conditions are joined with and, or, not."
    )


def unquoted_text(text: str, tokens: list[Token]) -> str:
    """Words that were meant as one text: from the first token up to what cannot belong to it."""
    return text[tokens[0].start : _last_word(iter(tokens)).end]


def _last_word(tokens: Iterator[Token]) -> Token:
    last = next(tokens)
    for token in tokens:
        if token.kind not in ("name", "number"):
            break
        last = token
    return last
