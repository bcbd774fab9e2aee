"""The state of all flags, member by member (spec: client behaviour, section 4)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from ldreader import FeatureFlagsState, FlagReader, StoreError
from tests.flags import (
    FALL,
    MATCH,
    USER,
    CountingRequester,
    Item,
    clause,
    everyone,
    flag,
    in_segment,
    needs,
    reader_of,
    rollout,
    rule,
    segment,
    store,
)

PAST = 1_000_000_000_000
FUTURE = 4_102_444_800_000
INVALID = {"$flagsState": {}, "$valid": False}


def state_of(*flags: Item, segments: tuple[Item, ...] = (), **options: Any) -> FeatureFlagsState:
    return reader_of(*flags, segments=segments).all_flags_state(USER, **options)


def metadata(fields: Item, *others: Item, **options: Any) -> Item:
    """What the state tells of a flag with these fields, besides its value."""
    found: Item = state_of(flag(version=7, **fields), *others, **options).to_json_dict()["$flagsState"]["flag"]
    return found


class TestTheWhole:
    def test_it_has_each_flag_and_what_browsers_want_to_know(self) -> None:
        state = state_of(flag("a", version=3), flag("b", on=False, variations=[{"x": [1]}]))
        assert state.valid
        assert state.to_json_dict() == {
            "a": "fall",
            "b": {"x": [1]},
            "$flagsState": {"a": {"variation": 1, "version": 3}, "b": {"variation": 0, "version": 1}},
            "$valid": True,
        }
        assert json.loads(state.to_json_string()) == state.to_json_dict()

    def test_that_of_an_empty_store_is_valid_and_empty(self) -> None:
        assert state_of().to_json_dict() == {"$flagsState": {}, "$valid": True}

    def test_an_invalid_one_is_empty(self) -> None:
        state = reader_of(flag(), offline=True).all_flags_state(USER)
        assert not state.valid
        assert state.to_json_dict() == INVALID
        assert state.to_values_map() == {}

    def test_values_and_reasons_are_found_by_key(self) -> None:
        state = state_of(flag("a"), flag("b", fallthrough={}), with_reasons=True)
        assert state.to_values_map() == {"a": "fall", "b": None}
        assert (state.get_flag_value("a"), state.get_flag_value("b"), state.get_flag_value("c")) == ("fall", None, None)
        assert state.get_flag_reason("a") == {"kind": "FALLTHROUGH"}
        assert state.get_flag_reason("b") == {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"}
        assert state.get_flag_reason("c") is None
        assert state_of(flag("a")).get_flag_reason("a") is None

    def test_a_flag_is_listed_by_the_key_of_the_store(self) -> None:
        collections = store(flag("stored"))
        collections["features"]["stored"] = json.dumps(flag("own"))
        state = FlagReader(CountingRequester(collections)).all_flags_state(USER)
        assert state.to_values_map() == {"stored": "fall"}

    def test_deleted_flags_are_left_out(self) -> None:
        assert state_of(flag("a"), flag("b", deleted=True)).to_values_map() == {"a": "fall"}

    def test_prerequisites_and_segments_are_found_in_the_one_read(self) -> None:
        flags = [flag("a", prerequisites=[needs("b", MATCH)]), flag("b", rules=[rule(in_segment("s"))])]
        requester = CountingRequester(store(*flags, segments=[everyone("s")]))
        state = FlagReader(requester).all_flags_state(USER)
        assert state.to_values_map() == {"a": "fall", "b": "match"}
        assert (requester.rounds, requester.reads_of_everything) == ([], 1)

    def test_what_a_caller_does_to_its_values_does_not_reach_the_request(self) -> None:
        with reader_of(flag(variations=[[], [{"x": 1}]])).request(USER) as flags:
            state = flags.all_flags_state()
            state.get_flag_value("flag")[0]["x"] = 2
            state.to_values_map().clear()
            assert flags.variation("flag", None) == [{"x": 1}]
            assert flags.all_flags_state().to_values_map() == {"flag": [{"x": 1}]}

    def test_an_infinity_is_written_as_null(self) -> None:
        collections = {
            "features": {"flag": '{"variations": [[1e999, 1]], "offVariation": 0, "debugEventsUntilDate": 1e999}'}
        }
        state = FlagReader(CountingRequester(collections)).all_flags_state(USER)

        def refuse(name: str) -> None:
            raise AssertionError(name)

        written = json.loads(state.to_json_string(), parse_constant=refuse)
        assert written["flag"] == [None, 1]


class TestMembers:
    def test_the_variation_is_there_when_one_was_served(self) -> None:
        assert metadata({}) == {"variation": FALL, "version": 7}
        assert metadata({"on": False, "offVariation": None}) == {"version": 7}
        assert metadata({"fallthrough": {}}) == {"version": 7}

    def test_a_missing_version_is_0(self) -> None:
        state = state_of(flag(version=...))
        assert state.to_json_dict()["$flagsState"]["flag"]["version"] == 0

    @pytest.mark.parametrize(
        ("fields", "members"),
        [
            ({"trackEvents": True}, {"trackEvents": True}),
            ({"trackEvents": False}, {}),
            (
                {"trackEventsFallthrough": True},
                {"trackEvents": True, "trackReason": True, "reason": {"kind": "FALLTHROUGH"}},
            ),
            ({"trackEventsFallthrough": True, "targets": [{"variation": 1, "values": ["u"]}]}, {}),
            (
                {"fallthrough": rollout((1, 100000), kind="experiment")},
                {"trackEvents": True, "trackReason": True, "reason": {"kind": "FALLTHROUGH", "inExperiment": True}},
            ),
            (
                {"rules": [rule(trackEvents=True, variation=1)]},
                {
                    "trackEvents": True,
                    "trackReason": True,
                    "reason": {"kind": "RULE_MATCH", "ruleIndex": 0, "ruleId": "rule-id"},
                },
            ),
            ({"rules": [rule(variation=1)]}, {}),
            ({"rules": [rule(clause("key", "in", "x"), trackEvents=True), rule(variation=1)]}, {}),
            ({"debugEventsUntilDate": FUTURE}, {"debugEventsUntilDate": FUTURE}),
            ({"debugEventsUntilDate": PAST}, {"debugEventsUntilDate": PAST}),
            ({"debugEventsUntilDate": PAST + 0.5}, {"debugEventsUntilDate": PAST}),
            ({"debugEventsUntilDate": 0}, {}),
            ({"debugEventsUntilDate": 0.0}, {}),
            ({"debugEventsUntilDate": None}, {}),
        ],
    )
    def test_events_are_told_of_where_they_are_wanted(self, fields: Item, members: Item) -> None:
        assert metadata(fields) == {"variation": 1, "version": 7} | members

    def test_a_reason_is_there_when_asked_for(self) -> None:
        assert metadata({}, with_reasons=True)["reason"] == {"kind": "FALLTHROUGH"}
        assert "reason" not in metadata({})

    @pytest.mark.parametrize(
        ("fields", "listed"),
        [
            ({"prerequisites": [needs("p"), needs("q")]}, ["p", "q"]),
            ({"prerequisites": [needs("p", MATCH), needs("q")]}, ["p"]),
            ({"prerequisites": [needs("missing"), needs("q")]}, ["missing"]),
            ({"prerequisites": [needs("p"), needs("flag")]}, ["p"]),
            ({"prerequisites": [needs("p"), needs("malformed"), needs("q")]}, ["p", "malformed"]),
            ({"prerequisites": []}, None),
            ({"prerequisites": [needs("p")], "on": False}, None),
        ],
    )
    def test_the_direct_prerequisites_looked_at_are_listed(self, fields: Item, listed: list[str] | None) -> None:
        others = [flag("p", prerequisites=[needs("q")]), flag("q"), flag("malformed", rules=[rule(clause("", "in"))])]
        assert metadata(fields, *others).get("prerequisites") == listed


class TestDetailsOnlyForTrackedFlags:
    @pytest.mark.parametrize(
        ("fields", "detailed"),
        [
            ({}, False),
            ({"debugEventsUntilDate": PAST}, False),
            ({"debugEventsUntilDate": 0}, False),
            ({"debugEventsUntilDate": FUTURE}, True),
            ({"trackEvents": True}, True),
            ({"trackEventsFallthrough": True}, True),
        ],
    )
    def test_leave_out_the_version_and_the_reason_of_others(self, fields: Item, detailed: bool) -> None:
        found = metadata(fields, with_reasons=True, details_only_for_tracked_flags=True)
        assert found["variation"] == FALL
        assert ("version" in found) is ("reason" in found) is detailed

    def test_debugging_ends_on_the_millisecond(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: FUTURE / 1000)
        for date, detailed in ((FUTURE - 1, False), (FUTURE, False), (FUTURE + 1, True)):
            found = metadata({"debugEventsUntilDate": date}, details_only_for_tracked_flags=True)
            assert ("version" in found) is detailed
            assert found["debugEventsUntilDate"] == date

    def test_keep_the_prerequisites(self) -> None:
        found = metadata({"prerequisites": [needs("p")]}, flag("p"), details_only_for_tracked_flags=True)
        assert found == {"variation": FALL, "prerequisites": ["p"]}


class TestClientSideOnly:
    @pytest.mark.parametrize(
        ("fields", "seen"),
        [
            ({}, False),
            ({"clientSide": True}, True),
            ({"clientSide": None}, False),
            ({"clientSide": True, "clientSideAvailability": None}, True),
            ({"clientSideAvailability": {"usingEnvironmentId": True}}, True),
            ({"clientSideAvailability": {"usingMobileKey": True}}, False),
            ({"clientSide": True, "clientSideAvailability": {}}, False),
            ({"clientSide": True, "clientSideAvailability": {"usingEnvironmentId": False}}, False),
            ({"clientSide": False, "clientSideAvailability": {"usingEnvironmentId": True}}, True),
        ],
    )
    def test_shows_the_flags_that_browsers_may_see(self, fields: Item, seen: bool) -> None:
        assert list(state_of(flag(**fields), client_side_only=True).to_values_map()) == (["flag"] if seen else [])
        assert list(state_of(flag(**fields)).to_values_map()) == ["flag"]

    def test_names_hidden_prerequisites_and_serves_their_value_to_no_one(self) -> None:
        state = state_of(flag(clientSide=True, prerequisites=[needs("hidden")]), flag("hidden"), client_side_only=True)
        assert state.to_json_dict() == {
            "flag": "fall",
            "$flagsState": {"flag": {"variation": 1, "version": 1, "prerequisites": ["hidden"]}},
            "$valid": True,
        }


class TestWhatGoesWrong:
    """Stays with the flag that it concerns."""

    @pytest.mark.parametrize("context", [None, "u", {}, {"kind": "user"}, {"kind": "user", "key": ""}])
    def test_an_invalid_context_gives_an_invalid_state(self, context: Any, caplog: pytest.LogCaptureFixture) -> None:
        requester = CountingRequester(store(flag()))
        assert FlagReader(requester).all_flags_state(context).to_json_dict() == INVALID
        assert requester.reads_of_everything == 0
        assert len(caplog.records) == 1

    def test_a_flag_that_ends_in_an_error_is_listed_without_a_value(self, caplog: pytest.LogCaptureFixture) -> None:
        state = state_of(flag("good"), flag("bad", version=9, fallthrough={}), with_reasons=True)
        assert state.to_values_map() == {"good": "fall", "bad": None}
        assert state.to_json_dict()["$flagsState"]["bad"] == {
            "version": 9,
            "reason": {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"},
        }
        assert [record.getMessage() for record in caplog.records] == [
            "in the state of all flags, flag 'bad' has no value: flag 'bad': "
            "fallthrough serves neither a variation nor a rollout"
        ]

    def test_a_segment_that_cannot_be_had_spoils_only_who_needs_it(self) -> None:
        collections = store(
            flag("good"), flag("a", rules=[rule(in_segment("s"))]), flag("b", rules=[rule(in_segment("t"))])
        )
        collections["segments"] |= {"s": StoreError("too big"), "t": "not JSON", "u": "not JSON"}
        state = FlagReader(CountingRequester(collections)).all_flags_state(USER, with_reasons=True)
        assert state.to_values_map() == {"good": "fall", "a": None, "b": None}
        assert state.get_flag_reason("a") == {"kind": "ERROR", "errorKind": "EXCEPTION"}
        assert state.get_flag_reason("b") == {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"}

    @pytest.mark.parametrize(
        "bad", ["not JSON", "null", "7", "[]", b"\xff", '{"a": NaN}', StoreError("too big")], ids=str
    )
    def test_an_item_that_is_no_flag_is_logged_and_left_out(self, bad: Any, caplog: pytest.LogCaptureFixture) -> None:
        collections = store(flag("good"))
        collections["features"]["bad"] = bad
        state = FlagReader(CountingRequester(collections)).all_flags_state(USER)
        assert state.to_values_map() == {"good": "fall"}
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert caplog.text.count("left out of the state of all flags") == 1

    @pytest.mark.parametrize(
        ("fields", "place"),
        [
            ({"version": "1"}, "version must be an integer, not '1'"),
            ({"trackEvents": 1}, "trackEvents must be true or false, not 1"),
            ({"trackEventsFallthrough": "x"}, "trackEventsFallthrough must be true or false, not 'x'"),
            ({"debugEventsUntilDate": "x"}, "debugEventsUntilDate must be an integer, not 'x'"),
        ],
    )
    def test_metadata_of_a_wrong_type_is_an_error_of_its_flag(
        self, fields: Item, place: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = state_of(flag("good"), flag("bad", **fields), with_reasons=True)
        assert state.to_values_map() == {"good": "fall", "bad": None}
        assert state.to_json_dict()["$flagsState"]["bad"] == {
            "reason": {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"},
        }
        assert len(caplog.records) == 1
        assert f"flag 'bad': {place}" in caplog.text

    @pytest.mark.parametrize(
        ("fields", "place"),
        [
            ({"clientSideAvailability": []}, "clientSideAvailability must be an object, not a list"),
            ({"clientSideAvailability": {"usingEnvironmentId": 1}}, "usingEnvironmentId must be true or false, not 1"),
            ({"clientSide": "x"}, "clientSide must be true or false, not 'x'"),
        ],
    )
    def test_a_flag_that_cannot_be_told_to_be_for_browsers_is_left_out(
        self, fields: Item, place: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        visible = {"clientSide": True}
        state = state_of(flag("good", **visible), flag("bad", **(visible | fields)), client_side_only=True)
        assert state.to_values_map() == {"good": "fall"}
        assert len(caplog.records) == 1
        assert "flag 'bad': " in caplog.text
        assert place in caplog.text

    def test_a_segment_of_another_kind_of_item_is_no_flag(self) -> None:
        assert state_of(segments=(segment("s"),)).to_values_map() == {}
