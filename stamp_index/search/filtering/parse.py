"""From the text of a filter to its tree, by recursive descent.

::

    filter     = [ or ]
    or         = and { "or" and }
    and        = not { "and" not }
    not        = "not" not | "(" or ")" | comparison
    comparison = subject operator value
               | value operator subject [ operator value ]        0 < x_um <= 500
               | subject [ "not" ] "in" list
               | subject "is" [ "not" ] ( "known" | "missing" )
    subject    = field | function "(" text ")"
    list       = "(" value { "," value } [ "," ] ")"              or in square brackets
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn, TypeVar, cast

from stamp_index.errors import QueryError
from stamp_index.search.filtering.fields import FIELDS, FUNCTIONS, unknown_name
from stamp_index.search.filtering.messages import refusal, short, shown
from stamp_index.search.filtering.nodes import (
    MAX_DEPTH,
    MAX_VALUES,
    And,
    Call,
    Compare,
    Field,
    In,
    Known,
    Not,
    Or,
)
from stamp_index.search.filtering.tokens import OPERATORS, Token, tokenize, unquoted_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from stamp_index.search.filtering.nodes import Condition, Function, Operator, Subject, Value

Made = TypeVar("Made")

MAX_CHARACTERS: Final = 10_000
_TURNED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CLOSING: Final = {"(": ")", "[": "]"}


def parse_filter(text: str) -> Condition | None:
    """Read a filter; the package's docstring gives the language.

    Parameters
    ----------
    text : str
        For example ``'organ == "breast" and n_counts > 1000'``; at most 10,000 characters.

    Returns
    -------
    And, Or, Not, Compare, In, Known or None
        The filter's tree; None for an empty text, which filters nothing.

    Raises
    ------
    QueryError
        If it cannot be read; the message shows the place and says what to write.
    TypeError
        If it is no text.
    """
    if not isinstance(text, str):
        msg = f"The filter is {text!r}; expected text."
        raise TypeError(msg)
    if len(text) > MAX_CHARACTERS:
        msg = (
            f"The filter has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read. Long "
            f"lists of values can be given from Python with field_in."
        )
        raise QueryError(msg)
    return _Parser(text).filter()


class _Parser:
    """Reads the tokens of one text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._at = 0
        self._depth = 0

    # ---- conditions --------------------------------------------------------------------------

    def filter(self) -> Condition | None:
        if len(self._tokens) == 1:
            return None
        condition = self._or()
        if self._now.kind != "end":
            self._refuse_after_condition()
        return condition

    def _or(self) -> Condition:
        start = self._now
        terms = [self._and()]
        while self._take("or"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else self._make(start, lambda: Or(tuple(terms)))

    def _and(self) -> Condition:
        start = self._now
        terms = [self._not()]
        while self._take("and"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else self._make(start, lambda: And(tuple(terms)))

    def _not(self) -> Condition:
        start = self._now
        if not start.says("not", "("):
            return self._comparison()
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(
                start, f"Conditions are nested more than {MAX_DEPTH} deep. Write it simpler."
            )
        if start.says("not"):
            term = self._not()
            condition: Condition = self._make(start, lambda: Not(term))
        else:
            condition = self._or()
            if not self._take(")"):
                if self._now.kind == "end":
                    self._refuse(start, "This parenthesis is not closed. Add the missing ).")
                self._refuse_after_condition()
        self._depth -= 1
        return condition

    # ---- comparisons -------------------------------------------------------------------------

    def _comparison(self) -> Condition:
        if self._now.kind in ("number", "text"):
            return self._from_value()
        subject = self._subject()
        start = self._now
        if self._take("in"):
            return self._in(subject)
        if self._take("not"):
            if not self._take("in"):
                self._refuse(
                    self._now, f"After '{subject} not' comes 'in', as in {subject} not in (...)."
                )
            member = self._in(subject)
            return self._make(start, lambda: Not(member))
        if self._take("is"):
            return self._known(subject)
        operator = self._operator(subject)
        condition = self._compare(subject, operator)
        if self._now.kind == "operator":
            problem = "A chain has the field in the middle, as in 0 < x_um <= 500. Otherwise join with 'and'."
            self._refuse(self._now, problem)
        return condition

    def _from_value(self) -> Condition:
        """Read ``value operator subject``, and what may follow."""
        start = self._next()
        value = start.value
        operator = self._now
        if operator.says("in", "not", "is") or operator.kind != "operator":
            self._refuse_lone_value(start)
        self._at += 1
        if self._now.kind in ("number", "text"):
            self._refuse(self._now, "Two values are compared. One side must be a field.")
        subject = self._subject()
        turned = cast("Operator", _TURNED[str(operator.value)])
        lower = self._make(start, lambda: Compare(subject, turned, value))
        if self._now.kind != "operator":
            return lower
        second = self._next()
        if not {operator.value, second.value} <= {"<", "<="} and not (
            {operator.value, second.value} <= {">", ">="}
        ):
            problem = "Both signs of a chain point the same way, as in 0 < x_um <= 500. Else join with 'and'."
            self._refuse(second, problem)
        upper = self._compare(subject, second)
        if self._now.kind == "operator":
            self._refuse(self._now, "A chain has one field and two signs. Join more with 'and'.")
        return self._make(start, lambda: And((lower, upper)))

    def _compare(self, subject: Subject, operator: Token) -> Compare:
        sign = cast("Operator", operator.value)
        if self._now.says("(", "["):
            problem = f"{sign} compares with one value. For several write {subject} in (...)."
            self._refuse(self._now, problem)
        start = self._now
        value = self._value(subject, f"after {subject} {sign}")
        return self._make(start, lambda: Compare(subject, sign, value))

    def _in(self, subject: Subject) -> In:
        opening = self._now
        if not (self._take("(") or self._take("[")):
            if opening.kind in ("text", "number"):
                raw = short(self._text[opening.start : opening.end])
                self._refuse(opening, f"A list stands in parentheses: {subject} in ({raw}).")
            self._refuse(
                opening, f"After 'in' comes a list in parentheses, as in {_example(subject)}."
            )
        closing = _CLOSING[str(opening.value)]
        values: list[Value] = []
        start = self._now
        while not self._take(closing):
            if values and not self._take(","):
                self._refuse_in_list(opening, closing)
            if values and self._take(closing):
                break  # a comma at the end, as in ("P1",)
            token = self._now
            values.append(self._value(subject, "in the list"))
            self._make(token, lambda: In(subject, (values[-1],)))
            if len(values) > MAX_VALUES:
                self._refuse(opening, f"The list has more than {MAX_VALUES:,} values. Split it.")
        return self._make(start, lambda: In(subject, tuple(values)))

    def _known(self, subject: Subject) -> Condition:
        start = self._now
        is_negated = self._take("not")
        word = str(self._now.value).casefold() if self._now.kind == "name" else ""
        if word not in ("known", "missing"):
            problem = (
                f"After 'is' comes 'known' or 'missing'. To compare, write {subject} == a value."
            )
            self._refuse(self._now, problem)
        self._at += 1
        known = Known(subject)
        if (word == "known") != is_negated:
            return known
        return self._make(start, lambda: Not(known))

    # ---- parts of a comparison ---------------------------------------------------------------

    def _subject(self) -> Subject:
        token = self._now
        if token.kind != "name":
            self._refuse_no_condition()
        self._at += 1
        name = str(token.value)
        if name in FUNCTIONS:
            return self._call(token, name)
        if name not in FIELDS:
            self._refuse(token, unknown_name(name))
        if self._now.says("("):
            self._refuse(self._now, f"{name} is a field and takes no parentheses. Compare it.")
        return Field(name)

    def _call(self, token: Token, name: str) -> Call:
        example = f'{name}("{FUNCTIONS[name][1]}")'
        if not self._take("("):
            self._refuse(token, f"{name} needs a name in parentheses, as in {example}.")
        argument = self._next()
        if argument.kind == "name":
            word = shown(str(argument.value))
            self._refuse(argument, f"The name stands in quotes: {name}({word}).")
        if argument.kind != "text":
            self._refuse(argument, f"{name} needs one name in quotes, as in {example}.")
        if not self._take(")"):
            self._refuse(self._now, f"{name} takes one name and a closing parenthesis: {example}.")
        return self._make(argument, lambda: Call(cast("Function", name), str(argument.value)))

    def _operator(self, subject: Subject) -> Token:
        token = self._now
        if token.kind != "operator":
            signs = ", ".join(OPERATORS)
            problem = f"{subject} must be compared: {signs}, in, not in, is known or is missing."
            self._refuse(token, problem)
        return self._next()

    def _value(self, subject: Subject, where: str) -> Value:
        token = self._now
        if token.kind in ("text", "number"):
            self._at += 1
            return token.value
        if token.kind == "name":
            self._refuse_name_as_value(token, subject)
        if token.kind == "end":
            self._refuse(token, f"The filter ends {where}. Add a value.")
        self._refuse(token, f"A value was expected {where}: text in quotes, or a number.")

    # ---- refusals ----------------------------------------------------------------------------

    def _refuse_after_condition(self) -> NoReturn:
        token, before = self._now, self._tokens[self._at - 1]
        if token.says(")", "]"):
            self._refuse(token, "This parenthesis closes nothing. Remove it, or open one before.")
        if token.says(","):
            if before.kind == "number" and self._tokens[self._at + 1].kind == "number":
                self._refuse(token, "Numbers have a decimal point, not a comma, as in 0.5.")
            self._refuse(token, "A comma stands only in lists. Join conditions with 'and' or 'or'.")
        if token.kind == "number" and before.kind == "number":
            self._refuse(token, "There is no arithmetic. Write the number that comes out.")
        self._refuse(token, "The condition before is complete. Join another with 'and' or 'or'.")

    def _refuse_no_condition(self) -> NoReturn:
        token = self._now
        if token.kind != "end":
            self._refuse(token, 'A condition was expected, such as organ == "breast".')
        before = self._tokens[self._at - 1]
        word = short(self._text[before.start : before.end])
        self._refuse(token, f"The filter ends after '{word}'. Add a condition, or remove '{word}'.")

    def _refuse_lone_value(self, value: Token) -> NoReturn:
        raw = short(self._text[value.start : value.end])
        if self._now.kind == "bad":
            self._refuse(self._now, "")
        if self._now.says("in"):
            problem = f"'in' looks for a field in a list of values, as in organ in ({raw}, ...)."
            self._refuse(self._now, problem)
        problem = (
            f"{shown(raw) if value.kind == 'number' else raw} stands alone. Name the field again, "
            f"as in organ == {raw}, or use one list, as in organ in (..., {raw})."
        )
        self._refuse(value, problem)

    def _refuse_in_list(self, opening: Token, closing: str) -> NoReturn:
        if self._now.kind == "end":
            self._refuse(opening, f"This list is not closed. Add the missing {closing}.")
        self._refuse(self._now, f"In a list comes a comma or {closing} here.")

    def _refuse_name_as_value(self, token: Token, subject: Subject) -> NoReturn:
        name = str(token.value)
        if name in FIELDS or name in FUNCTIONS:
            problem = f"Fields are compared with values only. If {name} is text, put it in quotes."
            self._refuse(token, problem)
        words = unquoted_text(self._text, self._tokens[self._at :])
        end = token.start + len(words)
        problem = f"Text stands in quotes: {shown(words)}."
        if subject.kind == "number":
            problem = f"{shown(words)} is no number. Missing ones are asked for with {subject} is missing."
        raise refusal(self._text, token.start, end, problem)

    def _refuse(self, token: Token, problem: str) -> NoReturn:
        """Raise for a token; one that is bad in itself says so instead."""
        problem = str(token.value) if token.kind == "bad" else problem
        raise refusal(self._text, token.start, token.end, problem)

    # ---- helpers -----------------------------------------------------------------------------

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _take(self, word: str) -> bool:
        """Step over a keyword or mark if it comes now."""
        is_there = self._now.says(word)
        self._at += is_there
        return is_there

    def _make(self, token: Token, make: Callable[[], Made]) -> Made:
        """Make a node; what it refuses is shown at its place."""
        try:
            return make()
        except QueryError as exc:
            raise refusal(self._text, token.start, token.end, str(exc)) from None


def _example(subject: Subject) -> str:
    values = "(1, 2)" if subject.kind == "number" else '("a", "b")'
    return f"{subject} in {values}"
