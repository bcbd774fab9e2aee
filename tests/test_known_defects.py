"""Mistakes that LaunchDarkly's SDKs are known to make, most of them the PHP SDK's, and that are not made here.

The numbers are those of the list in the specification (compatibility, section 3). What is missing from them concerns
writers, documentation, or files in YAML, which test_file_requester.py has.
"""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from ldreader import Context, FlagReader, MemoryRequester, RedisRequester, StoreError, TestData
from ldreader.big_segments import context_hash
from tests.flags import (
    FALL,
    MATCH,
    USER,
    Item,
    clause,
    flag,
    in_segment,
    needs,
    reader_of,
    rollout,
    rule,
    segment,
    serve,
)


class Memberships:
    """A store of big segments with one answer for everyone."""

    def __init__(self, membership: dict[str, bool] | None, age_ms: float = 0) -> None:
        self._membership = membership
        self._synchronized = time.time() * 1000 - age_ms

    def get_metadata(self) -> Any:
        return SimpleNamespace(last_up_to_date=self._synchronized)

    def get_membership(self, context_hash: str) -> dict[str, bool] | None:
        return self._membership

    def stop(self) -> None:
        pass


class Unreachable(Memberships):
    """A store of big segments that does not answer."""

    def get_membership(self, context_hash: str) -> dict[str, bool] | None:
        raise StoreError("down")


BIG = segment("big", unbounded=True, generation=2)


def big_segment_reader(store: Any, **fields: Any) -> FlagReader:
    return reader_of(flag(rules=[rule(in_segment("big"))]), segments=[BIG | fields], big_segments=store)


@pytest.mark.parametrize(("age_ms", "status"), [(119_000, "HEALTHY"), (121_000, "STALE"), (0, "HEALTHY")])
def test_1_staleness_is_reckoned_in_one_unit(age_ms: float, status: str) -> None:
    detail = big_segment_reader(Memberships({}, age_ms)).variation_detail("flag", USER, None)
    assert detail.reason["bigSegmentsStatus"] == status


@pytest.mark.parametrize("membership", [{}, {"big.g1": True}, {"other.g2": False}])
def test_2_a_reference_that_is_absent_leaves_it_to_the_rules(membership: dict[str, bool]) -> None:
    reader = big_segment_reader(Memberships(membership), rules=[{"clauses": []}])
    assert reader.variation("flag", USER, None) == "match"
    assert (
        big_segment_reader(Memberships({"big.g2": False}), rules=[{"clauses": []}]).variation("flag", USER, 0) == "fall"
    )


def test_3_the_state_of_all_flags_lets_nothing_escape() -> None:
    class Broken(MemoryRequester):
        def get_all(self) -> Any:
            raise OSError

    assert not FlagReader(Broken({})).all_flags_state(USER).valid
    items = {"bad": "not JSON", "shape": '{"on": true, "rules": 7}', "list": "[]", "good": json.dumps(flag("good"))}
    state = FlagReader(MemoryRequester({"features": items})).all_flags_state(USER)
    assert state.valid
    assert state.get_flag_value("good") == "fall"


@pytest.mark.parametrize(("own", "listed"), [("1", 1), (1, "1"), ("1", "1.0"), ("1", "01"), ("1e1", "10"), (0, "")])
def test_4_text_never_equals_a_number_nor_another_text_of_the_same_number(own: Any, listed: Any) -> None:
    item = flag(rules=[rule(clause("size", "in", listed))])
    assert serve(item, context={"kind": "user", "key": "u", "size": own}).variation_index == FALL
    if isinstance(own, str):
        targeted = flag(targets=[{"variation": MATCH, "values": [listed]}])
        assert serve(targeted, context={"kind": "user", "key": own}).variation_index == FALL


@pytest.mark.parametrize(
    ("own", "listed"),
    [
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"),
        (0, 1),
        ("2020-01-01T00:00:00.123456Z", "2020-01-01T00:00:00.124Z"),
        ("2020-01-01T00:00:00.1234567Z", "2020-01-01T00:00:01Z"),
    ],
)
def test_5_the_epoch_and_long_fractions_are_dates(own: Any, listed: Any) -> None:
    item = flag(rules=[rule(clause("at", "before", listed))])
    assert serve(item, context={"kind": "user", "key": "u", "at": own}).variation_index == MATCH


def test_6_an_empty_prefix_means_the_same_for_flags_and_big_segments() -> None:
    class Seam:
        def __init__(self) -> None:
            self.keys: list[str] = []

        def read(self, commands: Any) -> list[Any]:
            self.keys += [command[1] for command in commands]
            return [None if command[0] != "SMEMBERS" else set() for command in commands]

        def close(self) -> None:
            pass

    seam = Seam()
    client: Any = seam
    requester = RedisRequester(client, prefix="")
    requester.get_many([("features", "flag")])
    requester.get_membership(context_hash("u"))
    requester.get_metadata()
    assert len(seam.keys) == 5
    assert {key.partition(":")[0] for key in seam.keys} == {"launchdarkly"}


def test_7_a_store_of_big_segments_that_fails_is_told() -> None:
    detail = big_segment_reader(Unreachable(None)).variation_detail("flag", USER, None)
    assert detail.reason["bigSegmentsStatus"] == "STORE_ERROR"


def test_8_an_invalid_context_makes_no_event() -> None:
    events: list[Item] = []
    reader_of(flag(), events=events.extend).variation("flag", Context.create(""), None)
    assert events == []


def test_9_a_tombstone_without_a_key_is_a_missing_flag() -> None:
    requester = MemoryRequester(
        {"features": {"gone": '{"deleted": true, "version": 2}', "good": json.dumps(flag("good"))}}
    )
    reader = FlagReader(requester)
    assert reader.variation_detail("gone", USER, None).reason["errorKind"] == "FLAG_NOT_FOUND"
    assert reader.all_flags_state(USER).to_values_map() == {"good": "fall"}


def test_10_a_share_is_not_for_contexts_without_its_kind() -> None:
    shared = segment("s", rules=[{"clauses": [], "weight": 0, "rolloutContextKind": "org"}])
    assert serve(flag(rules=[rule(in_segment("s"))]), segments=[shared]).variation_index == FALL
    halves = ((0, 50_000), (1, 50_000))
    seeded = [
        serve(flag(fallthrough=fallthrough), context={"kind": "user", "key": str(key)}).variation_index
        for fallthrough in ({"rollout": rollout(*halves)["rollout"] | {"seed": 0}}, rollout(*halves))
        for key in range(40)
    ]
    assert seeded[:40] != seeded[40:]


def test_11_a_prerequisite_or_segment_that_cannot_be_had_is_no_missing_one() -> None:
    features = {"flag": json.dumps(flag(prerequisites=[needs("p")])), "p": StoreError("gone")}
    reader = FlagReader(MemoryRequester({"features": features}))
    assert reader.variation_detail("flag", USER, None).reason == {"kind": "ERROR", "errorKind": "EXCEPTION"}


def test_13_what_is_private_below_the_first_level_stays_private_in_a_context_from_json() -> None:
    events: list[Item] = []
    reader = reader_of(flag(), events=events.extend, private_attributes=["/home/city"])
    text = '{"kind": "user", "key": "u", "home": {"city": "London", "zip": "N1"}, "office": {"city": "Paris", "x": 1},'
    reader.variation("flag", Context.from_json(f'{text} "_meta": {{"privateAttributes": ["/office/city"]}}}}'), None)
    assert events[0]["context"]["home"] == {"zip": "N1"}
    assert events[0]["context"]["office"] == {"x": 1}
    assert "London" not in json.dumps(events)
    assert "Paris" not in json.dumps(events)


def test_13_a_value_that_cannot_be_encoded_loses_one_event_and_no_other() -> None:
    events: list[Item] = []
    with reader_of(flag(), events=events.extend).request(USER) as request:
        request.track("good")
        request.track("bad", float("inf"))
        request.variation("flag", None)
    assert [event["key"] for event in events] == ["good", "flag"]


def test_14_an_empty_kind_is_user() -> None:
    assert serve(flag(rules=[rule(clause("key", "in", "u", contextKind=""))])).variation_index == MATCH
    item = flag(
        contextTargets=[{"contextKind": "", "variation": MATCH}], targets=[{"variation": MATCH, "values": ["u"]}]
    )
    assert serve(item).variation_index == MATCH


@pytest.mark.parametrize(
    ("op", "own", "listed"),
    [
        ("before", "2020-01-01T00:00:00 EST", "2021-01-01T00:00:00Z"),
        ("before", "2020-02-30T00:00:00Z", "2021-01-01T00:00:00Z"),
        ("before", "2020-01-01T24:00:00Z", "2021-01-01T00:00:00Z"),
        ("semVerEqual", "1.0.0-a..b", "1.0.0-a..b"),
        ("semVerEqual", "1.0.0\n", "1.0.0"),
        ("semVerEqual", "1.0.0-1e3", "1.0.0-1000"),
    ],
)
def test_14_lax_dates_and_versions_match_nothing(op: str, own: str, listed: str) -> None:
    item = flag(rules=[rule(clause("x", op, listed))])
    assert serve(item, context={"kind": "user", "key": "u", "x": own}).variation_index == FALL


@pytest.mark.parametrize("key", [None, 7, True, ""])
def test_15_a_key_is_a_text_that_is_not_empty(key: Any) -> None:
    assert not Context.create(key).valid
    assert not Context.from_dict({"kind": "user", "key": key}).valid


@pytest.mark.parametrize("op", ["lessThan", "greaterThan", "before", "after"])
def test_15_a_number_too_large_for_a_double_is_no_exception(op: str) -> None:
    item = flag(rules=[rule(clause("n", op, 10**400))])
    detail = serve(item, context={"kind": "user", "key": "u", "n": 1})
    assert detail.reason["kind"] in ("RULE_MATCH", "FALLTHROUGH")


def test_15_a_lone_surrogate_can_be_bucketed() -> None:
    item = flag(fallthrough=rollout((0, 50_000), (1, 50_000)))
    assert serve(item, context={"kind": "user", "key": "\ud800"}).reason == {"kind": "FALLTHROUGH"}


@pytest.mark.parametrize("bad", [clause("", "in", 1, contextKind="user"), clause("/", "in", 1, contextKind="user")])
def test_17_the_status_of_big_segments_is_told_of_a_malformed_flag_too(bad: Item) -> None:
    item = flag(rules=[rule(in_segment("big")), rule(bad)])
    reader = reader_of(item, segments=[BIG], big_segments=Memberships({}))
    assert reader.variation_detail("flag", USER, None).reason == {
        "kind": "ERROR",
        "errorKind": "MALFORMED_FLAG",
        "bigSegmentsStatus": "HEALTHY",
    }


def test_18_a_store_that_is_reachable_and_empty_has_no_such_flag() -> None:
    reader = FlagReader(MemoryRequester({}))
    assert reader.variation_detail("flag", USER, None).reason["errorKind"] == "FLAG_NOT_FOUND"
    assert reader.all_flags_state(USER).valid


def test_data_for_tests_keeps_what_is_set() -> None:
    """The list has it among the features: there the PHP SDK's builder forgets both."""
    data = TestData()
    item = data.flag("flag").sampling_ratio(3).exclude_from_summaries(True).build(1)
    assert (item["samplingRatio"], item["excludeFromSummaries"]) == (3, True)
