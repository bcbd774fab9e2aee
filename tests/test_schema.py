"""How item text is decoded and how fields are read."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from ldreader import MalformedItem
from ldreader.schema import (
    FEATURES,
    SEGMENTS,
    WrongShape,
    array,
    blamed_on,
    boolean,
    decode,
    dumps,
    integer,
    loads,
    mapping,
    name_of,
    objects,
    required_integer,
    text,
)

REF = (FEATURES, "checkout")

TOMBSTONES = {
    "Go and Relay": '{"key": "$deleted", "version": 7, "deleted": true, "on": false, "variations": [], "rules": null,'
    ' "fallthrough": {}, "offVariation": null, "salt": "", "included": []}',
    "Python and Ruby": '{"key": "checkout", "version": 7, "deleted": true}',
    "Java, .NET and Node": '{"version": 7, "deleted": true}',
    "Node on DynamoDB": '{"key": "checkout", "version": 7, "deleted": true, "item": null}',
    "one with wrong types": '{"key": 7, "version": [], "deleted": true, "on": "yes", "variations": 1}',
}


class TestDecode:
    def test_an_item_is_the_object_that_the_text_holds(self) -> None:
        for stored in (
            '{"on": true, "new": [null]}',
            b'{"on": true, "new": [null]}',
            bytearray(b'{"on":true,"new":[null]}'),
        ):
            assert decode(REF, stored) == {"on": True, "new": [None]}  # type: ignore[arg-type]

    def test_text_in_utf8_is_read_in_whatever_form_it_comes(self) -> None:
        for stored in ('{"key": "Zoë"}', '{"key": "Zoë"}'.encode(), b'{"key": "Zo\\u00eb"}'):
            assert decode(REF, stored) == {"key": "Zoë"}

    @pytest.mark.parametrize("stored", TOMBSTONES.values(), ids=TOMBSTONES)
    def test_a_tombstone_is_none_whoever_wrote_it(self, stored: str) -> None:
        assert decode(REF, stored) is None
        assert decode((SEGMENTS, "s"), stored.encode()) is None

    @pytest.mark.parametrize("deleted", ["false", "null"])
    def test_an_item_that_is_not_deleted_is_none(self, deleted: str) -> None:
        assert isinstance(decode(REF, f'{{"deleted": {deleted}}}'), dict)

    @pytest.mark.parametrize(
        ("stored", "message"),
        [
            ("", "flag 'checkout' is not JSON: "),
            (b"", "flag 'checkout' is not JSON: "),
            ("{", "flag 'checkout' is not JSON: "),
            ('{"a": 1} x', "flag 'checkout' is not JSON: "),
            ("{'a': 1}", "flag 'checkout' is not JSON: "),
            (b'{"key": "\xff"}', "flag 'checkout' is not JSON: "),
            ('{"a": NaN}', "flag 'checkout' is not JSON: NaN is no JSON number"),
            ('{"a": [Infinity]}', "flag 'checkout' is not JSON: Infinity is no JSON number"),
            ('{"a": -Infinity}', "flag 'checkout' is not JSON: -Infinity is no JSON number"),
            (f'{{"a": {"9" * 5000}}}', "flag 'checkout' is not JSON: "),
            ('{"a":' * 100_000, "flag 'checkout' is nested too deeply"),
            ("[" * 100_000, "flag 'checkout' is nested too deeply"),
            ("null", "flag 'checkout' must be a JSON object, not None"),
            ("true", "flag 'checkout' must be a JSON object, not True"),
            ("7", "flag 'checkout' must be a JSON object, not 7"),
            ('"on"', "flag 'checkout' must be a JSON object, not 'on'"),
            ('[{"on": true}]', "flag 'checkout' must be a JSON object, not a list"),
            ('{"deleted": 1}', "flag 'checkout': deleted must be true or false, not 1"),
            ('{"deleted": "true"}', "flag 'checkout': deleted must be true or false, not 'true'"),
            ('{"deleted": {}}', "flag 'checkout': deleted must be true or false, not an object"),
            (7, "flag 'checkout' is not JSON: "),
            ({"on": True}, "flag 'checkout' is not JSON: "),
            (KeyError("x"), "flag 'checkout' is not JSON: "),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_what_is_no_item_is_an_error_that_says_why(self, stored: Any, message: str) -> None:
        error = decode(REF, stored)
        assert isinstance(error, MalformedItem)
        assert str(error).startswith(message)
        assert len(str(error)) < 200

    def test_each_kind_has_its_name(self) -> None:
        assert name_of(REF) == "flag 'checkout'"
        assert name_of((SEGMENTS, "beta\n")) == "segment 'beta\\n'"


class TestReading:
    """Absent and null take the default; another type is an error."""

    ABSENT: tuple[dict[str, None], ...] = ({}, {"at": None})
    ODD: tuple[Any, ...] = (True, False, 0, 7, 1.5, 1e400, "", "x", [], [1], {}, {"a": 1})

    @pytest.mark.parametrize(
        ("read", "default", "taken", "wanted"),
        [
            (boolean, False, (True, False), "true or false"),
            (integer, None, (0, 7), "an integer"),
            (text, "", ("", "x"), "a string"),
            (array, (), ([], [1]), "a list"),
            (mapping, None, ({}, {"a": 1}), "an object"),
        ],
        ids=["boolean", "integer", "text", "array", "mapping"],
    )
    def test_a_field_is_its_type_or_the_default(self, read: Any, default: Any, taken: Any, wanted: str) -> None:
        for holder in self.ABSENT:
            assert read(holder, "at") == default
        for value in self.ODD:
            if any(type(value) is type(other) and value == other for other in taken):
                assert read({"at": value}, "at") is value
            else:
                with pytest.raises(WrongShape, match=f"^at must be {wanted}$"):
                    read({"at": value}, "at")

    @pytest.mark.parametrize(("written", "meant"), [(1.0, 1), (-2.0, -2), (0.0, 0), (1e20, 10**20)])
    def test_an_integer_may_be_written_with_a_point(self, written: float, meant: int) -> None:
        value = integer({"at": written}, "at")
        assert (value, type(value)) == (meant, int)

    def test_a_required_integer_has_no_default(self) -> None:
        assert required_integer({"at": 0}, "at") == 0
        for holder in self.ABSENT:
            with pytest.raises(WrongShape):
                required_integer(holder, "at")

    def test_the_objects_of_a_list_are_checked_as_they_are_reached(self) -> None:
        assert list(objects({}, "at")) == []
        found = iter(objects({"at": [{"a": 1}, 7]}, "at"))
        assert next(found) == {"a": 1}
        with pytest.raises(WrongShape, match="^1 must be an object$"):
            next(found)


class TestDescribe:
    """The log says where in which item the wrong type stands."""

    def described(self, item: Any, holder: Any, at: Any, wanted: str = "a list") -> str:
        return str(blamed_on(REF, item, WrongShape(holder, at, wanted)))

    def test_a_place_within_lists_and_objects(self) -> None:
        item = {"rules": [{}, {}, {"clauses": [{"values": 7}]}]}
        holder = item["rules"][2]["clauses"][0]
        assert self.described(item, holder, "values") == (
            "flag 'checkout': rules[2].clauses[0].values must be a list, not 7"
        )

    def test_a_place_at_the_top(self) -> None:
        item = {"rules": {"a": 1}}
        assert self.described(item, item, "rules") == "flag 'checkout': rules must be a list, not an object"

    def test_an_element_of_a_list(self) -> None:
        item = {"rules": [{}, "x"]}
        assert (
            self.described(item, item["rules"], 1, "an object")
            == "flag 'checkout': rules[1] must be an object, not 'x'"
        )

    def test_a_missing_field(self) -> None:
        item: dict[str, Any] = {"targets": [{}]}
        assert self.described(item, item["targets"][0], "variation", "an integer") == (
            "flag 'checkout': targets[0].variation must be an integer, and is missing"
        )

    def test_equal_holders_are_told_apart(self) -> None:
        item = {"rules": [{"clauses": 7}, {"clauses": 7}]}
        assert "rules[1].clauses" in self.described(item, item["rules"][1], "clauses")

    def test_a_long_value_is_cut(self) -> None:
        item = {"rules": "x" * 1000}
        assert self.described(item, item, "rules") == f"flag 'checkout': rules must be a list, not '{'x' * 76}..."

    def test_a_holder_that_is_not_in_the_item_still_gives_a_sentence(self) -> None:
        assert self.described({}, {"at": 7}, "at") == "flag 'checkout': at must be a list, not 7"

    def test_the_item_that_is_named_first_is_to_blame(self) -> None:
        item = {"at": 7}
        first = blamed_on((SEGMENTS, "s"), item, WrongShape(item, "at", "a list"))
        assert str(blamed_on(REF, {}, first)) == "segment 's': at must be a list, not 7"

    def test_a_value_of_any_length_or_depth_is_named_by_its_type(self) -> None:
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        item = {"at": deep, "line": "x\nERROR forged"}
        assert self.described(item, item, "at", "an object").endswith("at must be an object, not a list")
        assert "\n" not in self.described(item, item, "line")

    def test_deep_nesting_is_searched_without_recursion(self) -> None:
        holder: Any = {"at": 7}
        item = holder
        for _ in range(sys.getrecursionlimit() * 2):
            item = {"a": item}
        assert self.described(item, holder, "at").endswith(".a.at must be a list, not 7")


class TestNumbers:
    def test_only_json_is_read(self) -> None:
        assert loads("[1, 2.5, 1e3]") == [1, 2.5, 1000.0]
        for stored in ("NaN", "[Infinity]", '{"a": -Infinity}'):
            with pytest.raises(ValueError, match="is no JSON number"):
                loads(stored)

    def test_only_json_is_written(self) -> None:
        value = {"a": [1e400, -1e400, 1.5, {"b": 1e400}], "c": "Zoë", "d": True, "e": None}
        written = dumps(value)
        assert json.loads(written) == {"a": [None, None, 1.5, {"b": None}], "c": "Zoë", "d": True, "e": None}
        assert dumps({"a": [1, 2.5]}) == '{"a": [1, 2.5]}'
