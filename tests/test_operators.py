"""What each clause operator answers for a value of the context (left) and a clause value (right)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ldreader import operators
from ldreader.operators import OPERATORS, matches_any

STRING_OPS = ("startsWith", "endsWith", "contains", "matches")
NUMBER_OPS = ("lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual")
DATE_OPS = ("before", "after")
VERSION_OPS = ("semVerEqual", "semVerLessThan", "semVerGreaterThan")

NOON = "2024-02-29T12:00:00Z"
NOON_MS = 1709208000000
HUGE = 10**400
LONG = "9" * 5000  # more digits than int() takes


class Colour(str, Enum):
    RED = "red"
    DAY = NOON
    VERSION = "1.2.3"


class Level(IntEnum):
    ONE = 1
    NOON = NOON_MS


class Ratio(float):
    """A float that compares in its own way, as numpy's does."""

    def _refuse(self, other: object) -> Any:
        raise OverflowError

    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse
    __hash__ = float.__hash__


def holds(op: str, value: Any, clause_value: Any) -> bool:
    """The operator's answer, asked in both ways, which must agree."""
    answer = OPERATORS[op](value, clause_value)
    assert type(answer) is bool
    assert matches_any(op, value, [clause_value]) is answer
    return answer


def test_the_table_holds_every_operator_but_segment_match() -> None:
    assert set(OPERATORS) == {"in", *STRING_OPS, *NUMBER_OPS, *DATE_OPS, *VERSION_OPS}


# --- in ---


@pytest.mark.parametrize(
    ("value", "clause_value", "expected"),
    [
        ("a", "a", True),
        ("", "", True),
        ("a", "A", False),
        ("a", "a ", False),
        ("é", "e\u0301", False),
        ("\ud800", "\ud800", True),
        (1, 1, True),
        (1, 1.0, True),
        (1.0, 1, True),
        (json.loads("1e3"), json.loads("1000"), True),
        (0, -0.0, True),
        (1, 2, False),
        (0.1, 0.2, False),
        (9007199254740993, 9007199254740992, False),
        (9007199254740993, 9007199254740993, True),
        (9007199254740993, 9007199254740992.0, False),
        (2**70, 2**70, True),
        (2**70, 2**70 + 1, False),
        (2**70, float(2**70), True),
        (HUGE, HUGE, True),
        (HUGE, HUGE + 1, False),
        (HUGE, float("inf"), False),
        (float("inf"), float("inf"), True),
        (float("nan"), float("nan"), False),
        (True, True, True),
        (False, False, True),
        (True, False, False),
        (True, 1, False),
        (1, True, False),
        (False, 0, False),
        (0, False, False),
        (True, 1.0, False),
        (1.0, True, False),
        ("1", 1, False),
        (1, "1", False),
        ("1", "1.0", False),
        ("true", True, False),
        (True, "true", False),
        (False, "", False),
        ("", False, False),
        (None, None, False),
        (None, False, False),
        (0, None, False),
        ([], [], False),
        (["a"], ["a"], False),
        ("a", ["a"], False),
        ({}, {}, False),
        ({"a": 1}, {"a": 1}, False),
        ((True,), True, False),
        (True, (True,), False),
        (b"a", "a", False),
        (Decimal(1), 1, False),
        (Fraction(1), 1, False),
        (1 + 0j, 1, False),
    ],
)
def test_in_is_equality_of_json_scalars(value: Any, clause_value: Any, expected: bool) -> None:
    assert holds("in", value, clause_value) is expected


def test_nan_is_not_in_a_list_that_holds_the_same_nan() -> None:
    nan = float("nan")
    assert not matches_any("in", nan, [nan])


@pytest.mark.parametrize(
    ("op", "value", "clause_value"),
    [
        ("in", Colour.RED, "red"),
        ("startsWith", Colour.RED, "re"),
        ("endsWith", Colour.RED, "ed"),
        ("contains", Colour.RED, "e"),
        ("matches", Colour.RED, "^red$"),
        ("after", Colour.DAY, NOON_MS - 1),
        ("semVerEqual", Colour.VERSION, "1.2.3"),
        ("in", Level.ONE, 1),
        ("in", Level.ONE, 1.0),
        ("lessThan", Level.ONE, 2),
        ("before", Level.NOON, NOON_MS + 1),
        ("in", Ratio(1.5), 1.5),
        ("lessThan", Ratio(1.5), 2),
        ("greaterThanOrEqual", Ratio(1.5), 1.5),
        ("before", Ratio(1.5), 2),
        ("after", Ratio(1.5), 1),
    ],
)
def test_a_subclass_counts_as_its_base_type(op: str, value: Any, clause_value: Any) -> None:
    assert holds(op, value, clause_value)


# --- strings ---


@pytest.mark.parametrize(
    ("op", "value", "clause_value", "expected"),
    [
        ("startsWith", "hello", "he", True),
        ("startsWith", "hello", "hello", True),
        ("startsWith", "hello", "lo", False),
        ("startsWith", "he", "hello", False),
        ("startsWith", "Hello", "he", False),
        ("startsWith", "hello", "", True),
        ("startsWith", "", "", True),
        ("endsWith", "hello", "lo", True),
        ("endsWith", "hello", "hello", True),
        ("endsWith", "hello", "he", False),
        ("endsWith", "lo", "hello", False),
        ("endsWith", "hellO", "lo", False),
        ("endsWith", "hello", "", True),
        ("contains", "hello", "ell", True),
        ("contains", "hello", "hello", True),
        ("contains", "ell", "hello", False),
        ("contains", "hello", "ELL", False),
        ("contains", "hello", "", True),
        ("matches", "hello", "ell", True),
        ("matches", "hello", "l+o$", True),
        ("matches", "hello", "^ell", False),
        ("matches", "hello", "HELLO", False),
        ("matches", "hello", "(?i)HELLO", True),
        ("matches", "hello", "", True),
        ("matches", "one\nhello", "^hello", False),
        ("matches", "\ud800", "\ud800", True),
    ],
)
def test_string_operators(op: str, value: str, clause_value: str, expected: bool) -> None:
    assert holds(op, value, clause_value) is expected


@pytest.mark.parametrize("op", STRING_OPS)
@pytest.mark.parametrize("other", [None, True, 1, 1.5, ["a"], ("a",), {"a": 1}, b"a", Decimal(1)], ids=repr)
def test_string_operators_take_nothing_but_strings(op: str, other: Any) -> None:
    assert not holds(op, other, "")
    assert not holds(op, "a1", other)
    assert not holds(op, other, other)


BAD_PATTERNS = {
    "unbalanced": "***not a regex",
    "unclosed": "(",
    "open set": "[a",
    "flags that contradict each other": "(?a)(?u)",
    "too many repetitions": "a{99999999999}",
    "a count too long for int()": "a{" + LONG + "}",
    "too deep": "(" * 20000 + ")" * 20000,
    "unknown escape": r"\N{\udc80}",
    "variable look-behind": "(?<=a*)b",
}


@pytest.mark.parametrize("pattern", BAD_PATTERNS.values(), ids=BAD_PATTERNS.keys())
def test_a_bad_pattern_does_not_match_and_the_other_values_still_count(pattern: str) -> None:
    assert not holds("matches", "a", pattern)
    assert matches_any("matches", "a", [pattern, "a"])


def test_a_pattern_that_warns_does_not_match_where_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not holds("matches", "a", "[[a]")


# --- numbers ---


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        (1, 2, -1),
        (2, 1, 1),
        (1, 1, 0),
        (1, 1.0, 0),
        (1.5, 2, -1),
        (-1, 1, -1),
        (10, 9, 1),
        (0, -0.0, 0),
        (json.loads("1e3"), 1000, 0),
        (9007199254740993, 9007199254740992, 0),  # as doubles
        (HUGE, 1e308, 1),
        (-HUGE, -1e308, -1),
        (HUGE, HUGE * 10, 0),
        (HUGE, float("inf"), 0),
        (-HUGE, float("-inf"), 0),
        (-HUGE, HUGE, -1),
        (10**5000, 1, 1),
    ],
    ids=lambda number: repr(number)[:12] if abs(number) < 10**4000 else "10**5000",
)
def test_numbers_are_ordered_as_doubles(left: float, right: float, order: int) -> None:
    assert holds("lessThan", left, right) is (order < 0)
    assert holds("lessThanOrEqual", left, right) is (order <= 0)
    assert holds("greaterThan", left, right) is (order > 0)
    assert holds("greaterThanOrEqual", left, right) is (order >= 0)


@pytest.mark.parametrize("op", NUMBER_OPS)
@pytest.mark.parametrize(
    "other", [None, True, False, "1", "", [1], (1,), {}, b"1", Decimal(1), Fraction(1), float("nan")], ids=repr
)
def test_ordering_takes_nothing_but_numbers(op: str, other: Any) -> None:
    for number in (-1, 0, 1, 1.5, float("inf")):
        assert not holds(op, other, number)
        assert not holds(op, number, other)
    assert not holds(op, other, other)


# --- dates ---


def same_instant(left: Any, right: Any) -> bool:
    """True if both are dates and neither is before the other."""
    assert holds("before", left, 1e300) and holds("before", right, 1e300)
    return not any(holds(op, *pair) for op in DATE_OPS for pair in ((left, right), (right, left)))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        (NOON, NOON_MS),
        ("2024-02-29t12:00:00z", NOON_MS),
        ("2024-02-29T12:00:00+00:00", NOON_MS),
        ("2024-02-29T12:00:00-00:00", NOON_MS),
        ("2024-02-29T14:30:00+02:30", NOON_MS),
        ("2024-02-29T05:00:00-07:00", NOON_MS),
        ("2024-03-01T11:59:00+23:59", NOON_MS),
        ("2024-02-28T12:01:00-23:59", NOON_MS),
        ("2024-02-29T12:00:00.5Z", NOON_MS + 500),
        ("2024-02-29T12:00:00.05Z", NOON_MS + 50),
        ("2024-02-29T12:00:00.123Z", NOON_MS + 123),
        ("2024-02-29T12:00:00.123000000Z", NOON_MS + 123),
        ("2024-02-29T12:00:00.0005Z", NOON_MS + 0.5),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00Z", -0.0),
        ("1969-12-31T23:59:59Z", -1000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1969-12-31T23:59:59.9995Z", -0.5),
        ("2000-02-29T00:00:00Z", 951782400000),
        ("2400-02-29T00:00:00Z", 13574563200000),
        ("9999-12-31T23:59:59Z", 253402300799000),
        ("0001-01-01T00:00:00Z", -62135596800000),
        ("0000-12-31T00:00:00Z", -62135596800000 - 86400000),
        ("0000-02-29T00:00:00Z", -62162121600000),
        ("0000-01-01T00:00:00+23:59", -62167219200000 - (23 * 60 + 59) * 60000),
    ],
)
def test_a_date_is_a_full_rfc_3339_time_or_epoch_milliseconds(text: str, milliseconds: float) -> None:
    assert same_instant(text, milliseconds)
    assert holds("before", text, milliseconds + 1)
    assert holds("after", text, milliseconds - 1)
    assert holds("after", milliseconds + 1, text)


def test_dates_agree_with_datetime_on_every_day_of_five_centuries() -> None:
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for first in (date(1, 1, 1), date(1896, 1, 1), date(1999, 1, 1), date(2399, 1, 1)):
        for days in range(366 * 5):
            day = first + timedelta(days)
            moment = datetime(day.year, day.month, day.day, 3, 4, 5, tzinfo=timezone.utc)
            expected = (moment - epoch) // timedelta(milliseconds=1)
            text = f"{day.year:04}-{day.month:02}-{day.day:02}T03:04:05Z"
            assert matches_any("before", text, [expected + 1]) and matches_any("after", text, [expected - 1])


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2024-02-29T12:00:00.000000001Z", "2024-02-29T12:00:00.000000002Z"),
        (NOON, "2024-02-29T12:00:00.000000001Z"),
        (NOON_MS, "2024-02-29T12:00:00.000000001Z"),
        (float(NOON_MS), "2024-02-29T12:00:00.000000001Z"),
        ("2024-02-29T11:59:59.999999999Z", NOON_MS),
        (NOON_MS - 1e-3, "2024-02-29T11:59:59.999999999Z"),
        ("9999-12-31T23:59:59.999999998Z", "9999-12-31T23:59:59.999999999Z"),
        ("1969-12-31T23:59:59.999999999Z", 0),
        ("1969-12-31T23:59:59.999999998Z", "1969-12-31T23:59:59.999999999Z"),
        ("1960-01-01T00:00:00Z", "1960-01-01T00:00:00.1Z"),
        ("2024-02-29T12:00:00+00:01", "2024-02-29T12:00:00Z"),
        (1.25, 1.5),
        (-1.5, -1.25),
        (-1e-20, 0),
        (9007199254740992, 9007199254740993),
        (9007199254740992.0, 9007199254740993),
        (HUGE, HUGE + 1),
        (-HUGE, NOON),
        (NOON, HUGE),
        (NOON, float("inf")),
        (float("-inf"), NOON),
        (float("-inf"), float("inf")),
        (HUGE, float("inf")),
        (NOON, 1e300),
        (-1e300, NOON),
    ],
)
def test_dates_are_compared_exactly_and_strictly(earlier: Any, later: Any) -> None:
    assert holds("before", earlier, later)
    assert holds("after", later, earlier)
    assert not holds("before", later, earlier)
    assert not holds("after", earlier, later)
    for instant in (earlier, later):
        assert not holds("before", instant, instant)
        assert not holds("after", instant, instant)


@pytest.mark.parametrize(
    "other",
    [
        "",
        "badstring",
        "1709208000000",
        "2024-02-29",
        "12:00:00Z",
        "2024-02-29T12:00:00",
        "2024-02-29T12:00Z",
        "2024-02-29T12Z",
        "2024-02-29X12:00:00Z",
        "2024-02-29 12:00:00Z",
        "2024-02-29T12:00:00 Z",
        " 2024-02-29T12:00:00Z",
        "2024-02-29T12:00:00Z ",
        "2024-02-29T12:00:00Z\n",
        "\n2024-02-29T12:00:00Z",
        "2024-02-29T12:00:00+0000",
        "2024-02-29T12:00:00+00",
        "2024-02-29T12:00:00+0:00",
        "2024-02-29T12:00:00+24:00",
        "2024-02-29T12:00:00+00:60",
        "2024-02-29T12:00:00\u221207:00",
        "2024-02-29T12:00:00EST",
        "2024-02-29T12:00:00Z+00:00",
        "2024-02-29T12:00:00.Z",
        "2024-02-29T12:00:00,5Z",
        "2024-02-29T12:00:00.1234567890Z",
        "2024-02-29T24:00:00Z",
        "2024-02-29T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "2024-02-29T1:00:00Z",
        "2024-2-29T12:00:00Z",
        "2024-00-01T12:00:00Z",
        "2024-13-01T12:00:00Z",
        "2024-01-00T12:00:00Z",
        "2024-01-32T12:00:00Z",
        "2024-02-30T12:00:00Z",
        "2023-02-29T12:00:00Z",
        "1900-02-29T12:00:00Z",
        "2100-02-29T12:00:00Z",
        "2024-04-31T12:00:00Z",
        "2024-06-31T12:00:00Z",
        "2024-09-31T12:00:00Z",
        "2024-11-31T12:00:00Z",
        "20240229T120000Z",
        "2024-W09-4T12:00:00Z",
        "+2024-02-29T12:00:00Z",
        "-2024-02-29T12:00:00Z",
        "12024-02-29T12:00:00Z",
        "٢٠٢٤-02-29T12:00:00Z",
        "2024-02-29T12:00:00.\uff11Z",
        "2024-02-29T12:00:0\uff11Z",
        "2024-02-29T12:00:0\ud800Z",
        LONG,
        None,
        True,
        False,
        [NOON_MS],
        {},
        (0, 0.0),
        b"2024-02-29T12:00:00Z",
        Decimal(0),
        datetime(2024, 2, 29, tzinfo=timezone.utc),
        float("nan"),
    ],
    ids=lambda other: ascii(other)[:40],
)
def test_whatever_else_is_no_date(other: Any) -> None:
    for instant in (-(10**15), 10**15, NOON):
        for op in DATE_OPS:
            assert not holds(op, other, instant)
            assert not holds(op, instant, other)
            assert not holds(op, other, other)


@pytest.mark.parametrize("month", [1, 3, 5, 7, 8, 10, 12])
def test_long_months_have_a_31st(month: int) -> None:
    assert holds("after", f"2023-{month:02}-31T00:00:00Z", 0)


# --- semantic versions ---


@pytest.mark.parametrize(
    "ordered",
    [
        # The examples of semver.org, and those around them.
        ("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-rc.1"),
        ("1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "2.0.0", "2.1.0", "2.1.1"),
        ("0.0.0", "0.0.9", "0.0.10", "0.9.0", "0.10.0", "9.0.0", "10.0.0"),
        ("2-rc", "2", "2.0.1", "2.1-rc", "2.1"),
        ("1.0.0-0", "1.0.0-1", "1.0.0-9", "1.0.0-10", "1.0.0--", "1.0.0--1", "1.0.0-0a"),
        ("1.0.0-9", "1.0.0-0a", "1.0.0-A", "1.0.0-a", "1.0.0-a-b"),
        ("1.0.0-1", "1.0.0-1.0", "1.0.0-1.0.0", "1.0.0-1.a", "1.0.0-2"),
        ("1.0.0-1e2", "1.0.0-1e3"),
        ("1.0.0-2", "1.0.0-1e3"),
        ("9007199254740992.0.0", "9007199254740993.0.0", "18446744073709551616.0.0", "18446744073709551617.0.0"),
        (f"1.0.0-{LONG}", f"1.0.0-1{LONG}", "1.0.0", f"{LONG}.0.0", f"1{LONG}.0.0"),
    ],
    ids=lambda ordered: ordered[0][:20],
)
def test_versions_are_ordered_by_precedence(ordered: Sequence[str]) -> None:
    for i, left in enumerate(ordered):
        for j, right in enumerate(ordered):
            assert holds("semVerEqual", left, right) is (i == j)
            assert holds("semVerLessThan", left, right) is (i < j)
            assert holds("semVerGreaterThan", left, right) is (i > j)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("2", "2.0.0"),
        ("2.0", "2.0.0"),
        ("2-rc", "2.0.0-rc"),
        ("2.0-rc", "2.0.0-rc"),
        ("2+build", "2.0.0"),
        ("2-rc+build", "2.0.0-rc"),
        ("2.1.0+build", "2.1.0+other"),
        ("2.1.0+01.-.a", "2.1.0"),
        ("2.1.0-rc.1+build-7", "2.1.0-rc.1"),
        ("0", "0.0.0"),
    ],
)
def test_missing_parts_are_zero_and_the_build_is_ignored(left: str, right: str) -> None:
    assert holds("semVerEqual", left, right) and holds("semVerEqual", right, left)
    assert not holds("semVerLessThan", left, right) and not holds("semVerGreaterThan", left, right)


@pytest.mark.parametrize(
    "other",
    [
        "",
        "x",
        "v2.0.0",
        "V2",
        "2.",
        "2.0.",
        ".2",
        "2..0",
        "2.0.0.0",
        "2.0.0.",
        "02.0.0",
        "2.00.0",
        "2.0.01",
        "00",
        "-1.0.0",
        "+1.0.0",
        "2.0.0-",
        "2.0.0+",
        "2.0.0-+build",
        "2.0.0-a..b",
        "2.0.0-.a",
        "2.0.0-a.",
        "2.0.0-01",
        "2.0.0-a.00",
        "2.0.0+a..b",
        "2.0.0+a.",
        "2.0.0+a+b",
        "2.0.0-a_b",
        "2.0.0+a_b",
        "2.0.0-é",
        "2.0.0-\ud800",
        "2.0.0-٣",
        "٢.0.0",
        "2.0.\uff11",
        "2.0.0\n",
        "2.0.0-rc\n",
        "2.0.0+build\n",
        " 2.0.0",
        "2.0.0 ",
        "2. 0.0",
        "2.0.x",
        "1e3",
        None,
        True,
        2,
        2.0,
        ["2.0.0"],
        ((1, "2"), (1, "0"), (1, "0"), 1),
        {},
        b"2.0.0",
        Decimal("2.0"),
    ],
    ids=lambda other: ascii(other)[:40],
)
def test_whatever_else_is_no_version(other: Any) -> None:
    for version in ("0.0.0-0", "2.0.0", "99.0.0"):
        for op in VERSION_OPS:
            assert not holds(op, other, version)
            assert not holds(op, version, other)
            assert not holds(op, other, other)


# --- lists of clause values ---


@pytest.mark.parametrize(
    ("op", "value", "clause_values", "expected"),
    [
        ("in", "b", ["a", "b"], True),
        ("in", "c", ["a", "b"], False),
        ("in", "1", [1, True, None, ["1"], {"1": 1}], False),
        ("in", "1", [1, True, "1"], True),
        ("in", 1, ["1", True, 1], True),
        ("in", True, [1, "true", True], True),
        ("in", True, [1, "true", False], False),
        ("contains", "hello", [7, None, "ell"], True),
        ("lessThan", 5, ["6", True, 4, 6], True),
        ("lessThan", 5, ["6", True, 4], False),
        ("before", NOON, ["never", False, NOON_MS + 1], True),
        ("semVerEqual", "1.0.0", ["v1", 1, "1"], True),
    ],
)
def test_any_of_the_clause_values_will_do(op: str, value: Any, clause_values: list[Any], expected: bool) -> None:
    assert matches_any(op, value, clause_values) is expected


@pytest.mark.parametrize("op", [*OPERATORS, "unheardOf"])
@pytest.mark.parametrize("value", ["1", "", 1, True, None], ids=repr)
def test_no_clause_values_is_no_match(op: str, value: Any) -> None:
    assert matches_any(op, value, []) is False


@pytest.mark.parametrize("op", ["", "unheardOf", "IN", "lessthan", "segmentMatch", "\ud800"], ids=ascii)
@pytest.mark.parametrize("value", ["a", 1, True, None], ids=repr)
def test_an_unknown_operator_never_matches(op: str, value: Any) -> None:
    assert matches_any(op, value, [value]) is False


# --- anything at all ---

ODD_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 2**53, 2**53 + 1, 2**70, HUGE, -HUGE, 10**5000),
    *(float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, Level.ONE),
    *("", "a", "1", "1.0.0", LONG, f"{LONG}.1-{LONG}", NOON, NOON + "\n", "\ud800", "\x00", "(", "[[a]", "(?a)(?u)"),
    *(BAD_PATTERNS["too deep"], BAD_PATTERNS["a count too long for int()"], Colour.RED),
    *([], ["a"], [[]], {}, {"a": None}, (), ("a", 1), b"1", bytearray(b"a"), {1}, Decimal("NaN"), Decimal("sNaN")),
    *(Decimal(1), Fraction(1, 3), 1j, datetime(2024, 2, 29), object(), int, len),
]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("op", OPERATORS)
def test_nothing_raises_whatever_the_values(op: str) -> None:
    pairs = [(left, right) for left in ODD_VALUES for right in ODD_VALUES]
    random.Random(7).shuffle(pairs)
    for left, right in pairs:
        holds(op, left, right)
    for left in ODD_VALUES:
        assert type(matches_any(op, left, ODD_VALUES)) is bool


def test_importing_the_operators_loads_no_slow_module() -> None:
    program = "import sys; before = set(sys.modules); import ldreader.operators; print(*set(sys.modules) - before)"
    root = Path(operators.__file__).parents[1]
    run = subprocess.run([sys.executable, "-S", "-c", program], cwd=root, capture_output=True, text=True, check=True)
    imported = {name for name in run.stdout.split() if name.partition(".")[0] != "ldreader"}
    assert imported.isdisjoint({"typing", "re", "logging", "enum", "functools", "operator", "datetime", "contextlib"})
