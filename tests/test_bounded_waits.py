"""The time that a request may cost: its deadline, and a store that failed once in it is not waited for again.

Time is a number that the stores here move on, so nothing waits. What bounds a single reply is each requester's own
timeout; the tests of that requester hold it to real sockets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ldreader import ConfigurationError, Context, FlagReader, MemoryRequester, StoreError
from ldreader.requesters.protocol import ItemRef, JsonText

Item = dict[str, Any]

USER = Context.create("user-key")
EXCEPTION = ("default", None, {"kind": "ERROR", "errorKind": "EXCEPTION"})
FALLTHROUGH = ("on", 0, {"kind": "FALLTHROUGH"})


class Clock:
    """The monotonic time, as the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands in for the time that a deadline is measured by."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


class SlowRequester(MemoryRequester):
    """One whose every answer takes a while, and which fails when it is told to, or after so many."""

    def __init__(self, clock: Clock, collections: Mapping[str, Mapping[str, Any]], *, takes: float = 0.0) -> None:
        super().__init__(collections)
        self.clock = clock
        self.takes = takes
        self.failure: Exception | None = None
        self.good_for: float = float("inf")
        self.asked: list[Any] = []

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, JsonText | StoreError]:
        self._answer([key for _, key in refs])
        return super().get_many(refs)

    def get_all(self) -> dict[str, dict[str, JsonText | StoreError]]:
        self._answer("everything")
        return super().get_all()

    def _answer(self, asked: Any) -> None:
        self.asked.append(asked)
        self.clock.now += self.takes
        if len(self.asked) > self.good_for:
            raise StoreError("the store broke down")
        if self.failure is not None:
            raise self.failure


class Metadata:
    def __init__(self, last_up_to_date: int) -> None:
        self.last_up_to_date = last_up_to_date


class SlowMemberships:
    """A store of big segments, slow and failing in the same way."""

    def __init__(self, clock: Clock, *, takes: float = 0.0) -> None:
        self.clock = clock
        self.takes = takes
        self.failure: Exception | None = None
        self.asked: list[str] = []

    def get_metadata(self) -> Metadata:
        self._answer("metadata")
        return Metadata(int(time.time() * 1000))

    def get_membership(self, context_hash: str) -> dict[str, bool] | None:
        self._answer("membership")
        return {"big.g1": True}

    def stop(self) -> None:
        pass

    def _answer(self, asked: str) -> None:
        self.asked.append(asked)
        self.clock.now += self.takes
        if self.failure is not None:
            raise self.failure


class SlowBoth(SlowRequester, SlowMemberships):
    """Flags and big segments in one store."""

    def _answer(self, asked: Any) -> None:
        SlowRequester._answer(self, asked)


def flag(key: str, *needs: str, **fields: Any) -> Item:
    """A flag that falls through to "on" where those it needs do."""
    return {
        "key": key,
        "version": 1,
        "on": True,
        "variations": ["on", "off", "in"],
        "offVariation": 1,
        "fallthrough": {"variation": 0},
        "prerequisites": [{"key": need, "variation": 0} for need in needs],
    } | fields


def for_members(key: str, segment: str) -> Item:
    """A flag that serves "in" to those in a segment."""
    clause = {"attribute": "", "op": "segmentMatch", "values": [segment]}
    return flag(key, rules=[{"variation": 2, "clauses": [clause]}])


def big(key: str = "big", **fields: Any) -> Item:
    return {"key": key, "version": 1, "unbounded": True, "generation": 1} | fields


def store(*flags: Item, segments: Sequence[Item] = ()) -> dict[str, dict[str, Any]]:
    return {"features": {item["key"]: item for item in flags}, "segments": {item["key"]: item for item in segments}}


def chain(depth: int) -> list[Item]:
    """Flags 0 to `depth`, each of which needs the next."""
    return [flag(str(level), str(level + 1)) for level in range(depth)] + [flag(str(depth))]


def result(detail: Any) -> tuple[Any, int | None, Item]:
    return detail.value, detail.variation_index, detail.reason


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "ldreader"]


class TestTheDeadline:
    """After it no store is asked any more."""

    def test_a_flag_gives_the_default_and_the_store_is_left_alone(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        requester = SlowRequester(clock, store(flag("a"), flag("b")))
        with FlagReader(requester).request(USER, timeout=0.25) as request:
            clock.now += 0.25
            assert result(request.variation_detail("a", "default")) == EXCEPTION
            assert result(request.variation_detail("b", "default")) == EXCEPTION
        assert requester.asked == []
        assert lines(caplog) == ["flag 'a' gives the default: the 0.25 s that the request has are over"]

    def test_just_before_it_the_store_is_asked(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(flag("a")))
        with FlagReader(requester).request(USER, timeout=0.25) as request:
            clock.now += 0.249
            assert result(request.variation_detail("a", "default")) == FALLTHROUGH

    def test_an_answer_that_comes_late_is_used(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(flag("a"), flag("b")), takes=5.0)
        with FlagReader(requester).request(USER, timeout=1) as request:
            assert result(request.variation_detail("a", "default")) == FALLTHROUGH
            assert result(request.variation_detail("b", "default")) == EXCEPTION
            assert result(request.variation_detail("a", "default")) == FALLTHROUGH
        assert requester.asked == [["a"]]

    def test_it_is_measured_from_the_start_of_the_request_however_often_it_asks(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(*map(flag, "abcde")), takes=0.3)
        with FlagReader(requester).request(USER, timeout=1) as request:
            answers = [request.variation(key, "default") for key in "abcde"]
        assert answers == ["on", "on", "on", "on", "default"]
        assert clock.now == pytest.approx(1001.2)

    def test_references_that_go_deep_stop_at_it(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        requester = SlowRequester(clock, store(*chain(30)), takes=0.1)
        with FlagReader(requester).request(USER, timeout=0.95) as request:
            assert result(request.variation_detail("0", "default")) == EXCEPTION
        assert requester.asked == [[str(level)] for level in range(10)]
        assert len(lines(caplog)) == 1

    def test_references_that_go_deep_are_followed_without_one(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(*chain(30)), takes=0.1)
        assert result(FlagReader(requester).variation_detail("0", USER, "default")) == FALLTHROUGH
        assert len(requester.asked) == 31

    def test_a_segment_that_would_come_too_late_gives_the_default(self, clock: Clock) -> None:
        flags = store(for_members("a", "small"), segments=[{"key": "small", "version": 1, "included": ["user-key"]}])
        requester = SlowRequester(clock, flags, takes=1)
        with FlagReader(requester).request(USER, timeout=1) as request:
            assert result(request.variation_detail("a", "default")) == EXCEPTION
        assert requester.asked == [["a"]]

    def test_the_state_of_all_flags_is_invalid(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        requester = SlowRequester(clock, store(flag("a")))
        with FlagReader(requester).request(USER, timeout=1) as request:
            clock.now += 1
            assert not request.all_flags_state().valid
            assert not request.all_flags_state().valid
        assert requester.asked == []
        assert lines(caplog) == ["no state of all flags: the 1 s that the request has are over"]

    def test_segments_that_came_with_the_state_of_all_flags_are_there(self, clock: Clock) -> None:
        flags = store(for_members("a", "small"), segments=[{"key": "small", "version": 1, "included": ["user-key"]}])
        requester = SlowRequester(clock, flags, takes=5)
        with FlagReader(requester).request(USER, timeout=1) as request:
            assert request.all_flags_state().to_values_map() == {"a": "in"}

    def test_the_readers_counts_for_each_request_anew(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(*chain(3)), takes=1)
        reader = FlagReader(requester, timeout=2.5)
        for _ in range(2):
            assert result(reader.variation_detail("0", USER, "default")) == EXCEPTION
            assert result(reader.variation_detail("1", USER, "default")) == FALLTHROUGH
            assert reader.all_flags_state(USER).valid

    def test_a_request_may_have_another_one_than_the_reader(self, clock: Clock) -> None:
        reader = FlagReader(SlowRequester(clock, store(*chain(3)), takes=1), timeout=2.5)
        assert result(reader.request(USER, timeout=10).variation_detail("0", "default")) == FALLTHROUGH
        assert result(reader.request(USER, timeout=0.5).variation_detail("2", "default")) == EXCEPTION

    def test_a_request_that_has_no_time_left_asks_nothing(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(flag("a")))
        for left in (0, -3.5):
            assert (
                result(FlagReader(requester).request(USER, timeout=left).variation_detail("a", "default")) == EXCEPTION
            )
        assert requester.asked == []

    def test_a_strict_reader_raises(self, clock: Clock) -> None:
        reader = FlagReader(SlowRequester(clock, store(flag("a"))), strict=True)
        with pytest.raises(StoreError, match=r"the 0 s that the request has are over"):
            reader.request(USER, timeout=0).variation("a", "default")

    def test_an_offline_reader_has_nothing_to_wait_for(self, clock: Clock) -> None:
        reader = FlagReader(SlowRequester(clock, store(flag("a"))), offline=True, timeout=1)
        with reader.request(USER) as request:
            clock.now += 2
            assert request.variation_detail("a", "default").reason["errorKind"] == "CLIENT_NOT_READY"

    @pytest.mark.parametrize("wrong", [0, -1, "soon", True, float("nan")])
    def test_a_reader_is_not_made_with_one_that_makes_no_sense(self, clock: Clock, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
            FlagReader(MemoryRequester({}), timeout=wrong)


class TestTheDeadlineOfBigSegments:
    def test_memberships_are_not_asked_for_after_it(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        requester = SlowRequester(clock, store(for_members("a", "big"), segments=[big()]), takes=1)
        memberships = SlowMemberships(clock)
        with FlagReader(requester, big_segments=memberships).request(USER, timeout=2) as request:
            for _ in range(2):
                detail = request.variation_detail("a", "default")
                assert result(detail) == ("on", 0, {"kind": "FALLTHROUGH", "bigSegmentsStatus": "STORE_ERROR"})
        assert memberships.asked == []
        assert lines(caplog) == ["the store of big segments is not asked: the 2 s that the request has are over"]

    def test_rules_decide_instead(self, clock: Clock) -> None:
        rules = [{"clauses": [{"attribute": "key", "op": "in", "values": ["user-key"]}]}]
        requester = SlowRequester(clock, store(for_members("a", "big"), segments=[big(rules=rules)]), takes=1)
        with FlagReader(requester, big_segments=SlowMemberships(clock)).request(USER, timeout=2) as request:
            assert request.variation("a", "default") == "in"

    def test_a_slow_store_of_big_segments_leaves_no_time_for_flags(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(for_members("a", "big"), flag("b"), segments=[big()]))
        memberships = SlowMemberships(clock, takes=3)
        with FlagReader(requester, big_segments=memberships).request(USER, timeout=2) as request:
            assert request.variation("a", "default") == "in"
            assert result(request.variation_detail("b", "default")) == EXCEPTION

    def test_without_a_store_of_them_the_deadline_changes_nothing(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        requester = SlowRequester(clock, store(for_members("a", "big"), segments=[big()]), takes=1)
        with FlagReader(requester).request(USER, timeout=2) as request:
            assert request.variation_detail("a", "default").reason["bigSegmentsStatus"] == "NOT_CONFIGURED"
        assert lines(caplog) == []


class TestAStoreThatFailed:
    """It is not waited for again in the same request, and is in the next."""

    FAILURES = (StoreError("the store did not answer"), OSError("broken pipe"), KeyError("user-key"))

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_by_any_flag(self, clock: Clock, caplog: pytest.LogCaptureFixture, failure: Exception) -> None:
        requester = SlowRequester(clock, store(flag("a"), flag("b")), takes=2)
        requester.failure = failure
        reader = FlagReader(requester)
        with reader.request(USER) as request:
            for key in ("a", "b", "a", "nowhere"):
                assert result(request.variation_detail(key, "default")) == EXCEPTION
        assert requester.asked == [["a"]]
        assert clock.now == 1002
        (line,) = lines(caplog)
        assert "user-key" not in line
        requester.failure = None
        assert result(reader.variation_detail("b", USER, "default")) == FALLTHROUGH

    def test_by_the_state_of_all_flags(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        requester = SlowRequester(clock, store(flag("a")))
        requester.failure = StoreError("the store did not answer")
        with FlagReader(requester).request(USER) as request:
            assert request.variation("a", "default") == "default"
            assert not request.all_flags_state().valid
        assert requester.asked == [["a"]]
        assert len(lines(caplog)) == 1

    def test_by_a_flag_after_the_state_of_all_flags(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        requester = SlowRequester(clock, store(flag("a")))
        requester.failure = StoreError("the store did not answer")
        with FlagReader(requester).request(USER) as request:
            assert not request.all_flags_state().valid
            assert not request.all_flags_state().valid
            assert result(request.variation_detail("a", "default")) == EXCEPTION
        assert requester.asked == ["everything"]
        assert len(lines(caplog)) == 1

    def test_what_came_before_still_counts(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(flag("a"), flag("b"), flag("c", "a")))
        with FlagReader(requester).request(USER) as request:
            assert request.variation("c", "default") == "on"
            requester.failure = StoreError("the store did not answer")
            assert request.variation("b", "default") == "default"
            requester.failure = None
            for key in ("a", "c"):
                assert result(request.variation_detail(key, "default")) == FALLTHROUGH
            assert result(request.variation_detail("b", "default")) == EXCEPTION
        assert requester.asked == [["c"], ["a"], ["b"]]

    def test_an_item_that_cannot_be_had_is_no_failure_of_the_store(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(flag("a"), {"key": "bad"}))
        requester._collections["features"]["bad"] = StoreError("refused")  # type: ignore[index]
        with FlagReader(requester).request(USER) as request:
            assert result(request.variation_detail("bad", "default")) == EXCEPTION
            assert result(request.variation_detail("a", "default")) == FALLTHROUGH

    def test_a_request_that_was_closed_asks_again(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(flag("a")))
        requester.failure = StoreError("the store did not answer")
        request = FlagReader(requester).request(USER)
        assert request.variation("a", "default") == "default"
        request.close()
        requester.failure = None
        assert request.variation("a", "default") == "on"

    def test_by_memberships_where_it_is_the_same_store(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        # The third round asks for a flag and for a membership; the store breaks down at the flag.
        flags = (
            for_members("a", "big") | {"prerequisites": flag("a", "b")["prerequisites"]},
            flag("b", "c"),
            flag("c"),
        )
        both = SlowBoth(clock, store(*flags, segments=[big()]))
        both.good_for = 2
        with FlagReader(both).request(USER) as request:
            assert result(request.variation_detail("a", "default")) == EXCEPTION
        assert both.asked == [["a"], ["b", "big"], ["c"]]
        assert len(lines(caplog)) == 1

    def test_of_big_segments_by_memberships(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        segments = [big(), big("of-org", unboundedContextKind="org")]
        requester = SlowRequester(clock, store(for_members("a", "big"), for_members("b", "of-org"), segments=segments))
        memberships = SlowMemberships(clock, takes=2)
        memberships.failure = TimeoutError("2 s")
        reader = FlagReader(requester, big_segments=memberships)
        with reader.request(Context.create_multi(USER, Context.create("acme", "org"))) as request:
            for key in ("a", "b", "a"):
                assert request.variation_detail(key, "default").reason["bigSegmentsStatus"] == "STORE_ERROR"
        assert memberships.asked == ["membership"]
        assert clock.now == 1002
        assert len(lines(caplog)) == 1

    def test_of_big_segments_is_no_failure_of_the_flags(self, clock: Clock) -> None:
        requester = SlowRequester(clock, store(for_members("a", "big"), flag("b"), segments=[big()]))
        memberships = SlowMemberships(clock)
        memberships.failure = TimeoutError("2 s")
        with FlagReader(requester, big_segments=memberships).request(USER) as request:
            assert request.variation("a", "default") == "on"
            assert result(request.variation_detail("b", "default")) == FALLTHROUGH


class OneStore(MemoryRequester):
    """Flags and big segments in one store, which fails when it is asked for a membership."""

    def __init__(self, collections: dict[str, dict[str, Any]], answered: bool) -> None:
        super().__init__(collections)
        self.asked = 0
        self.answered = answered

    def get_many(self, refs: Any) -> Any:
        self.asked += 1
        return super().get_many(refs)

    def get_metadata(self) -> None:
        raise AssertionError("not reached")

    def get_membership(self, context_hash: str) -> None:
        error = StoreError("no membership today")
        error.answered = self.answered
        raise error

    def stop(self) -> None:
        self.close()


@pytest.mark.parametrize("answered", [False, True], ids=["did not answer", "refused"])
def test_a_store_that_did_not_answer_for_a_membership_is_not_asked_for_a_flag(answered: bool) -> None:
    clause = {"op": "segmentMatch", "values": ["big"]}
    served = {"on": True, "variations": [1], "fallthrough": {"variation": 0}}
    store = OneStore(
        {
            "features": {"a": {**served, "rules": [{"clauses": [clause], "variation": 0}]}, "b": served},
            "segments": {"big": {"unbounded": True, "generation": 1}},
        },
        answered,
    )
    with FlagReader(store).request({"kind": "user", "key": "ada"}) as flags:
        assert flags.variation_detail("a", 0).reason["bigSegmentsStatus"] == "STORE_ERROR"
        asked = store.asked
        assert flags.variation("b", 0) == (1 if answered else 0)
        assert store.asked == asked + answered


@pytest.mark.parametrize("timeout", ["soon", float("nan"), [1]])
def test_a_timeout_of_a_request_must_be_a_number(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="number of seconds"):
        FlagReader(MemoryRequester({})).request({"kind": "user", "key": "ada"}, timeout=timeout)
