"""A request: what it fetches and when, what it remembers, and what it logs."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ldreader import FlagReader, MemoryRequester, StoreError
from tests import worlds
from tests.flags import (
    FALL,
    MATCH,
    USER,
    CountingRequester,
    Item,
    ItemRef,
    Text,
    everyone,
    flag,
    in_segment,
    malformed,
    needs,
    reader_of,
    result,
    rollout,
    rule,
    segment,
    store,
)

UNREACHABLE = ("default", None, {"kind": "ERROR", "errorKind": "EXCEPTION"})
NOT_FOUND = ("default", None, {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"})


def counting(*flags: Item, segments: Sequence[Item] = ()) -> tuple[CountingRequester, FlagReader]:
    requester = CountingRequester(store(*flags, segments=segments))
    return requester, FlagReader(requester)


def features(*keys: str) -> list[ItemRef]:
    return [("features", key) for key in keys]


class TestRounds:
    """The number of round trips follows the depth of the references and not their count."""

    def test_a_flag_alone_takes_one(self) -> None:
        requester, reader = counting(flag())
        assert reader.variation("flag", USER, None) == "fall"
        assert requester.rounds == [features("flag")]

    @pytest.mark.parametrize("depth", [1, 2, 5, 20])
    def test_a_chain_takes_one_for_each_level(self, depth: int) -> None:
        chain = [flag(str(level), prerequisites=[needs(str(level + 1))]) for level in range(depth)]
        requester, reader = counting(*chain, flag(str(depth)))
        assert reader.variation("0", USER, None) == "fall"
        assert requester.rounds == [features(str(level)) for level in range(depth + 1)]

    def test_both_kinds_on_one_level_come_in_one(self) -> None:
        root = flag(prerequisites=[needs("a"), needs("b")], rules=[rule(in_segment("s", "t"))])
        requester, reader = counting(root, flag("a"), flag("b"), segments=[segment("s"), everyone("t")])
        assert reader.variation("flag", USER, None) == "match"
        assert requester.rounds == [features("flag"), [*features("a", "b"), ("segments", "s"), ("segments", "t")]]

    def test_a_failed_prerequisite_is_found_with_one_round_for_all(self) -> None:
        root = flag(prerequisites=[needs(str(number), MATCH) for number in range(30)])
        requester, reader = counting(root, *(flag(str(number)) for number in range(30)))
        assert reader.variation("flag", USER, None) == "off"
        assert len(requester.rounds) == 2

    def test_nothing_is_asked_that_cannot_matter(self) -> None:
        root = flag(on=False, prerequisites=[needs("a")], rules=[rule(in_segment("s"))])
        requester, reader = counting(root, flag("a"), segments=[everyone("s")])
        assert reader.variation("flag", USER, None) == "off"
        assert requester.rounds == [features("flag")]


class TestMemory:
    """Within a request each item is fetched once at most; afterwards nothing is left."""

    def test_each_item_is_fetched_once_missing_ones_included(self) -> None:
        flags = [
            flag("a", prerequisites=[needs("gone")], rules=[rule(in_segment("s"))]),
            flag("b", prerequisites=[needs("p")], rules=[rule(in_segment("s", "gone"))]),
            flag("p", deleted=True),
        ]
        requester, reader = counting(*flags, segments=[everyone("s")])
        with reader.request(USER) as request:
            for _ in range(3):
                for key in ("a", "b", "p", "gone", "s"):
                    request.variation_detail(key, None)
        asked = [ref for refs in requester.rounds for ref in refs]
        assert len(asked) == len(set(asked))
        assert ("features", "gone") in asked

    def test_an_item_that_cannot_be_read_is_fetched_once_too(self) -> None:
        requester = CountingRequester({"features": {"bad": "not JSON", "big": StoreError("too big")}})
        with FlagReader(requester).request(USER) as request:
            for _ in range(2):
                assert result(request.variation_detail("bad", "default")) == malformed("default")
                assert result(request.variation_detail("big", "default")) == UNREACHABLE
        assert requester.rounds == [features("bad"), features("big")]

    def test_a_change_in_the_store_shows_in_the_next_request_and_not_before(self) -> None:
        collections = store(flag())
        reader = FlagReader(MemoryRequester(collections))
        with reader.request(USER) as first:
            assert (first.variation("flag", None), first.variation("new", None)) == ("fall", None)
            collections["features"] |= store(flag(on=False), flag("new"))["features"]
            assert (first.variation("flag", None), first.variation("new", None)) == ("fall", None)
            with reader.request(USER) as second:
                assert (second.variation("flag", None), second.variation("new", None)) == ("off", "fall")

    def test_each_evaluation_of_a_reader_is_a_request_of_its_own(self) -> None:
        requester, reader = counting(flag())
        assert [reader.variation("flag", USER, None) for _ in range(2)] == ["fall", "fall"]
        assert requester.rounds == [features("flag")] * 2

    def test_everything_is_forgotten_when_the_request_ends(self) -> None:
        requester, reader = counting(flag())
        with reader.request(USER) as request:
            request.variation("flag", None)
            request.all_flags_state()
        assert request.variation("flag", None) == "fall"
        assert requester.rounds == [features("flag")] * 2
        request.all_flags_state()
        assert requester.reads_of_everything == 2

    def test_a_failure_is_forgotten_too(self) -> None:
        requester = Failing(store(flag()))
        request = FlagReader(requester).request(USER)
        assert result(request.variation_detail("flag", "default")) == UNREACHABLE
        request.close()
        requester.failure = None
        assert request.variation("flag", "default") == "fall"

    def test_a_caller_may_change_what_it_got(self) -> None:
        value = {"a": [{"b": 1}], "c": []}
        with reader_of(flag(variations=[value, value])).request(USER) as request:
            got = request.variation_detail("flag", None)
            got.value["a"][0]["b"] = 2
            got.value["c"].append(3)
            got.reason["kind"] = "changed"
            assert result(request.variation_detail("flag", None)) == (value, FALL, {"kind": "FALLTHROUGH"})

    def test_a_default_comes_back_as_it_is(self) -> None:
        default = object()
        assert reader_of().variation("none", USER, default) is default


class TestAllFlagsState:
    """Agrees with what the request has answered already, and what follows agrees with it."""

    def test_what_was_evaluated_before_stays_as_it_was(self) -> None:
        collections = store(flag("a"), flag("b"), flag("gone later"))
        requester = CountingRequester(collections)
        with FlagReader(requester).request(USER) as request:
            for key in ("a", "new", "gone later"):
                request.variation(key, None)
            collections["features"] |= store(flag("a", on=False), flag("b", on=False), flag("new"))["features"]
            del collections["features"]["gone later"]
            state = request.all_flags_state()
        assert state.to_values_map() == {"a": "fall", "b": "off", "gone later": "fall"}
        assert "new" not in state.to_values_map()

    def test_nothing_is_fetched_after_it(self) -> None:
        requester, reader = counting(flag(rules=[rule(in_segment("s"))]), segments=[everyone("s")])
        with reader.request(USER) as request:
            first = request.all_flags_state().to_json_dict()
            assert request.variation("flag", None) == "match"
            assert request.variation("none", "default") == "default"
            assert request.all_flags_state(with_reasons=True).get_flag_reason("flag") is not None
            assert request.all_flags_state().to_json_dict() == first
        assert (requester.rounds, requester.reads_of_everything) == ([], 1)

    def test_a_store_that_failed_is_not_asked_again(self) -> None:
        for first, second in (("get_many", "get_all"), ("get_all", "get_many")):
            requester = Failing(store(flag()))
            with FlagReader(requester).request(USER) as request:
                for method in (first, second, first):
                    if method == "get_all":
                        assert not request.all_flags_state().valid
                    else:
                        assert result(request.variation_detail("flag", "default")) == UNREACHABLE
            assert requester.calls == [first]


class Failing(CountingRequester):
    """Fails each read, unless `failure` is None."""

    def __init__(self, collections: Mapping[str, Mapping[str, Any]], failure: Exception | None = None) -> None:
        super().__init__(collections)
        self.failure: Exception | None = failure or StoreError("redis://localhost did not answer")
        self.calls: list[str] = []

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, Text]:
        self.calls.append("get_many")
        if self.failure is not None:
            raise self.failure
        return super().get_many(refs)

    def get_all(self) -> dict[str, dict[str, Text]]:
        self.calls.append("get_all")
        if self.failure is not None:
            raise self.failure
        return super().get_all()


class FailingFrom(CountingRequester):
    """Fails from the given round on."""

    def __init__(self, collections: Mapping[str, Mapping[str, Any]], round_number: int) -> None:
        super().__init__(collections)
        self._round_number = round_number

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, Text]:
        found = super().get_many(refs)
        if len(self.rounds) >= self._round_number:
            raise StoreError("down")
        return found


SECRETIVE = {"kind": "user", "key": "secret-key", "email": "secret@example.com", "name": "Secret"}


class TestAStoreThatFails:
    @pytest.mark.parametrize(
        "failure",
        [
            StoreError("the store did not answer"),
            RuntimeError("secret@example.com"),
            KeyError("secret-key"),
            OSError("secret"),
        ],
    )
    def test_gives_each_flag_its_default_and_is_asked_and_logged_once(
        self, failure: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        requester = Failing(store(flag("a"), flag("b")), failure)
        with FlagReader(requester).request(SECRETIVE) as request:
            for key in ("a", "b", "a", "c"):
                assert result(request.variation_detail(key, "default")) == UNREACHABLE
            assert not request.all_flags_state().valid
        assert requester.calls == ["get_many"]
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "secret" not in caplog.text.lower()

    def test_is_logged_for_each_request(self, caplog: pytest.LogCaptureFixture) -> None:
        reader = FlagReader(Failing({}))
        for _ in range(3):
            reader.variation("flag", USER, None)
        assert len(caplog.records) == 3

    @pytest.mark.parametrize(
        "root", [flag(prerequisites=[needs("p")]), flag(rules=[rule(in_segment("s"))])], ids=["prerequisite", "segment"]
    )
    def test_fails_a_flag_that_needs_more_than_was_fetched(self, root: Item) -> None:
        requester = FailingFrom(store(root, flag("p"), segments=[everyone("s")]), 2)
        with FlagReader(requester).request(USER) as request:
            assert result(request.variation_detail("flag", "default")) == UNREACHABLE

    def test_does_no_harm_to_what_was_fetched_before(self) -> None:
        requester = FailingFrom(store(flag("a"), flag("b")), 2)
        with FlagReader(requester).request(USER) as request:
            assert request.variation("a", "default") == "fall"
            assert result(request.variation_detail("b", "default")) == UNREACHABLE
            assert request.variation("a", "default") == "fall"
            assert not request.all_flags_state().valid

    @pytest.mark.parametrize("kind", ["features", "segments"])
    def test_at_one_item_spoils_only_those_who_need_it(self, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        needing = {"prerequisites": [needs("bad")]} if kind == "features" else {"rules": [rule(in_segment("bad"))]}
        collections = store(flag("good"), flag("needs it", **needing), flag("needs it not", on=False, **needing))
        collections[kind]["bad"] = StoreError("the item is too big")
        with FlagReader(MemoryRequester(collections)).request(USER) as request:
            assert request.variation("good", "default") == "fall"
            assert request.variation("needs it not", "default") == "off"
            assert result(request.variation_detail("needs it", "default")) == UNREACHABLE
            assert request.variation("good", "default") == "fall"
        assert [record.getMessage() for record in caplog.records] == [
            "flag 'needs it' gives the default: the item is too big"
        ]


class Answering:
    """A requester of a third party that answers whatever it is told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls = 0

    def get_many(self, refs: Sequence[ItemRef]) -> Any:
        self.calls += 1
        return self.answer

    def get_all(self) -> Any:
        self.calls += 1
        return self.answer

    def close(self) -> None:
        """Nothing to close."""


BROKEN: tuple[Any, ...] = (
    None,
    7,
    "text",
    [],
    [("features", "flag")],
    object(),
    {"features": None},
    {"features": [], "segments": []},
    {"features": {"flag": "{}"}},
    {"features": {7: "{}", None: "{}"}, "segments": {}},
    {"features": {"flag": 7, "a": None, "b": object()}, "segments": {"s": []}},
    {("features", "flag"): 7},
    {("features", "flag"): {"on": True}},
    {("features", "flag"): ["{}"]},
    {("features", "flag"): ValueError("not a StoreError")},
)


class TestABrokenRequester:
    """Anyone can write one; the application never hears of it but by the reason."""

    @pytest.mark.parametrize("answer", BROKEN, ids=repr)
    def test_does_not_raise_into_the_application(self, answer: Any) -> None:
        reader = FlagReader(Answering(answer))
        with reader.request(USER) as request:
            detail = request.variation_detail("flag", "default")
            assert detail.value == "default"
            assert detail.reason["kind"] == "ERROR"
            json.loads(request.all_flags_state().to_json_string())
        json.loads(reader.all_flags_state(USER, True, True, True).to_json_string())

    @pytest.mark.parametrize("answer", [None, 7, "text", object()], ids=str)
    def test_that_answers_no_mapping_is_a_store_that_failed_once(
        self, answer: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        requester = Answering(answer)
        with FlagReader(requester).request(USER) as request:
            for key in ("a", "b"):
                assert result(request.variation_detail(key, "default")) == UNREACHABLE
        assert requester.calls == 1
        assert len(caplog.records) == 1

    def test_may_answer_more_than_it_was_asked(self) -> None:
        answer = {("features", key): json.dumps(flag(key)) for key in ("flag", "more")}
        requester = Answering(answer)
        with FlagReader(requester).request(USER) as request:
            assert request.variation("flag", None) == "fall"

    def test_gets_no_reference_twice_and_none_that_no_store_can_hold(self) -> None:
        root = flag(prerequisites=[needs("\ud800"), needs("p")], rules=[rule(in_segment("\udfff", "s", "s"))])
        requester, reader = counting(root, flag("p"))
        assert reader.variation_detail("flag", USER, None).reason["prerequisiteKey"] == "\ud800"
        assert requester.rounds == [features("flag"), [*features("p"), ("segments", "s")]]


class TestTheLog:
    def messages(self, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    def test_is_silent_on_a_good_day(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        with reader_of(flag(), flag("no value", on=False, offVariation=None)).request(USER) as request:
            request.variation("flag", None)
            request.variation("no value", None)
            request.all_flags_state()
        assert self.messages(caplog) == []

    def test_tells_mistakes_of_the_application_from_those_of_the_store(self, caplog: pytest.LogCaptureFixture) -> None:
        collections: Item = store(flag("number", variations=[1, 2]), flag("bad", fallthrough={"variation": 9}))
        collections["features"]["worse"] = "not JSON"
        with FlagReader(MemoryRequester(collections)).request(USER) as request:
            for key in ("none", "number", "bad", "worse"):
                request.bool_variation(key, False)
        assert [(level, message.split(":")[0]) for level, message in self.messages(caplog)] == [
            ("WARNING", "flag 'none' gives the default"),
            ("WARNING", "flag 'number' gives the default"),
            ("ERROR", "flag 'bad' gives the default"),
            ("ERROR", "flag 'worse' gives the default"),
        ]

    def test_says_each_thing_once_a_request(self, caplog: pytest.LogCaptureFixture) -> None:
        reader = reader_of(flag("bad", fallthrough={}))
        with reader.request(USER) as request:
            for _ in range(3):
                for key in ("none", "other", "bad"):
                    request.variation(key, None)
        assert len(caplog.records) == 3
        reader.variation("none", USER, None)
        assert len(caplog.records) == 4

    def test_never_shows_the_context(self, caplog: pytest.LogCaptureFixture) -> None:
        bad = flag("bad", rules=[rule({"attribute": "email", "op": "in", "values": 7})])
        wrong = flag("wrong", fallthrough=rollout((9, 1), bucketBy="email"))
        reader = reader_of(bad, wrong)
        for context in (SECRETIVE, SECRETIVE | {"key": 7}, SECRETIVE | {"anonymous": "secret"}, "secret", ["secret"]):
            for key in ("bad", "wrong", "none"):
                reader.int_variation(key, context, 0)  # type: ignore[arg-type]
            reader.all_flags_state(context)  # type: ignore[arg-type]
        assert len(caplog.records) > 10
        assert "secret" not in caplog.text.lower()


class TestFetchingInRounds:
    """Gives the same answers as having all at hand."""

    SEEDS = range(12)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_in_random_worlds(self, seed: int, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL + 1, "ldreader")
        flags, segments = worlds.world(f"rounds {seed}")
        requester = CountingRequester({"features": flags, "segments": segments})
        reader = FlagReader(requester)
        fetched_in_rounds = 0
        for context in worlds.contexts(f"rounds {seed}", 20):
            with reader.request(context) as at_hand:
                at_hand.all_flags_state()
                for key in flags:
                    requester.rounds.clear()
                    stepwise = result(reader.variation_detail(key, context, "default"))
                    assert stepwise == result(at_hand.variation_detail(key, "default")), (key, context)
                    asked = [ref for refs in requester.rounds for ref in refs]
                    assert len(asked) == len(set(asked))
                    fetched_in_rounds += len(requester.rounds) > 2
        assert fetched_in_rounds > 20

    @pytest.mark.parametrize("seed", SEEDS)
    def test_in_random_worlds_with_bad_items(self, seed: int, caplog: pytest.LogCaptureFixture) -> None:
        """A bad item spoils only those who touch it, so each order of fetching must agree."""
        caplog.set_level(logging.CRITICAL + 1, "ldreader")
        flags, segments = worlds.world(f"bad {seed}")
        collections: dict[str, dict[str, Any]] = {"features": dict(flags), "segments": dict(segments)}
        for collection in collections.values():
            for number, key in enumerate(sorted(collection)):
                if number % 5 == 0:
                    bad = (StoreError(f"{key} is too big"), "not JSON", {"on": True, "rules": 7, "unbounded": 7})
                    collection[key] = bad[number // 5 % 3]
        reader = FlagReader(MemoryRequester(collections))
        kinds = set()
        for context in worlds.contexts(f"bad {seed}", 10):
            with reader.request(context) as at_hand, reader.request(context) as backwards:
                at_hand.all_flags_state()
                answers = {key: result(at_hand.variation_detail(key, "default")) for key in flags}
                for key in reversed(flags):
                    assert result(backwards.variation_detail(key, "default")) == answers[key], (key, context)
            kinds |= {answer[2].get("errorKind") for answer in answers.values()}
        assert {"EXCEPTION", "MALFORMED_FLAG", None} <= kinds


def test_the_store_and_the_context_are_left_as_they_are() -> None:
    collections = {"features": {"flag": flag(rules=[rule(in_segment("s"))])}, "segments": {"s": everyone("s")}}
    context = {"kind": "user", "key": "u", "address": {"city": "x"}}
    before = copy.deepcopy((collections, context))
    with FlagReader(MemoryRequester(collections)).request(context) as request:
        request.variation("flag", None)
        request.all_flags_state()
    assert (collections, context) == before
