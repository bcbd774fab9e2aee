"""Events: which there are, what they hold, what they leave out, and how they reach the sink."""

from __future__ import annotations

import enum
import io
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.impl.events.event_context_formatter import EventContextFormatter
from ldclient.impl.events.event_processor_common import EventOutputFormatter
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from ldreader import (
    ConfigurationError,
    Context,
    FlagNotFound,
    FlagReader,
    JsonLinesSink,
    MemoryRequester,
    Stage,
    StoreError,
    WrongType,
)
from ldreader.migrations import Operation, Origin
from ldreader.sampling import sampled
from tests import worlds
from tests.flags import USER, Item, clause, flag, in_segment, needs, reader_of, rule, store

PROJECT = Path(__file__).parent.parent


class Sink:
    """Keeps the batches that it is given."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []

    def __call__(self, events: list[Item]) -> None:
        self.batches.append(events)

    @property
    def events(self) -> list[Item]:
        return [event for batch in self.batches for event in batch]

    def only(self) -> Item:
        """The only event so far, less its date, which is checked."""
        (event,) = self.events
        assert type(event["creationDate"]) is int
        assert abs(time.time() * 1000 - event["creationDate"]) < 60_000
        return {name: member for name, member in event.items() if name != "creationDate"}


@pytest.fixture
def sink() -> Sink:
    return Sink()


U = {"kind": "user", "key": "u"}
EXPERIMENT = {"rollout": {"kind": "experiment", "variations": [{"variation": 1, "weight": 100_000}]}}


class TestFeatureEvents:
    def test_an_evaluation_is_one_event_with_the_context_in_it(self, sink: Sink) -> None:
        assert reader_of(flag(version=7), events=sink).variation("flag", USER, "default") == "fall"
        assert sink.only() == {
            "kind": "feature",
            "key": "flag",
            "context": U,
            "variation": 1,
            "value": "fall",
            "default": "default",
            "version": 7,
        }

    def test_the_order_of_members_is_the_php_sdks(self, sink: Sink) -> None:
        item = flag(samplingRatio=1, excludeFromSummaries=True, trackEvents=True, debugEventsUntilDate=12345678)
        reader_of(item, events=sink).variation_detail("flag", USER, None)
        (event,) = sink.events
        assert list(event) == [
            *("kind", "creationDate", "key", "context", "variation", "value", "default", "version"),
            *("excludeFromSummaries", "trackEvents", "debugEventsUntilDate", "reason"),
        ]

    def test_a_reason_is_told_where_one_was_asked_for(self, sink: Sink) -> None:
        reader = reader_of(flag(), events=sink)
        reader.variation("flag", USER, None)
        reader.variation_detail("flag", USER, None)
        reader.string_variation("flag", USER, "")
        reader.string_variation_detail("flag", USER, "")
        reasons = [event.get("reason") for event in sink.events]
        assert reasons == [None, {"kind": "FALLTHROUGH"}] * 2

    def test_an_unknown_flag_has_no_version_and_no_variation(self, sink: Sink) -> None:
        reader = reader_of(events=sink)
        reader.variation("none", USER, "default")
        assert sink.only() == {"kind": "feature", "key": "none", "context": U, "value": "default", "default": "default"}
        reader.variation_detail("none", USER, "default")
        assert sink.events[1]["reason"] == {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"}

    @pytest.mark.parametrize(
        ("item", "kind"),
        [("not JSON", "MALFORMED_FLAG"), (StoreError("gone"), "EXCEPTION"), ("null", "MALFORMED_FLAG")],
    )
    def test_a_flag_that_cannot_be_had_is_like_an_unknown_one(self, item: Any, kind: str, sink: Sink) -> None:
        reader = FlagReader(MemoryRequester({"features": {"flag": item}}), events=sink)
        reader.variation_detail("flag", USER, 1)
        assert sink.only() == {
            "kind": "feature",
            "key": "flag",
            "context": U,
            "value": 1,
            "default": 1,
            "reason": {"kind": "ERROR", "errorKind": kind},
        }

    def test_a_flag_that_gives_the_default_tells_its_version(self, sink: Sink) -> None:
        flags = [flag("off", on=False, offVariation=None, version=2), flag("bad", fallthrough={}, version=3)]
        reader = reader_of(*flags, events=sink)
        for key in ("off", "bad"):
            reader.variation(key, USER, "default")
        told = [(event["variation"], event["value"], event["version"]) for event in sink.events]
        assert told == [(None, "default", 2), (None, "default", 3)]

    def test_a_flag_is_told_by_its_own_key_and_as_version_0_where_it_has_none(self, sink: Sink) -> None:
        items = {"a": flag("own-a", prerequisites=[needs("b")]), "b": flag("own-b", version=...)}
        FlagReader(MemoryRequester({"features": items}), events=sink).variation("a", USER, None)
        told = [(event["key"], event["version"], event.get("prereqOf")) for event in sink.events]
        assert told == [("own-b", 0, "own-a"), ("own-a", 1, None)]

    def test_a_segment_that_cannot_be_had_leaves_the_flag_known(self, sink: Sink) -> None:
        collections = store(flag(rules=[rule(in_segment("s"))], version=4))
        collections["segments"] = {"s": StoreError("gone")}
        FlagReader(MemoryRequester(collections), events=sink).variation_detail("flag", USER, "default")
        event = sink.only()
        assert (event["version"], event["variation"], event["value"]) == (4, None, "default")
        assert event["reason"] == {"kind": "ERROR", "errorKind": "EXCEPTION"}

    def test_an_invalid_context_makes_none(self, sink: Sink) -> None:
        reader = reader_of(flag(), events=sink)
        reader.variation("flag", Context.create(""), "default")
        reader.track("bought", Context.create(""))
        reader.identify(Context.create(""))
        assert sink.batches == []

    def test_offline_there_is_none(self, sink: Sink) -> None:
        reader = reader_of(flag(), events=sink, offline=True)
        reader.variation("flag", USER, "default")
        reader.track("bought", USER)
        reader.identify(USER)
        assert sink.batches == []

    def test_all_flags_make_none(self, sink: Sink) -> None:
        reader = reader_of(flag(prerequisites=[needs("p")]), flag("p"), events=sink)
        with reader.request(USER) as request:
            assert request.all_flags_state().get_flag_value("flag") == "fall"
        assert sink.batches == []

    def test_the_default_is_the_readers_where_it_has_one(self, sink: Sink) -> None:
        reader = reader_of(flag(), events=sink, defaults={"flag": "the reader's", "none": "the reader's"})
        reader.variation("flag", USER, "mine")
        reader.variation("none", USER, "mine")
        assert [event["default"] for event in sink.events] == ["the reader's"] * 2
        assert sink.events[1]["value"] == "the reader's"

    def test_a_value_of_another_type_is_told_as_the_default(self, sink: Sink) -> None:
        reader_of(flag(), events=sink).bool_variation_detail("flag", USER, True)
        event = sink.only()
        assert (event["variation"], event["value"], event["default"]) == (None, True, True)
        assert event["reason"] == {"kind": "ERROR", "errorKind": "WRONG_TYPE"}

    def test_a_migration_whose_value_is_no_stage_is_told_as_it_is(self, sink: Sink) -> None:
        reader_of(flag(), events=sink).migration_variation("flag", USER, Stage.LIVE)
        event = sink.only()
        assert (event["variation"], event["value"], event["default"]) == (1, "fall", "live")
        assert "reason" not in event

    def test_a_strict_reader_tells_before_it_raises(self, sink: Sink) -> None:
        reader = reader_of(flag(), events=sink, strict=True)
        with pytest.raises(FlagNotFound):
            reader.variation("none", USER, "default")
        with pytest.raises(WrongType):
            reader.bool_variation("flag", USER, False)
        assert [(event["key"], event["value"]) for event in sink.events] == [("none", "default"), ("flag", False)]

    def test_the_callers_own_copy_is_not_the_events(self, sink: Sink) -> None:
        default: list[Any] = ["default"]
        with reader_of(flag(variations=[["v"]] * 4), events=sink).request(USER) as request:
            request.variation("flag", default).append("mine")
            request.variation_detail("flag", default).reason["mine"] = True
            default.append("mine")
        first, second = sink.events
        assert (first["value"], first["default"]) == (["v"], ["default"])
        assert second["reason"] == {"kind": "FALLTHROUGH"}

    @pytest.mark.parametrize("key", [None, 7, ("flag",), ["flag"]])
    def test_a_key_that_is_no_string_makes_none(self, key: Any, sink: Sink) -> None:
        assert reader_of(flag(), events=sink).variation(key, USER, "default") == "default"
        assert sink.batches == []


class TestTracking:
    """What a receiver is to do with an event is told by the flag, and never decides whether there is one."""

    @pytest.mark.parametrize(
        ("fields", "tracked"),
        [
            ({}, False),
            ({"trackEvents": True}, True),
            ({"trackEvents": False}, False),
            ({"trackEventsFallthrough": True}, True),
            ({"rules": [rule(trackEvents=True)]}, True),
            ({"rules": [rule()], "trackEventsFallthrough": True}, False),
            ({"fallthrough": EXPERIMENT}, True),
            ({"on": False, "trackEventsFallthrough": True}, False),
        ],
    )
    def test_an_experiment_is_tracked_with_its_reason(self, fields: Item, tracked: bool, sink: Sink) -> None:
        reader_of(flag(**fields), events=sink).variation("flag", USER, None)
        event = sink.only()
        assert event.get("trackEvents") == (True if tracked else None)
        assert ("reason" in event) == (tracked and not fields.get("trackEvents"))

    @pytest.mark.parametrize(
        ("until", "told"),
        [(..., None), (None, None), (0, None), (12345678, 12345678), (1e15, 10**15), (2.5, 2), (float("inf"), None)],
    )
    def test_a_debugging_date_is_told_even_when_it_is_over(self, until: Any, told: Any, sink: Sink) -> None:
        reader_of(flag(debugEventsUntilDate=until), events=sink).variation("flag", USER, None)
        found = sink.only().get("debugEventsUntilDate")
        assert (found, type(found)) == (told, type(told))

    @pytest.mark.parametrize(("excluded", "told"), [(..., None), (False, None), (True, True)])
    def test_exclusion_from_summaries_is_told(self, excluded: Any, told: Any, sink: Sink) -> None:
        reader_of(flag(excludeFromSummaries=excluded), events=sink).variation("flag", USER, None)
        assert sink.only().get("excludeFromSummaries") == told


class TestPrerequisites:
    def test_they_come_first_and_name_the_flag_that_lists_them(self, sink: Sink) -> None:
        flags = [
            flag(prerequisites=[needs("a"), needs("b")]),
            flag("a", prerequisites=[needs("c")], version=2),
            flag("b"),
            flag("c", trackEvents=True),
        ]
        assert reader_of(*flags, events=sink).variation_detail("flag", USER, "default").value == "fall"
        told = [(event["key"], event.get("prereqOf"), event["default"]) for event in sink.events]
        assert told == [("c", "a", None), ("a", "flag", None), ("b", "flag", None), ("flag", None, "default")]
        assert len(sink.batches) == 1
        assert sink.events[1] == {
            "kind": "feature",
            "creationDate": sink.events[1]["creationDate"],
            "key": "a",
            "context": U,
            "variation": 1,
            "value": "fall",
            "default": None,
            "version": 2,
            "prereqOf": "flag",
            "reason": {"kind": "FALLTHROUGH"},
        }
        assert [event.get("trackEvents") for event in sink.events] == [True, None, None, None]

    def test_one_that_fails_is_the_last(self, sink: Sink) -> None:
        flags = [flag(prerequisites=[needs("a"), needs("b", 3), needs("c")]), flag("a"), flag("b"), flag("c")]
        reader_of(*flags, events=sink).variation("flag", USER, None)
        assert [event["key"] for event in sink.events] == ["a", "b", "flag"]

    def test_one_that_is_off_has_an_event_and_its_own_have_none(self, sink: Sink) -> None:
        flags = [flag(prerequisites=[needs("a", 0)]), flag("a", on=False, prerequisites=[needs("b")]), flag("b")]
        reader_of(*flags, events=sink).variation("flag", USER, None)
        assert [(event["key"], event["value"]) for event in sink.events] == [("a", "off"), ("flag", "off")]

    def test_one_that_is_off_is_the_last_whatever_it_serves(self, sink: Sink) -> None:
        flags = [
            flag(prerequisites=[needs("a"), needs("off", 0), needs("b")]),
            flag("a", prerequisites=[needs("b")]),
            flag("off", on=False),
            flag("b"),
        ]
        reader_of(*flags, events=sink).variation("flag", USER, None)
        told = [(event["key"], event.get("prereqOf")) for event in sink.events]
        assert told == [("b", "a"), ("a", "flag"), ("off", "flag"), ("flag", None)]

    def test_one_that_is_missing_has_none(self, sink: Sink) -> None:
        reader_of(flag(prerequisites=[needs("a"), needs("none")]), flag("a"), events=sink).variation("flag", USER, None)
        assert [event["key"] for event in sink.events] == ["a", "flag"]

    def test_those_after_a_missing_one_have_none_though_others_led_to_them(self, sink: Sink) -> None:
        root = flag(prerequisites=[needs("a"), needs("none"), needs("c")])
        reader_of(root, flag("a", prerequisites=[needs("c")]), flag("c"), events=sink).variation("flag", USER, None)
        told = [(event["key"], event.get("prereqOf")) for event in sink.events]
        assert told == [("c", "a"), ("a", "flag"), ("flag", None)]

    def test_a_flag_that_is_off_has_none_of_them(self, sink: Sink) -> None:
        reader_of(flag(on=False, prerequisites=[needs("a")]), flag("a"), events=sink).variation("flag", USER, None)
        assert [event["key"] for event in sink.events] == ["flag"]

    def test_one_that_several_list_has_an_event_for_each(self, sink: Sink) -> None:
        flags = [
            flag(prerequisites=[needs("a"), needs("b")]),
            flag("a", prerequisites=[needs("c")]),
            flag("b", prerequisites=[needs("c")]),
            flag("c", prerequisites=[needs("d")]),
            flag("d"),
        ]
        reader_of(*flags, events=sink).variation("flag", USER, None)
        told = [(event["key"], event.get("prereqOf")) for event in sink.events]
        assert told == [("d", "c"), ("c", "a"), ("a", "flag"), ("c", "b"), ("b", "flag"), ("flag", None)]

    def test_a_doubled_chain_makes_few(self, sink: Sink) -> None:
        flags = [flag(f"f{n}", prerequisites=[needs(f"f{n + 1}"), needs(f"f{n + 1}")]) for n in range(30)]
        reader_of(*flags, flag("f30"), events=sink).variation("f0", USER, None)
        assert len(sink.events) == 61

    def test_those_before_a_circle_have_theirs(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        flags = [
            flag(prerequisites=[needs("a"), needs("b"), needs("a")]),
            flag("a"),
            flag("b", prerequisites=[needs("c"), needs("flag"), needs("a")]),
            flag("c"),
        ]
        reader_of(*flags, events=sink).variation("flag", USER, "default")
        assert [event["key"] for event in sink.events] == ["a", "c", "flag"]
        assert len(caplog.records) == 1

    def test_those_before_a_malformed_one_have_theirs(self, sink: Sink) -> None:
        flags = [flag(prerequisites=[needs("a"), 7, needs("b")]), flag("a"), flag("b")]
        reader_of(*flags, events=sink).variation("flag", USER, "default")
        assert [event["key"] for event in sink.events] == ["a", "flag"]

    def test_one_that_the_store_does_not_give_ends_them(self, sink: Sink) -> None:
        collections = store(flag(prerequisites=[needs("a"), needs("b")]), flag("a"))
        collections["features"]["b"] = StoreError("too big")
        FlagReader(MemoryRequester(collections), events=sink).variation_detail("flag", USER, "default")
        assert [event["key"] for event in sink.events] == ["a", "flag"]
        assert sink.events[1]["reason"]["errorKind"] == "EXCEPTION"


class TestSampling:
    @pytest.mark.parametrize(
        ("ratio", "there"), [(..., True), (None, True), (1, True), (1.0, True), (0, False), (-1, False)]
    )
    def test_a_ratio_decides_at_once(self, ratio: Any, there: bool, sink: Sink) -> None:
        reader_of(flag(samplingRatio=ratio), events=sink).variation("flag", USER, None)
        assert len(sink.events) == there
        assert not there or "samplingRatio" not in sink.only()

    def test_one_in_so_many_is_kept_and_tells_it(self, sink: Sink) -> None:
        with reader_of(flag(samplingRatio=4), events=sink).request(USER) as request:
            for _ in range(2000):
                request.variation("flag", None)
        assert 400 < len(sink.events) < 600
        assert {event["samplingRatio"] for event in sink.events} == {4}

    def test_processes_that_began_with_the_same_state_keep_different_ones(self) -> None:
        """As environments do that Lambda restored from one snapshot."""
        kept = []
        for _ in range(2):
            random.seed(7)
            kept.append([sampled(2) for _ in range(200)])
        assert kept[0] != kept[1]

    def test_each_flag_is_sampled_by_its_own_ratio(self, sink: Sink) -> None:
        flags = [
            flag("one", prerequisites=[needs("kept")], samplingRatio=0),
            flag("two", prerequisites=[needs("dropped")]),
            flag("kept"),
            flag("dropped", samplingRatio=0),
        ]
        reader = reader_of(*flags, events=sink)
        reader.variation("one", USER, None)
        reader.variation("two", USER, None)
        assert [event["key"] for event in sink.events] == ["kept", "two"]

    def test_nothing_else_is_sampled(self, sink: Sink) -> None:
        reader = reader_of(events=sink)
        reader.variation("none", USER, None)
        reader.track("bought", USER)
        reader.identify(USER)
        assert [event["kind"] for event in sink.events] == ["feature", "custom", "identify"]

    def test_a_request_whose_events_are_all_dropped_tells_the_sink_nothing(self, sink: Sink) -> None:
        reader_of(flag(samplingRatio=0), events=sink).variation("flag", USER, None)
        assert sink.batches == []


class TestOtherEvents:
    def test_an_event_of_the_applications_own(self, sink: Sink) -> None:
        reader_of(events=sink).track("bought", USER, {"items": [1, None]}, 9.5)
        assert sink.only() == {
            "kind": "custom",
            "key": "bought",
            "context": U,
            "data": {"items": [1, None]},
            "metricValue": 9.5,
        }

    def test_what_is_not_given_is_left_out_and_0_is_given(self, sink: Sink) -> None:
        reader = reader_of(events=sink)
        reader.track("bought", U)
        reader.track("bought", U, data=False, metric_value=0)
        bare, given = sink.events
        assert bare.keys() == {"kind", "creationDate", "key", "context"}
        assert (given["data"], given["metricValue"]) == (False, 0)

    def test_a_context_alone(self, sink: Sink) -> None:
        context = Context.builder("u").name("Ada").set("plan", "gold").build()
        reader_of(events=sink).identify(context)
        assert sink.only() == {"kind": "identify", "context": U | {"name": "Ada", "plan": "gold"}}

    def test_an_operation_of_a_migration(self, sink: Sink) -> None:
        reader = reader_of(flag(variations=["live"] * 4, version=3), events=sink)
        _, tracker = reader.migration_variation("flag", USER, Stage.OFF)
        reader.track_migration_op(tracker.operation(Operation.READ).invoked(Origin.NEW))
        assert [event["kind"] for event in sink.events] == ["feature", "migration_op"]
        operation = sink.events[1]
        del operation["creationDate"]
        assert operation == {
            "kind": "migration_op",
            "context": U,
            "operation": "read",
            "evaluation": {
                "key": "flag",
                "value": "live",
                "default": "off",
                "reason": {"kind": "FALLTHROUGH"},
                "version": 3,
                "variation": 1,
            },
            "measurements": [{"key": "invoked", "values": {"new": True}}],
        }

    def test_an_operation_may_be_of_another_context_than_the_requests(self, sink: Sink) -> None:
        reader = reader_of(flag(variations=["live"] * 4), events=sink, private_attributes=["plan"])
        _, tracker = reader.migration_variation("flag", ADA, Stage.OFF)
        with reader.request(USER) as request:
            request.track("bought")
            request.track_migration_op(tracker.operation(Operation.READ).invoked(Origin.NEW))
        custom, operation = sink.batches[1]
        assert custom["context"] == U
        assert operation["context"]["key"] == "ada"
        assert operation["context"]["_meta"] == {"redactedAttributes": ["plan"]}

    @pytest.mark.parametrize(("ratio", "told"), [(1, [None]), (0, []), (..., [None])])
    def test_an_operation_is_sampled_by_the_flags_ratio(self, ratio: Any, told: list[Any], sink: Sink) -> None:
        reader = reader_of(flag(variations=["live"] * 4, samplingRatio=ratio), events=sink)
        _, tracker = reader.migration_variation("flag", USER, Stage.OFF)
        del sink.batches[:]
        reader.track_migration_op(tracker.operation(Operation.READ).invoked(Origin.NEW))
        assert [event.get("samplingRatio") for event in sink.events] == told

    def test_an_operation_that_says_nothing_is_logged(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        reader = reader_of(flag(variations=["live"] * 4), events=sink)
        _, tracker = reader.migration_variation("flag", USER, Stage.OFF)
        with reader.request(USER) as request:
            request.track_migration_op(tracker)
        reader.track_migration_op(tracker)
        assert [event["kind"] for event in sink.events] == ["feature"]
        assert caplog.text.count("operation not provided") == 2

    @pytest.mark.parametrize("name", [None, 7, b"bought"])
    def test_a_name_must_be_a_string(self, name: Any, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        reader_of(events=sink).track(name, USER)
        assert sink.batches == []
        assert "its name is no string" in caplog.text

    @pytest.mark.parametrize("value", ["9", True, float("nan"), [1]])
    def test_a_metric_value_must_be_a_number(self, value: Any, sink: Sink) -> None:
        reader_of(events=sink).track("bought", USER, None, value)
        assert sink.batches == []


class TestTheSink:
    def test_it_is_given_a_requests_events_when_the_request_is_over(self, sink: Sink) -> None:
        reader = reader_of(flag(), flag("other"), events=sink)
        with reader.request(USER) as request:
            request.variation("flag", None)
            request.identify()
            request.variation("other", None)
            request.track("bought")
            assert sink.batches == []
        assert [[event["kind"] for event in batch] for batch in sink.batches] == [
            ["feature", "identify", "feature", "custom"]
        ]

    def test_closing_twice_gives_them_once(self, sink: Sink) -> None:
        request = reader_of(flag(), events=sink).request(USER)
        request.variation("flag", None)
        request.close()
        request.close()
        assert len(sink.batches) == 1

    def test_a_single_evaluation_is_a_batch(self, sink: Sink) -> None:
        reader = reader_of(flag(), events=sink)
        reader.variation("flag", USER, None)
        assert len(sink.batches) == 1
        reader.bool_variation("flag", USER, False)
        assert len(sink.batches) == 2

    def test_an_exception_in_the_block_does_not_lose_them(self, sink: Sink) -> None:
        request = reader_of(flag(), events=sink).request(USER)
        request.variation("flag", None)
        with pytest.raises(KeyError), request:
            raise KeyError
        assert len(sink.batches) == 1

    def test_a_request_without_events_does_not_bother_it(self, sink: Sink) -> None:
        with reader_of(flag(), events=sink).request(USER):
            pass
        assert sink.batches == []

    def test_what_it_raises_is_logged_and_the_answer_stands(self, caplog: pytest.LogCaptureFixture) -> None:
        def failing(events: list[Item]) -> None:
            raise OSError("secret")

        reader = reader_of(flag(), events=failing)
        assert reader.variation("flag", USER, None) == "fall"
        with reader.request(USER) as request:
            assert request.variation("flag", None) == "fall"
            request.track("bought")
        said = [record.getMessage() for record in caplog.records]
        assert [message.partition(":")[0] for message in said] == [
            "the event sink failed, with 1 events",
            "the event sink failed, with 2 events",
        ]
        assert "secret" not in caplog.text

    def test_it_hides_no_exception_of_the_block(self) -> None:
        def failing(events: list[Item]) -> None:
            raise OSError

        request = reader_of(flag(), events=failing).request(USER)
        request.variation("flag", None)
        with pytest.raises(KeyError), request:
            raise KeyError

    @pytest.mark.parametrize("events", [7, "sink", [], {}])
    def test_it_must_be_callable(self, events: Any) -> None:
        with pytest.raises(ConfigurationError, match="events takes a callable"):
            reader_of(events=events)

    def test_a_url_takes_one_too(self, sink: Sink, tmp_path: Path) -> None:
        (tmp_path / "flags.json").write_text(json.dumps({"flagValues": {"flag": 1}}), encoding="utf-8")
        with FlagReader.from_url(
            f"file:{tmp_path}/flags.json", events=sink, private_attributes=["plan"], omit_anonymous_contexts=True
        ) as reader:
            reader.variation("flag", U | {"plan": "gold"}, 0)
        assert sink.only()["context"]["_meta"] == {"redactedAttributes": ["plan"]}

    def test_an_event_is_of_json_values_only(self, sink: Sink) -> None:
        class Plan(str, enum.Enum):
            GOLD = "gold"

        class Size(enum.IntEnum):
            BIG = 3

        reader = reader_of(events=sink)
        reader.track("bought", USER, {"plan": Plan.GOLD, "size": (Size.BIG, 2.5, True, None)})
        data = sink.only()["data"]
        assert data == {"plan": "gold", "size": [3, 2.5, True, None]}
        assert [type(data["plan"]), type(data["size"]), type(data["size"][0])] == [str, list, int]

    @pytest.mark.parametrize(
        "odd",
        [object(), float("nan"), float("inf"), {1: 2}, b"x", {"a": {"b": {1, 2}}}, datetime(2020, 1, 1), 2**1025],
    )
    def test_one_that_json_cannot_carry_spoils_no_other(
        self, odd: Any, sink: Sink, caplog: pytest.LogCaptureFixture
    ) -> None:
        with reader_of(flag(), events=sink).request(USER) as request:
            request.variation("flag", "good")
            request.variation("flag", odd)
            request.variation("none", odd)
            request.track("bought", odd)
            request.track("left")
        assert [event["key"] for event in sink.events] == ["flag", "left"]
        assert "no event for flag 'flag': its default is nothing that JSON can carry" in caplog.text
        assert "no event for custom event 'bought': its data is nothing that JSON can carry" in caplog.text

    def test_a_value_within_itself_is_not_followed_for_ever(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        circle: list[Any] = []
        circle.append(circle)
        assert reader_of(events=sink).variation("none", USER, circle) is circle
        assert sink.batches == []
        assert "no event for flag 'none': its value is nested too deeply" in caplog.text

    @pytest.mark.parametrize(
        "fields",
        [
            {"version": "1"},
            {"samplingRatio": True},
            {"samplingRatio": "1"},
            {"trackEvents": 1},
            {"excludeFromSummaries": "no"},
            {"debugEventsUntilDate": "soon"},
            {"trackEventsFallthrough": 7},
        ],
    )
    def test_a_flag_that_is_malformed_for_events_only_answers_without_one(
        self, fields: Item, sink: Sink, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert reader_of(flag(**fields), events=sink).variation("flag", USER, None) == "fall"
        assert sink.batches == []
        (name,) = fields
        assert f"no event for flag 'flag': flag 'flag': {name} must be" in caplog.text

    def test_a_bug_in_an_evaluation_would_not_be_told_as_the_evaluation_before(
        self, sink: Sink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with reader_of(flag("good"), flag("bad"), events=sink).request(USER) as request:
            request.variation("good", None)
            monkeypatch.setattr("ldreader.request.evaluate", lambda *_: 1 / 0)
            assert request.variation("bad", "default") == "default"
        assert [event.get("version") for event in sink.events] == [1, None]
        assert sink.events[1]["value"] == "default"

    def test_a_bug_in_here_would_not_become_the_applications(
        self, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("ldreader.events.is_experiment", lambda *_: 1 / 0)
        assert reader_of(flag(), events=sink).variation("flag", USER, None) == "fall"
        assert "no event for flag 'flag': unexpected ZeroDivisionError at" in caplog.text


class TestJsonLines:
    def test_each_event_is_a_line(self) -> None:
        stream = io.StringIO()
        with reader_of(flag(variations=["ü\n"] * 4), events=JsonLinesSink(stream)).request(USER) as request:
            request.variation("flag", None)
            request.track("bought")
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [line["kind"] for line in lines] == ["feature", "custom"]
        assert lines[0]["value"] == "ü\n"
        assert stream.getvalue().isascii()

    def test_a_file_is_appended_to_and_not_held_open(self, tmp_path: Path) -> None:
        for target in (tmp_path / "events", str(tmp_path / "events")):
            reader = reader_of(flag(), events=JsonLinesSink(target))
            reader.variation("flag", USER, None)
            reader.track("bought", USER)
        kinds = [json.loads(line)["kind"] for line in (tmp_path / "events").read_text("utf-8").splitlines()]
        assert kinds == ["feature", "custom"] * 2

    def test_a_batch_is_one_write(self) -> None:
        class Stream:
            def __init__(self) -> None:
                self.written: list[str] = []

            def write(self, text: str) -> None:
                self.written.append(text)

        stream = Stream()
        JsonLinesSink(stream)([{"a": 1}, {"b": 2}])
        assert stream.written == ['{"a": 1}\n{"b": 2}\n']

    def test_a_stream_that_keeps_something_back_is_told_not_to(self, tmp_path: Path) -> None:
        with (tmp_path / "events").open("w", encoding="utf-8") as stream:
            JsonLinesSink(stream)([{"a": 1}])
            assert (tmp_path / "events").read_text(encoding="utf-8") == '{"a": 1}\n'

    def test_a_file_that_cannot_be_written_is_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        reader = reader_of(flag(), events=JsonLinesSink(tmp_path))
        assert reader.variation("flag", USER, None) == "fall"
        assert "the event sink failed, with 1 events: unexpected IsADirectoryError" in caplog.text


def told(context: Any, kind: str = "feature", **settings: Any) -> Item:
    """The context as an event of the kind tells it."""
    sink = Sink()
    reader = reader_of(events=sink, **settings)
    if kind == "identify":
        reader.identify(context)
    elif kind == "custom":
        reader.track("bought", context)
    elif kind == "migration_op":
        _, tracker = reader.migration_variation("none", context, Stage.OFF)
        reader.track_migration_op(tracker.operation(Operation.READ).invoked(Origin.OLD))
        del sink.batches[0]
    else:
        reader.variation("none", context, None)
    (event,) = sink.events
    assert event["kind"] == kind
    found: Item = event["context"]
    return found


KINDS = ("feature", "custom", "migration_op", "identify")
ADA = {"kind": "user", "key": "ada", "name": "Ada", "plan": "gold", "home": {"city": "London", "street": {"no": 1}}}


class TestPrivacy:
    @pytest.mark.parametrize("kind", KINDS)
    def test_without_settings_all_is_told_but_the_list_of_what_is_private(self, kind: str) -> None:
        assert told(ADA, kind) == ADA
        both = {"kind": "multi", "org": {"key": "o", "size": 3}, "user": {"key": "u", "anonymous": False}}
        assert told(both, kind) == {"kind": "multi", "org": {"key": "o", "size": 3}, "user": {"key": "u"}}

    @pytest.mark.parametrize("kind", KINDS)
    def test_private_attributes_are_left_out_and_named(self, kind: str) -> None:
        context = ADA | {"_meta": {"privateAttributes": ["plan"]}}
        assert told(context, kind, private_attributes=["name", "nothing"]) == {
            "kind": "user",
            "key": "ada",
            "home": ADA["home"],
            "_meta": {"redactedAttributes": ["name", "plan"]},
        }

    @pytest.mark.parametrize("kind", KINDS)
    def test_all_may_be_private(self, kind: str) -> None:
        assert told(ADA | {"anonymous": True}, kind, all_attributes_private=True) == {
            "kind": "user",
            "key": "ada",
            "anonymous": True,
            "_meta": {"redactedAttributes": ["name", "plan", "home"]},
        }

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_anonymous_member_tells_nothing_more_except_by_identify(self, kind: str) -> None:
        context = {
            "kind": "multi",
            "user": {"key": "u", "anonymous": True, "plan": "gold"},
            "org": {"key": "o", "a": 1},
        }
        bare = {"key": "u", "anonymous": True, "_meta": {"redactedAttributes": ["plan"]}}
        whole = {"key": "u", "anonymous": True, "plan": "gold"}
        user = whole if kind == "identify" else bare
        assert told(context, kind) == {"kind": "multi", "org": {"key": "o", "a": 1}, "user": user}

    def test_key_kind_and_anonymous_are_always_told(self) -> None:
        private = ["key", "kind", "anonymous", "/key", "/kind", "/anonymous"]
        assert told(U | {"anonymous": True}, private_attributes=private) == U | {"anonymous": True}

    def test_references_go_into_objects_and_not_into_lists(self) -> None:
        context = ADA | {"list": [{"city": "Paris"}]}
        private = ["/home/city", "/home/street/no", "/list/city", "/list/0/city", "/plan/x", "/home/none"]
        assert told(context, private_attributes=private) == context | {
            "home": {"street": {}},
            "_meta": {"redactedAttributes": ["/home/city", "/home/street/no"]},
        }

    def test_a_whole_attribute_hides_what_is_in_it(self) -> None:
        found = told(ADA, private_attributes=["/home/city", "/home", "home"])
        assert "home" not in found
        assert found["_meta"] == {"redactedAttributes": ["home"]}

    def test_names_with_slashes_and_tildes(self) -> None:
        context = U | {"/a": 1, "b/c": 2, "d~e": 3, "f": {"/g~": 4, "h": 5}}
        private = ["/~1a", "b/c", "d~e", "/f/~1g~0"]
        assert told(context, private_attributes=private) == U | {
            "f": {"h": 5},
            "_meta": {"redactedAttributes": ["/~1a", "b/c", "d~e", "/f/~1g~0"]},
        }

    @pytest.mark.parametrize("reference", ["", "/", "//", "/plan/", "/~2plan", "plan "])
    def test_an_invalid_reference_means_nothing(self, reference: str) -> None:
        assert told(ADA, private_attributes=[reference]) == ADA

    def test_what_one_context_keeps_private_does_not_leak_to_another(self) -> None:
        sink = Sink()
        reader = reader_of(events=sink, private_attributes=["name"])
        reader.identify(ADA | {"_meta": {"privateAttributes": ["plan"]}})
        reader.identify(ADA)
        first, second = [event["context"] for event in sink.events]
        assert "plan" not in first
        assert second["plan"] == "gold"
        assert second["_meta"] == {"redactedAttributes": ["name"]}

    def test_the_same_holds_for_members_of_one_context(self) -> None:
        context = {
            "kind": "multi",
            "user": {"key": "u", "plan": 1, "_meta": {"privateAttributes": ["plan"]}},
            "org": {"key": "o", "plan": 2},
        }
        found = told(context)
        assert found["org"] == {"key": "o", "plan": 2}
        assert found["user"] == {"key": "u", "_meta": {"redactedAttributes": ["plan"]}}

    def test_anonymous_contexts_may_be_left_out_of_identify(self) -> None:
        both = {"kind": "multi", "user": {"key": "u", "anonymous": True}, "org": {"key": "o"}}
        assert told(both, "identify", omit_anonymous_contexts=True) == {"kind": "org", "key": "o"}
        assert told(both, "feature", omit_anonymous_contexts=True) == both
        sink = Sink()
        reader_of(events=sink, omit_anonymous_contexts=True).identify(U | {"anonymous": True})
        assert sink.batches == []

    def test_a_string_is_no_list_of_names(self) -> None:
        with pytest.raises(ConfigurationError, match="private_attributes takes a list"):
            reader_of(events=Sink(), private_attributes="plan")

    def test_what_json_cannot_carry_in_a_context_is_left_out(self) -> None:
        context = Context.builder("u").set("when", datetime(2020, 1, 1)).set("n", {"x": float("nan"), "y": 1}).build()
        assert told(context) == U | {"n": {"x": None, "y": 1}}

    def test_the_application_changing_its_value_later_changes_no_event(self) -> None:
        sink = Sink()
        address = {"city": "London"}
        with reader_of(events=sink).request(Context.builder("u").set("home", address).build()) as request:
            request.identify()
            address["city"] = "Paris"
        assert sink.only()["context"]["home"] == {"city": "London"}


class Capturing:
    """Stands in the place of the official SDK's event processor, and keeps what it is given in the form it sends."""

    def __init__(self, config: Config) -> None:
        self._format = EventOutputFormatter(config)
        self.events: list[Item] = []

    def send_event(self, event: Any) -> None:
        told = self._format.make_output_event(event)
        if getattr(event, "track_events", False):
            told["trackEvents"] = True
        self.events.append(told)

    def flush(self) -> None:
        pass

    def stop(self) -> None:
        pass


@contextmanager
def official(flags: Any, segments: Any, **options: Any) -> Iterator[tuple[LDClient, list[Item]]]:
    """The official SDK with these items, and the list to which its events are added."""
    made: list[Capturing] = []

    def capturing(config: Config) -> Capturing:
        made.append(Capturing(config))
        return made[-1]

    feature_store = InMemoryFeatureStore()  # type: ignore[no-untyped-call]
    feature_store.init({FEATURES: flags, SEGMENTS: segments})  # type: ignore[no-untyped-call]
    factory: Callable[..., Any] = capturing
    config = Config("sdk-key", use_ldd=True, feature_store=feature_store, event_processor_class=factory, **options)
    client = LDClient(config)
    try:
        yield client, made[0].events
    finally:
        client.close()  # type: ignore[no-untyped-call]


OURS_ALONE = ("creationDate", "debugEventsUntilDate", "samplingRatio", "excludeFromSummaries")


def comparable(events: list[Item]) -> list[str]:
    """The events less what only one library tells; one of several alike, as prerequisites of a doubled chain are."""
    kept = []
    for event in events:
        members = {name: value for name, value in event.items() if name not in OURS_ALONE}
        if members.get("variation") is None:
            members.pop("variation", None)
        if "reason" in members and members["reason"].get("ruleId", 0) is None:
            members["reason"] = {name: value for name, value in members["reason"].items() if name != "ruleId"}
        text = json.dumps(members, sort_keys=True)
        if text not in kept:
            kept.append(text)
    return kept


class TestBesideTheOfficialSdk:
    def test_worlds_of_flags_give_the_same_events(self, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("ldclient", "ldclient.util", "ldclient.flag", "ldreader"):
            caplog.set_level(logging.CRITICAL + 1, name)
        compared = prerequisites = 0
        for seed in ("one", "two", "three"):
            flags, segments = worlds.world(seed, 40)
            for number, flag_ in enumerate(flags.values()):  # no two flags are tracked alike
                flag_["trackEvents"] = number % 3 == 0
                flag_["trackEventsFallthrough"] = number % 4 == 0
            sink = Sink()
            collections = {
                "features": {key: json.dumps(item) for key, item in flags.items()},
                "segments": {key: json.dumps(item) for key, item in segments.items()},
            }
            reader = FlagReader(MemoryRequester(collections), events=sink)
            with official(flags, segments) as (client, theirs):
                for context in worlds.contexts(seed, 25):
                    if not Context.from_dict(context).valid:
                        continue
                    their_context = OfficialContext.from_dict(context)
                    for key in [*flags, "no-such-flag"]:
                        del theirs[:], sink.batches[:]
                        detail = client.variation_detail(key, their_context, "default")
                        ours = reader.variation_detail(key, context, "default")
                        if ours.value != detail.value or ours.reason.get("errorKind") != detail.reason.get("errorKind"):
                            continue  # as test_official.py explains
                        assert comparable(sink.events) == comparable(theirs), (seed, key, context)
                        compared += 1
                        prerequisites += len(sink.events) > 1
        assert compared > 2000
        assert prerequisites > 200

    def test_custom_and_identify_events_are_the_same(self) -> None:
        sink = Sink()
        reader = reader_of(events=sink, private_attributes=["plan"])
        context = ADA | {"_meta": {"privateAttributes": ["/home/city"]}}
        with official({}, {}, private_attributes={"plan"}) as (client, theirs):
            client.identify(OfficialContext.from_dict(context))
            client.track("bought", OfficialContext.from_dict(context), {"a": 1}, 0)
            client.track("left", OfficialContext.from_dict(context))
        reader.identify(context)
        reader.track("bought", context, {"a": 1}, 0)
        reader.track("left", context)
        assert len(sink.events) == 3
        assert comparable(sink.events) == comparable(theirs)

    def test_contexts_are_redacted_alike(self) -> None:
        chance = random.Random("redaction")
        names = ["a", "b", "/c", "d~e", "name", "f/g"]
        references = [
            *names, "/a", "/a/b", "/b/a/b", "/~1c", "/~1c/a", "/d~0e", "/d~0e/a", "/f~1g", "/name", "/a/~1c", "//", "",
        ]  # fmt: skip

        def value(depth: int) -> Any:
            if depth and chance.random() < 0.6:
                return {name: value(depth - 1) for name in chance.sample(names, 3)}
            return chance.choice([1, "x", True, [], {}, [{"a": 1}]])

        redacted = 0
        for _ in range(1500):
            members = {}
            for kind in chance.sample(["user", "org", "device"], chance.choice([1, 1, 2])):
                members[kind] = {"key": "k", "anonymous": chance.random() < 0.3}
                members[kind] |= {name: value(2) for name in chance.sample(names, 4) if name != "name"}
                if chance.random() < 0.5:
                    members[kind]["name"] = "N"
                members[kind]["_meta"] = {"privateAttributes": chance.sample(references, chance.choice([0, 1, 2]))}
            (first, *rest) = members
            context = {"kind": "multi", **members} if rest else {"kind": first, **members[first]}
            private = chance.sample(references, chance.choice([0, 1, 3]))
            everything = chance.random() < 0.1
            formatter = EventContextFormatter(everything, private)
            for kind, theirs in (
                ("feature", formatter.format_context_redact_anonymous),
                ("identify", formatter.format_context),
            ):
                ours = told(context, kind, private_attributes=private, all_attributes_private=everything)
                assert sorted_names(ours) == sorted_names(theirs(OfficialContext.from_dict(context))), context
                redacted += "_meta" in json.dumps(ours)
        assert redacted > 1000


def sorted_names(told: Item) -> str:
    """JSON of an event's context; the order of what was left out means nothing."""

    def ordered(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: sorted(set(member)) if name == "redactedAttributes" else ordered(member)
                for name, member in value.items()
            }
        return value

    return json.dumps(ordered(told), sort_keys=True)


def test_clauses_go_by_what_events_leave_out(sink: Sink) -> None:
    reader = reader_of(flag(rules=[rule(clause("plan", "in", "gold"))]), events=sink, all_attributes_private=True)
    assert reader.variation("flag", ADA, None) == "match"
    assert "gold" not in json.dumps(sink.events)
