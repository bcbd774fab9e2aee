"""Migrations: the stage a flag gives, what a tracker measures, and what a migrator reads and writes when."""

from __future__ import annotations

import contextvars
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import ldclient.migrations
import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.impl.events.event_processor_common import EventOutputFormatter
from ldclient.impl.util import Result as OfficialResult
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from ldreader import (
    Context,
    ExecutionOrder,
    FlagNotFound,
    Migrator,
    MigratorBuilder,
    Operation,
    OpTracker,
    Origin,
    Result,
    Stage,
    WrongType,
)
from ldreader.migrations import MigrationOpEvent, OperationResult, WriteResult
from tests.flags import USER, Item, flag, reader_of, result

Log = list[str]


def stage_flag(stage: Any, **fields: Any) -> Item:
    return flag("migration", variations=[stage] * 4, **fields)


class TestTheStage:
    @pytest.mark.parametrize("stage", Stage)
    def test_it_is_what_the_flag_serves(self, stage: Stage) -> None:
        found, tracker = reader_of(stage_flag(stage.value)).migration_variation("migration", USER, Stage.OFF)
        assert found is stage
        assert isinstance(tracker, OpTracker)

    def test_a_request_gives_it_too(self) -> None:
        with reader_of(stage_flag("live")).request(USER) as request:
            assert request.migration_variation("migration", Stage.OFF)[0] is Stage.LIVE

    @pytest.mark.parametrize("value", ["", "LIVE", "live ", "oldest", 1, True, None, ["live"], {"live": 1}])
    def test_another_value_gives_the_default_and_wrong_type(self, value: Any, caplog: pytest.LogCaptureFixture) -> None:
        stage, tracker = reader_of(stage_flag(value)).migration_variation("migration", USER, Stage.SHADOW)
        assert stage is Stage.SHADOW
        assert result(operation(tracker).detail) == ("shadow", None, {"kind": "ERROR", "errorKind": "WRONG_TYPE"})
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "flag 'migration' gives the default stage" in caplog.text

    def test_a_missing_flag_gives_the_default_with_its_reason(self) -> None:
        stage, tracker = reader_of().migration_variation("migration", USER, Stage.LIVE)
        assert stage is Stage.LIVE
        assert operation(tracker).detail.reason == {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"}

    @pytest.mark.parametrize("default", [None, "live", 7, ldclient.migrations.Stage.LIVE])
    def test_a_default_that_is_no_stage_is_off(self, default: Any, caplog: pytest.LogCaptureFixture) -> None:
        stage, _ = reader_of(defaults={"migration": "off"}).migration_variation("migration", USER, default)
        assert stage is Stage.OFF
        assert "a default stage must be a Stage" in caplog.text

    def test_the_readers_default_comes_before_the_callers(self) -> None:
        reader = reader_of(defaults={"migration": "live"})
        stage, tracker = reader.migration_variation("migration", USER, Stage.OFF)
        assert stage is Stage.LIVE
        assert operation(tracker).members()["evaluation"]["default"] == "off"

    def test_a_readers_default_that_is_no_stage_does_not_count(self) -> None:
        stage, _ = reader_of(defaults={"migration": "x"}).migration_variation("migration", USER, Stage.SHADOW)
        assert stage is Stage.SHADOW

    def test_a_strict_reader_raises(self) -> None:
        reader = reader_of(stage_flag("x"), strict=True)
        with pytest.raises(FlagNotFound):
            reader.migration_variation("none", USER, Stage.OFF)
        with pytest.raises(WrongType, match="no stage of a migration") as caught:
            reader.migration_variation("migration", USER, Stage.SHADOW)
        assert caught.value.detail is not None
        assert caught.value.detail.value == "shadow"

    @pytest.mark.parametrize("key", [None, 7, ["migration"], ""])
    def test_a_key_that_is_none_gives_the_default(self, key: Any) -> None:
        stage, tracker = reader_of().migration_variation(key, USER, Stage.LIVE)
        assert stage is Stage.LIVE
        assert tracker.operation(Operation.READ).invoked(Origin.OLD).build() == (
            "migration operation cannot contain an empty key"
        )

    def test_names_are_found(self) -> None:
        assert [Stage.from_str(stage.value) for stage in Stage] == list(Stage)
        assert [ExecutionOrder.from_str(order.value) for order in ExecutionOrder] == list(ExecutionOrder)
        assert Stage.from_str("x") is None
        assert ExecutionOrder.from_str("x") is None


def tracker_of(stage: str = "live", context: Any = USER, key: str = "migration", **fields: Any) -> OpTracker:
    return reader_of(stage_flag(stage, **fields)).migration_variation(key, context, Stage.OFF)[1]


def operation(tracker: OpTracker) -> MigrationOpEvent:
    """What the tracker builds, with what it needs to build anything."""
    built = tracker.operation(Operation.READ).invoked(Origin.OLD).build()
    assert isinstance(built, MigrationOpEvent), built
    return built


class TestTheTracker:
    def test_it_fails_in_this_order(self) -> None:
        invalid = tracker_of(context=Context.create(""), key="")
        assert invalid.build() == "operation not provided"
        assert invalid.operation(Operation.READ).build() == "migration operation cannot contain an empty key"
        nobody = tracker_of(context=Context.create("")).operation(Operation.READ)
        assert nobody.build() == "no origins were invoked"
        assert nobody.invoked(Origin.OLD).build() == "provided context was invalid"

    @pytest.mark.parametrize(("invoked", "other"), [(Origin.OLD, Origin.NEW), (Origin.NEW, Origin.OLD)])
    def test_what_was_not_invoked_has_no_measurements(self, invoked: Origin, other: Origin) -> None:
        tracker = tracker_of().operation(Operation.READ).invoked(invoked)
        tracker.error(other)
        assert tracker.build() == f"provided error for origin '{other.value}' without recording invocation"
        tracker.latency(other, timedelta())
        assert tracker.build() == f"provided latency for origin '{other.value}' without recording invocation"
        tracker.invoked(other)
        assert isinstance(tracker.build(), MigrationOpEvent)

    def test_consistency_takes_both(self) -> None:
        tracker = tracker_of().operation(Operation.READ).invoked(Origin.NEW).consistent(lambda: True)
        assert tracker.build() == "provided consistency without recording both invocations"
        assert isinstance(tracker.invoked(Origin.OLD).build(), MigrationOpEvent)

    def test_all_measurements_in_their_order(self) -> None:
        tracker = tracker_of().operation(Operation.WRITE).invoked(Origin.NEW).invoked(Origin.OLD)
        tracker.latency(Origin.NEW, timedelta(seconds=1.5)).latency(Origin.OLD, timedelta(microseconds=250))
        tracker.error(Origin.NEW).consistent(lambda: False)
        built = tracker.build()
        assert isinstance(built, MigrationOpEvent)
        assert built.members()["operation"] == "write"
        assert built.members()["measurements"] == [
            {"key": "invoked", "values": {"old": True, "new": True}},
            {"key": "consistent", "value": False},
            {"key": "error", "values": {"new": True}},
            {"key": "latency_ms", "values": {"old": 0.25, "new": 1500.0}},
        ]

    def test_what_is_not_of_its_type_is_passed_over(self) -> None:
        tracker: Any = tracker_of()
        assert tracker.operation("read").invoked("old").error("old").latency("old", timedelta()) is tracker
        assert tracker.latency(Origin.NEW, 5) is tracker
        assert operation(tracker).members()["measurements"] == [{"key": "invoked", "values": {"old": True}}]

    @pytest.mark.parametrize(("ratio", "asked"), [(..., 1), (None, 1), (1, 1), (0, 0), (-2, 0), ("x", 1)])
    def test_the_flags_ratio_decides_whether_a_check_is_made(self, ratio: Any, asked: int) -> None:
        settings = {} if ratio is ... else {"checkRatio": ratio}
        calls: Log = []
        tracker = tracker_of(migration=settings).consistent(lambda: calls.append("asked") is None)  # type: ignore[func-returns-value]
        assert len(calls) == asked
        found = operation(tracker.invoked(Origin.NEW)).members()["measurements"][1:]
        assert found == [{"key": "consistent", "value": True}] * asked

    def test_one_in_so_many_is_checked_and_tells_it(self) -> None:
        checked = []
        for _ in range(400):
            tracker = tracker_of(migration={"checkRatio": 2}).invoked(Origin.NEW).consistent(lambda: True)
            checked += operation(tracker).members()["measurements"][1:]
        assert 120 < len(checked) < 280
        assert checked[0] == {"key": "consistent", "value": True, "samplingRatio": 2}

    def test_what_counts_as_true_is_told_as_true(self) -> None:
        answers: Any = [lambda: "same", lambda: None]
        found = [operation(tracker_of().invoked(Origin.NEW).consistent(answer)).consistent for answer in answers]
        assert found == [True, False]

    def test_a_check_that_raises_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        tracker = tracker_of().consistent(lambda: bool(1 / 0))
        assert operation(tracker).consistent is None
        assert "the comparison for migration 'migration' failed: unexpected ZeroDivisionError" in caplog.text

    def test_a_missing_flag_has_no_version(self) -> None:
        evaluation = operation(tracker_of(key="none")).members()["evaluation"]
        assert evaluation == {
            "key": "none",
            "value": "off",
            "default": "off",
            "reason": {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"},
        }

    def test_what_was_built_does_not_change(self) -> None:
        tracker = tracker_of()
        built = operation(tracker)
        tracker.invoked(Origin.NEW).error(Origin.OLD)
        assert built.members()["measurements"] == [{"key": "invoked", "values": {"old": True}}]

    def test_threads_may_share_it(self) -> None:
        tracker = tracker_of()

        def measure() -> None:
            for _ in range(200):
                tracker.invoked(Origin.NEW).latency(Origin.NEW, timedelta(1)).build()

        threads = [threading.Thread(target=measure) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert operation(tracker).latencies == {Origin.NEW: timedelta(1)}


def function(log: Log, name: str, outcome: Any = None) -> Callable[[Any], Any]:
    """A function of the application's; an exception as its outcome is raised."""

    def called(payload: Any) -> Any:
        log.append(name)
        if isinstance(outcome, BaseException):
            raise outcome
        return Result.success((name, payload)) if outcome is None else outcome

    return called


def migrator_of(reader: Any, log: Log, **outcomes: Any) -> MigratorBuilder:
    """A builder whose four functions write their names down; serial, so that there is an order."""
    made = {
        name: function(log, name, outcomes.get(name.replace(" ", "_")))
        for name in ("old read", "new read", "old write", "new write")
    }
    builder = MigratorBuilder(reader).read_execution_order(ExecutionOrder.SERIAL)
    return builder.read(made["old read"], made["new read"]).write(made["old write"], made["new write"])


def built(builder: MigratorBuilder) -> Migrator:
    migrator = builder.build()
    assert isinstance(migrator, Migrator), migrator
    return migrator


class Told:
    """A sink that keeps the migration operations, less what changes from call to call."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.operations: list[Item] = []

    def __call__(self, events: list[Item]) -> None:
        self.batches.append([event["kind"] for event in events])
        self.operations += [event for event in events if event["kind"] == "migration_op"]

    def measured(self, key: str) -> Any:
        """The last operation's measurement, None when there is none."""
        for measurement in self.operations[-1]["measurements"]:
            if measurement["key"] == key:
                return measurement.get("values", measurement.get("value"))
        return None


READS = {
    "off": (["old read"], "old"),
    "dualwrite": (["old read"], "old"),
    "shadow": (["old read", "new read"], "old"),
    "live": (["new read", "old read"], "new"),
    "rampdown": (["new read"], "new"),
    "complete": (["new read"], "new"),
}
WRITES = {
    "off": ["old write"],
    "dualwrite": ["old write", "new write"],
    "shadow": ["old write", "new write"],
    "live": ["new write", "old write"],
    "rampdown": ["new write", "old write"],
    "complete": ["new write"],
}


class TestTheMigrator:
    @pytest.mark.parametrize("stage", READS)
    def test_each_stage_reads_what_it_must(self, stage: str) -> None:
        log: Log = []
        told = Told()
        migrator = built(migrator_of(reader_of(stage_flag(stage), events=told), log))
        found = migrator.read("migration", USER, Stage.OFF, {"payload": 1})
        calls, origin = READS[stage]
        assert log == calls
        assert (found.origin.value, found.value) == (origin, (f"{origin} read", {"payload": 1}))
        assert found.is_success()
        assert told.operations[0]["operation"] == "read"
        assert set(told.measured("invoked")) == {call.split()[0] for call in calls}
        assert set(told.measured("latency_ms")) == {call.split()[0] for call in calls}

    @pytest.mark.parametrize("stage", WRITES)
    def test_each_stage_writes_what_it_must(self, stage: str) -> None:
        log: Log = []
        told = Told()
        migrator = built(migrator_of(reader_of(stage_flag(stage), events=told), log))
        found = migrator.write("migration", USER, Stage.OFF, 7)
        assert log == WRITES[stage]
        results = [found.authoritative, found.nonauthoritative]
        assert [each.value for each in results if each is not None] == [(call, 7) for call in WRITES[stage]]
        assert told.operations[0]["operation"] == "write"
        assert set(told.measured("invoked")) == {call.split()[0] for call in WRITES[stage]}

    def test_the_evaluation_and_the_operation_are_one_batch(self) -> None:
        told = Told()
        built(migrator_of(reader_of(stage_flag("live"), events=told), [])).write("migration", USER, Stage.OFF)
        assert told.batches == [["feature", "migration_op"]]

    @pytest.mark.parametrize(
        "failure", [Result.fail("no"), ValueError("no"), OfficialResult.fail("no"), "no result", 7]
    )
    @pytest.mark.parametrize(("stage", "first"), [("shadow", "old"), ("live", "new")])
    def test_the_other_is_not_written_when_the_first_fails(self, stage: str, first: str, failure: Any) -> None:
        log: Log = []
        told = Told()
        reader = reader_of(stage_flag(stage), events=told)
        migrator = built(migrator_of(reader, log, **{f"{first}_write": failure}))
        found = migrator.write("migration", USER, Stage.OFF)
        assert log == [f"{first} write"]
        assert not found.authoritative.is_success()
        assert found.authoritative.error
        assert found.nonauthoritative is None
        assert told.measured("error") == {first: True}

    def test_an_exception_is_handed_on(self) -> None:
        error = ValueError("no")
        migrator = built(migrator_of(reader_of(stage_flag("off")), [], old_read=error))
        found = migrator.read("migration", USER, Stage.OFF)
        assert (found.value, found.exception) == (None, error)
        assert found.error == "the old system raised an exception"

    def test_a_failure_of_the_other_changes_nothing(self) -> None:
        told = Told()
        reader = reader_of(stage_flag("shadow"), events=told)
        migrator = built(migrator_of(reader, [], new_read=ValueError(), new_write=ValueError()))
        assert migrator.read("migration", USER, Stage.OFF).is_success()
        assert told.measured("error") == {"new": True}
        found = migrator.write("migration", USER, Stage.OFF)
        assert found.authoritative.is_success()
        assert found.nonauthoritative is not None
        assert not found.nonauthoritative.is_success()

    def test_the_default_stage_counts_where_the_flag_tells_none(self) -> None:
        log: Log = []
        built(migrator_of(reader_of(), log)).read("migration", USER, Stage.LIVE)
        assert log == READS["live"][0]

    def test_measuring_can_be_switched_off(self) -> None:
        told = Told()
        builder = migrator_of(reader_of(stage_flag("off"), events=told), [], old_read=ValueError())
        built(builder.track_latency(False).track_errors(False)).read("migration", USER, Stage.OFF)
        assert (told.measured("latency_ms"), told.measured("error")) == (None, None)
        assert told.measured("invoked") == {"old": True}

    @pytest.mark.parametrize(("stage", "order"), [("shadow", ("old", "new")), ("live", ("new", "old"))])
    def test_the_value_that_decides_is_compared_first(self, stage: str, order: tuple[str, str]) -> None:
        told = Told()
        compared: list[Any] = []

        def compare(first: Any, second: Any) -> bool:
            compared.append((first, second))
            return False

        reader = reader_of(stage_flag(stage), events=told)
        builder = MigratorBuilder(reader).read(function([], "old"), function([], "new"), compare)
        built(builder.write(function([], "old"), function([], "new"))).read("migration", USER, Stage.OFF)
        assert compared == [((order[0], None), (order[1], None))]
        assert told.measured("consistent") is False

    @pytest.mark.parametrize("failing", ["old_read", "new_read"])
    def test_a_failure_is_not_compared(self, failing: str) -> None:
        told = Told()
        log: Log = []
        builder = migrator_of(reader_of(stage_flag("live"), events=told), log)
        functions = {
            name: function(log, name, ValueError() if name == failing else None) for name in ("old_read", "new_read")
        }
        builder.read(functions["old_read"], functions["new_read"], lambda *_: True)
        built(builder).read("migration", USER, Stage.OFF)
        assert told.measured("consistent") is None

    def test_a_pair_that_is_missing_is_told(self) -> None:
        builder = MigratorBuilder(reader_of())
        assert builder.build() == "read configuration not provided"
        builder.read(function([], "old"), function([], "new"))
        assert builder.build() == "write configuration not provided"

    def test_what_ends_the_process_is_let_through(self) -> None:
        told = Told()
        migrator = built(migrator_of(reader_of(stage_flag("off"), events=told), [], old_read=SystemExit()))
        with pytest.raises(SystemExit):
            migrator.read("migration", USER, Stage.OFF)
        assert told.batches == [["feature"]]


class TestTheOrderOfReads:
    def read(
        self, order: ExecutionOrder | None, stage: str, old: Callable[[Any], Any], new: Callable[[Any], Any]
    ) -> Any:
        builder = MigratorBuilder(reader_of(stage_flag(stage))).read(old, new).write(old, new)
        if order is not None:
            builder.read_execution_order(order)
        return built(builder).read("migration", USER, Stage.OFF)

    def test_serial_reads_the_one_that_decides_first(self) -> None:
        for _ in range(20):
            log: Log = []
            self.read(ExecutionOrder.SERIAL, "live", function(log, "old"), function(log, "new"))
            assert log == ["new", "old"]

    def test_random_reads_either_first_and_the_same_decides(self) -> None:
        seen = set()
        for _ in range(60):
            log: Log = []
            found = self.read(ExecutionOrder.RANDOM, "live", function(log, "old"), function(log, "new"))
            assert found.origin is Origin.NEW
            seen.add(tuple(log))
        assert seen == {("new", "old"), ("old", "new")}

    @pytest.mark.parametrize("order", [None, ExecutionOrder.PARALLEL])
    @pytest.mark.parametrize("stage", ["shadow", "live"])
    def test_parallel_reads_both_at_once_and_is_the_default(self, order: ExecutionOrder | None, stage: str) -> None:
        both = threading.Barrier(2, timeout=10)  # breaks unless both wait at it together

        def wait(payload: Any) -> Result:
            both.wait()
            return Result.success(threading.current_thread())

        before = threading.active_count()
        found = self.read(order, stage, wait, wait)
        assert found.is_success(), found.exception
        assert found.value is threading.current_thread()  # the one that decides runs where the caller is
        assert threading.active_count() == before

    def test_the_other_thread_has_the_callers_context_variables(self) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        variable.set("mine")
        seen: Log = []

        def look(payload: Any) -> Result:
            seen.append(variable.get("none"))
            return Result.success(None)

        self.read(ExecutionOrder.PARALLEL, "live", look, look)
        assert seen == ["mine", "mine"]

    def test_where_there_are_no_threads_reads_are_serial(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refused)
        log: Log = []
        assert self.read(ExecutionOrder.PARALLEL, "live", function(log, "old"), function(log, "new")).is_success()
        assert log == ["new", "old"]

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_is_ended_gives_a_failed_result(self) -> None:
        log: Log = []
        ended = function(log, "old", SystemExit())
        assert self.read(ExecutionOrder.PARALLEL, "live", ended, function(log, "new")).origin is Origin.NEW
        assert sorted(log) == ["new", "old"]

    @pytest.mark.parametrize("stage", ["off", "dualwrite", "rampdown", "complete"])
    def test_a_single_read_starts_no_thread(self, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread was started"))
        assert self.read(None, stage, function([], "old"), function([], "new")).is_success()

    def test_writes_start_no_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread was started"))
        log: Log = []
        built(migrator_of(reader_of(stage_flag("live")), log)).write("migration", USER, Stage.OFF)
        assert log == ["new write", "old write"]

    def test_what_is_no_order_is_passed_over(self) -> None:
        log: Log = []
        builder: Any = migrator_of(reader_of(stage_flag("live")), log)
        built(builder.read_execution_order("random")).read("migration", USER, Stage.OFF)
        assert log == ["new read", "old read"]


class TestResults:
    def test_a_result_is_a_value_or_a_failure(self) -> None:
        good, error = Result.success(0), ValueError()
        bad = Result.fail("no", error)
        assert (good.is_success(), good.value, good.error, good.exception) == (True, 0, None, None)
        assert (bad.is_success(), bad.value, bad.error, bad.exception) == (False, None, "no", error)

    def test_they_cannot_be_changed(self) -> None:
        found = OperationResult(Origin.OLD, Result.success(1))
        for name in ("value", "origin", "error"):
            with pytest.raises(AttributeError):
                setattr(found, name, 2)
        with pytest.raises(AttributeError):
            WriteResult(found).authoritative = found  # type: ignore[misc]


# Beside the official SDK.


class Capturing:
    """Stands in the place of the official SDK's event processor."""

    def __init__(self, config: Config) -> None:
        self._format = EventOutputFormatter(config)
        self.events: list[Item] = []

    def send_event(self, event: Any) -> None:
        self.events.append(self._format.make_output_event(event))

    def flush(self) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.fixture
def official(caplog: pytest.LogCaptureFixture) -> Iterator[tuple[LDClient, Any, list[Item]]]:
    """The official SDK, what puts flags into it, and its events."""
    caplog.set_level(logging.CRITICAL + 1)
    made: list[Capturing] = []

    def capturing(config: Config) -> Capturing:
        made.append(Capturing(config))
        return made[-1]

    store = InMemoryFeatureStore()  # type: ignore[no-untyped-call]
    factory: Any = capturing
    client = LDClient(Config("sdk-key", use_ldd=True, feature_store=store, event_processor_class=factory))
    try:
        yield client, lambda *flags: _fill(store, flags), made[0].events
    finally:
        client.close()  # type: ignore[no-untyped-call]


def _fill(store: Any, flags: Any) -> None:
    store.init({FEATURES: {item["key"]: item for item in flags}, SEGMENTS: {}})


def operations(events: list[Item]) -> list[Item]:
    """The migration operations, less the times, and with measurements in one order."""
    found = []
    for event in events:
        if event["kind"] == "migration_op":
            measurements = {each["key"]: each for each in event["measurements"]}
            if latencies := measurements.get("latency_ms"):
                assert all(value >= 0 for value in latencies["values"].values())
                measurements["latency_ms"] = latencies | {"values": sorted(latencies["values"])}
            found.append({**event, "creationDate": 0, "measurements": measurements})
    return found


class TestBesideTheOfficialSdk:
    VALUES = (*READS, "no stage", 7, None)

    def test_every_migrator_does_the_same(self, official: tuple[LDClient, Any, list[Item]]) -> None:
        client, fill, theirs = official
        ours: list[Item] = []
        cases = itertools.product(
            self.VALUES, ("live", "off"), ("serial", "parallel"), (None, "old", "new"), (None, True), (0, 1)
        )
        compared = 0
        for value, default, order, failing, comparison, ratio in cases:
            item = stage_flag(value, version=5, migration={"checkRatio": ratio}, samplingRatio=1)
            fill(item)
            outcomes = []
            for library in (ldclient.migrations, ldreader_migrations()):
                theirs_now = library is ldclient.migrations
                source: Any = client if theirs_now else reader_of(item, events=ours.extend)
                outcomes.append(outcome(library, source, theirs_now, default, order, failing, comparison))
            assert outcomes[0] == outcomes[1], (value, default, order, failing, comparison)
            assert operations(ours) == operations(theirs), (value, default, order, failing, comparison)
            assert len(operations(ours)) == 2
            del ours[:], theirs[:]
            compared += 1
        assert compared == 9 * 2 * 2 * 3 * 2 * 2

    def test_trackers_fail_alike(self, official: tuple[LDClient, Any, list[Item]]) -> None:
        client, fill, _ = official
        steps = ("operation", "old", "new", "old error", "new error", "old latency", "new latency", "consistent")
        fill(stage_flag("live"))
        texts = set()
        for length in range(5):
            for chosen in itertools.combinations(steps, length):
                for key in ("migration", ""):
                    _, their_tracker = client.migration_variation(
                        key, OfficialContext.create("u"), ldclient.migrations.Stage.OFF
                    )
                    _, our_tracker = reader_of(stage_flag("live")).migration_variation(key, USER, Stage.OFF)
                    said = [
                        walk(library, tracker, chosen)
                        for library, tracker in (
                            (ldclient.migrations, their_tracker),
                            (ldreader_migrations(), our_tracker),
                        )
                    ]
                    assert said[0] == said[1], (chosen, key)
                    texts.add(said[0])
        assert len(texts) == 9


def ldreader_migrations() -> Any:
    import ldreader.migrations

    return ldreader.migrations


def walk(library: Any, tracker: Any, steps: tuple[str, ...]) -> str:
    """What a tracker says after these steps; "" when it built an event."""
    for step in steps:
        origin = library.Origin.OLD if step.startswith("old") else library.Origin.NEW
        if step == "operation":
            tracker.operation(library.Operation.WRITE)
        elif step == "consistent":
            tracker.consistent(lambda: True)
        elif step.endswith("error"):
            tracker.error(origin)
        elif step.endswith("latency"):
            tracker.latency(origin, timedelta(1))
        else:
            tracker.invoked(origin)
    said = tracker.build()
    return said if isinstance(said, str) else ""


def outcome(
    library: Any, source: Any, official: bool, default: str, order: str, failing: str | None, comparison: Any
) -> list[Any]:
    """What one library's migrator returns from a read and a write, and what it called."""
    success = OfficialResult.success if official else Result.success
    context = OfficialContext.create("u") if official else USER
    log: list[Any] = []

    def made(name: str) -> Callable[[Any], Any]:
        def called(payload: Any) -> Any:
            log.append((name, payload))
            if name == failing:
                raise ValueError
            return success((name, payload))

        return called

    builder = library.MigratorBuilder(source).read_execution_order(library.ExecutionOrder.from_str(order))

    def compare(first: Any, second: Any) -> bool:
        log.append((first, second))
        return bool(first == second)

    builder.read(made("old"), made("new"), compare if comparison else None)
    migrator = builder.write(made("old"), made("new")).build()
    stage = library.Stage.from_str(default)
    read = migrator.read("migration", context, stage, 1)
    if order == "parallel":
        log.sort(key=str)
    write = migrator.write("migration", context, stage, 2)
    results = [read, write.authoritative, write.nonauthoritative]
    told = [each and (each.origin.value, each.value, each.is_success(), type(each.exception)) for each in results]
    return [told, log]
