"""LaunchDarkly's conformance cases, through the public API and a requester that hands out JSON text."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ldreader import Context, EvaluationDetail, FlagReader, MemoryRequester
from tests.conftest import conformance_cases, conformance_directory
from tests.flags import Item, same_json

DIRECTORY = conformance_directory()

STATE = "all-flags-state.json"
HASH = "secure-mode-hash.json"
FILES = sorted(path.name for path in DIRECTORY.glob("*.json"))

LATER = {
    "big-segments": "run by test_conformance_stores, which brings a store of big segments",
    "persistence.json": "run by test_conformance_stores, against real databases",
}
"""What runs elsewhere, by the feature that a case requires or by file, and why."""

METHODS: dict[str, Callable[..., EvaluationDetail]] = {
    "bool": FlagReader.bool_variation_detail,
    "int": FlagReader.int_variation_detail,
    "double": FlagReader.float_variation_detail,
    "string": FlagReader.string_variation_detail,
    "any": FlagReader.json_variation_detail,
}


def left_out(file: str, case: Item) -> bool:
    return file in LATER or any(feature in LATER for feature in case.get("requires", ()))


CASES = [(file, case) for file in FILES for case in conformance_cases(file)]
EVALUATIONS = [case for file, case in CASES if file not in (STATE, HASH) and not left_out(file, case)]
UNTYPED = [case for case in EVALUATIONS if "strongly-typed" not in case.get("requires", ())]
IN_ALL_FLAGS = [
    case for case in EVALUATIONS if not case.get("skipAllFlags") and Context.from_dict(case["context"]).valid
]
STATES = [case for file, case in CASES if file == STATE]
HASHES = [case for file, case in CASES if file == HASH]
LEFT_OUT = [case for file, case in CASES if left_out(file, case)]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "ldreader")


def named(cases: list[Item]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def reader(case: Item) -> FlagReader:
    texts = {
        kind: {key: json.dumps(item) for key, item in case[name].items()}
        for kind, name in (("features", "flags"), ("segments", "segments"))
    }
    return FlagReader(MemoryRequester(texts))


def check(detail: EvaluationDetail, case: Item) -> None:
    expect = case["expect"]
    assert detail.reason == expect["reason"]
    assert detail.variation_index == expect["variationIndex"]
    assert same_json(detail.value, expect["value"]), f"{detail.value!r} is not {expect['value']!r}"
    assert detail.is_default_value() is (expect["variationIndex"] is None)


@named(EVALUATIONS)
def test_the_typed_method_gives_the_value_the_index_and_the_reason(case: Item) -> None:
    check(METHODS[case["valueType"]](reader(case), case["flagKey"], case["context"], case["default"]), case)


@named(UNTYPED)
def test_variation_detail_gives_the_same(case: Item) -> None:
    check(reader(case).variation_detail(case["flagKey"], case["context"], case["default"]), case)
    assert same_json(
        reader(case).variation(case["flagKey"], Context.from_dict(case["context"]), case["default"]),
        case["expect"]["value"],
    )


@named(IN_ALL_FLAGS)
def test_the_state_of_all_flags_has_the_value_unless_it_is_the_default(case: Item) -> None:
    state = reader(case).all_flags_state(case["context"])
    expect = case["expect"]
    value = expect["value"] if expect["variationIndex"] is not None else None
    assert state.valid
    assert same_json(state.get_flag_value(case["flagKey"]), value)
    if case["flagKey"] in state.to_values_map():
        metadata = state.to_json_dict()["$flagsState"][case["flagKey"]]
        assert metadata.get("variation") == expect["variationIndex"]


def comparable(state: Item) -> Item:
    """The state less the metadata that may be left out."""
    whole: Item = {"$valid": True} | json.loads(json.dumps(state))
    whole["$flagsState"] = {
        key: {
            name: member
            for name, member in metadata.items()
            if member is not None and member is not False and member != []
        }
        for key, metadata in whole["$flagsState"].items()
    }
    return whole


@named(STATES)
def test_the_state_of_all_flags_is_what_browsers_take(case: Item) -> None:
    state = reader(case).all_flags_state(case["context"], **case["options"])
    wanted: Any = comparable(case["expect"]["state"])
    assert same_json(comparable(state.to_json_dict()), wanted)
    assert same_json(comparable(json.loads(state.to_json_string())), wanted)


@named(HASHES)
def test_the_secure_mode_hash_is_that_of_the_other_sdks(case: Item) -> None:
    with FlagReader(MemoryRequester({}), sdk_key=case["sdkKey"]) as hashing:
        assert hashing.secure_mode_hash(case["context"]) == case["expect"]["hash"]


class TestTheCasesThemselves:
    def test_each_is_run_or_left_out_for_a_stated_reason(self) -> None:
        assert len(EVALUATIONS) + len(STATES) + len(HASHES) + len(LEFT_OUT) == len(CASES)
        assert Counter(map(len, (EVALUATIONS, STATES, HASHES, LEFT_OUT)))[0] == 0
        reasons = {reason for file, case in CASES for reason in (file, *case.get("requires", ())) if reason in LATER}
        assert reasons == set(LATER)

    def test_each_has_a_name_of_its_own(self) -> None:
        assert [name for name, count in Counter(case["name"] for _, case in CASES).items() if count > 1] == []

    def test_json_equality_knows_numbers_from_booleans(self) -> None:
        assert same_json({"a": [3, "x", None]}, {"a": [3.0, "x", None]})
        for left, right in (
            (True, 1),
            (0, False),
            ([True], [1]),
            ({"a": 1}, {"a": 1, "b": 1}),
            ([1], [1, 2]),
            ("1", 1),
        ):
            assert not same_json(left, right)
