"""The operators of clauses: does a value of the context, on the left, stand in this relation to a clause value?

A value of a type that the operator does not handle is no match; nothing here raises.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any


def matches_any(op: str, value: Any, clause_values: Sequence[Any]) -> bool:
    """True if the operator holds for the value and any of the clause values; an unknown operator never does."""
    if op == "in" and isinstance(value, str):
        return value in clause_values  # Lists of keys are long, and a str equals nothing but a str.
    operator = OPERATORS.get(op)
    return operator is not None and operator.holds_for_any(value, clause_values)


class Operator:
    """A relation between two values, each read first as what the operator works on; None is what it cannot read."""

    __slots__ = ("_read", "_test")

    def __init__(self, read: Callable[[Any], Any], test: Callable[[Any, Any], object]) -> None:
        self._read = read
        self._test = test

    def __call__(self, value: Any, clause_value: Any) -> bool:
        return self.holds_for_any(value, (clause_value,))

    def holds_for_any(self, value: Any, clause_values: Iterable[Any]) -> bool:
        left = self._read(value)
        if left is None:
            return False
        for clause_value in clause_values:
            right = self._read(clause_value)
            if right is not None and self._test(left, right):
                return True
        return False


def equal(left: Any, right: Any) -> object:
    return left == right


def less_than(left: Any, right: Any) -> object:
    return left < right


def greater_than(left: Any, right: Any) -> object:
    return left > right


def finds_pattern(text: str, pattern: str) -> bool:
    import re

    try:
        return re.search(pattern, text) is not None
    except (re.error, ValueError, OverflowError, RecursionError, Warning):
        # Bad patterns show in many ways: "(?a)(?u)" is a ValueError, and "[[a]" warns, which `python -W error` raises.
        return False


def scalar(value: Any) -> Any:
    """A bool, number or string, such that == compares two of them as JSON does."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return (value,)  # Wrapped, because Python thinks that True == 1.
    return number(value)


def string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def number(value: Any) -> int | float | None:
    if isinstance(value, bool):
        return None
    # A subclass becomes its base: numpy's float64, for one, has comparisons of its own.
    if isinstance(value, float):
        return float(value)
    return int(value) if isinstance(value, int) else None


def double(value: Any) -> float | None:
    """A number as LaunchDarkly's other SDKs order it; an int beyond the doubles is infinite."""
    if (plain := number(value)) is None:
        return None
    try:
        return float(plain)
    except OverflowError:
        return float("-inf" if plain < 0 else "inf")


def instant(value: Any) -> tuple[int | float, float] | None:
    """Whole milliseconds since 1970 and the fraction of the next, apart so that nanoseconds are not rounded away."""
    if isinstance(value, str):
        return _rfc3339(value)
    milliseconds = number(value)
    if milliseconds is None:
        return None
    if isinstance(milliseconds, int) or milliseconds in (float("inf"), float("-inf")):
        return milliseconds, 0.0
    return divmod(milliseconds, 1.0)  # of not-a-number: twice itself, which is neither before nor after anything


_TWO_DIGITS_TO_59 = "([0-5][0-9])"
_HOUR = "([01][0-9]|2[0-3])"
_RFC3339 = (
    f"([0-9]{{4}})-(0[1-9]|1[0-2])-([0-9]{{2}})[Tt]{_HOUR}:{_TWO_DIGITS_TO_59}:{_TWO_DIGITS_TO_59}"
    rf"(?:\.([0-9]{{1,9}}))?(?:[Zz]|([+-]){_HOUR}:{_TWO_DIGITS_TO_59})"
)


def _rfc3339(text: str) -> tuple[int, float] | None:
    import re

    if (match := re.fullmatch(_RFC3339, text)) is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, offset_hour, offset_minute = match.groups()[6:]
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        return None
    minutes = (_days_since_1970(year, month, day) * 24 + hour) * 60 + minute
    if sign:
        offset = int(offset_hour) * 60 + int(offset_minute)
        minutes += offset if sign == "-" else -offset
    nanoseconds = int((fraction or "").ljust(9, "0"))
    return (minutes * 60 + second) * 1000 + nanoseconds // 1_000_000, nanoseconds % 1_000_000 / 1e6


def _days_since_1970(year: int, month: int, day: int) -> int:
    """As datetime counts, but with a year 0, which RFC 3339 has, and without its import."""
    if month <= 2:  # Years that begin in March have their leap day at the end.
        year -= 1
    return year * 365 + year // 4 - year // 100 + year // 400 + ((month + 9) % 12 * 153 + 2) // 5 + day - 719469


_NUMERIC = "(0|[1-9][0-9]*)"
_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_SEMVER = rf"{_NUMERIC}(?:\.{_NUMERIC}(?:\.{_NUMERIC})?)?(?:-({_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?"


def version(value: Any) -> tuple[Any, ...] | None:
    """A semantic version, minor and patch optional, as a tuple that compares by precedence."""
    if not isinstance(value, str):
        return None
    import re

    if (match := re.fullmatch(_SEMVER, value)) is None:
        return None
    *numbers, prerelease = match.groups()
    core = [_by_size(digits or "0") for digits in numbers]
    if prerelease is None:
        return (*core, 1)  # a release comes after its prereleases
    identifiers: list[tuple[Any, ...]] = []
    for identifier in prerelease.split("."):
        if not identifier.isdigit():
            identifiers.append((1, identifier))
        elif identifier[0] == "0" and identifier != "0":
            return None
        else:
            identifiers.append((0, _by_size(identifier)))
    return (*core, 0, identifiers)


def _by_size(digits: str) -> tuple[int, str]:
    """Digits without leading zeros in the order of their numbers; int() refuses more than 4300 of them."""
    return len(digits), digits


OPERATORS: Mapping[str, Operator] = {
    "in": Operator(scalar, equal),
    "startsWith": Operator(string, str.startswith),
    "endsWith": Operator(string, str.endswith),
    "contains": Operator(string, str.__contains__),
    "matches": Operator(string, finds_pattern),
    "lessThan": Operator(double, less_than),
    "lessThanOrEqual": Operator(double, lambda left, right: left <= right),
    "greaterThan": Operator(double, greater_than),
    "greaterThanOrEqual": Operator(double, lambda left, right: left >= right),
    "before": Operator(instant, less_than),
    "after": Operator(instant, greater_than),
    "semVerEqual": Operator(version, equal),
    "semVerLessThan": Operator(version, less_than),
    "semVerGreaterThan": Operator(version, greater_than),
}
