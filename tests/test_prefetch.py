"""Many flags in few round trips: prefetching, reading ahead, and what a request says that it has cost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ldreader import Context, FlagReader, StoreError
from ldreader.read_ahead import BYTES_PER_FLAG, FLAGS, IDLE, KEY_LIMIT, REFS_PER_FLAG, ReadAhead
from tests import worlds
from tests.flags import (
    USER,
    CountingRequester,
    Item,
    ItemRef,
    Text,
    clause,
    everyone,
    flag,
    in_segment,
    needs,
    result,
    rule,
    segment,
    store,
)

UNREACHABLE = ("default", None, {"kind": "ERROR", "errorKind": "EXCEPTION"})
FALLTHROUGH = ("fall", 1, {"kind": "FALLTHROUGH"})


def features(*keys: str) -> list[ItemRef]:
    return [("features", key) for key in keys]


def segments(*keys: str) -> list[ItemRef]:
    return [("segments", key) for key in keys]


class Guessing(CountingRequester):
    """A requester that gains by reading ahead, and has troubles of the test's making."""

    guess_limit = 65536

    def __init__(self, collections: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(collections)
        self.most: int | None = None
        """More items at once make the whole read fail."""
        self.spoilt: set[ItemRef] = set()
        """What fails in its place when it is asked for with others."""
        self.fails_alone = False
        """A read of one item fails."""
        self.refusal = StoreError("too much at once")
        self.refusal.answered = True

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, Text]:
        found = super().get_many(refs)
        if (self.most is not None and len(refs) > self.most) or (self.fails_alone and len(refs) == 1):
            raise self.refusal
        if len(refs) > 1:
            found.update({ref: StoreError("throttled") for ref in refs if ref in self.spoilt})
        return found

    def put(self, item: Item, kind: str = "features") -> None:
        self.held(kind)[item["key"]] = json.dumps(item)

    def remove(self, kind: str, key: str) -> None:
        del self.held(kind)[key]

    def held(self, kind: str) -> dict[str, Any]:
        """What it holds of a kind, to be changed."""
        held: Any = self._collections[kind]
        assert isinstance(held, dict)
        return held


def guessing(*flags: Item, segments: Sequence[Item] = (), **options: Any) -> tuple[Guessing, FlagReader]:
    requester = Guessing(store(*flags, segments=segments))
    return requester, FlagReader(requester, **options)


def chain(depth: int) -> list[Item]:
    """Flags 0 to `depth`, each of which needs the next."""
    return [flag(str(level), prerequisites=[needs(str(level + 1))]) for level in range(depth)] + [flag(str(depth))]


class TestPrefetch:
    def test_many_flags_take_one_round_trip_for_each_level(self) -> None:
        flags = [flag(f"f{n}", prerequisites=[needs(f"p{n}")], rules=[rule(in_segment("s"))]) for n in range(20)]
        requester = CountingRequester(
            store(*flags, *(flag(f"p{n}") for n in range(20)), segments=[segment("s", included=["nobody"])])
        )
        with FlagReader(requester).request(USER) as request:
            request.prefetch(*(f"f{n}" for n in range(20)))
            assert len(requester.rounds) == 2
            assert [request.variation(f"f{n}", None) for n in range(20)] == ["fall"] * 20
        assert len(requester.rounds) == 2

    def test_what_is_shared_or_at_hand_is_asked_for_once(self) -> None:
        shared = [flag(key, rules=[rule(in_segment("s"))]) for key in ("a", "b")]
        requester = CountingRequester(store(*shared, segments=[everyone("s")]))
        with FlagReader(requester).request(USER) as request:
            request.prefetch("a", "a", "b", "nowhere")
            request.prefetch("b", "nowhere")
            assert request.variation("nowhere", "default") == "default"
            assert [request.variation(key, None) for key in ("a", "b", "a", "b")] == ["match"] * 4
        assert requester.rounds == [features("a", "b", "nowhere"), segments("s")]

    def test_results_are_those_of_evaluating_without_it(self) -> None:
        flags, made = worlds.world("prefetch")
        collections = {
            kind: {key: json.dumps(item) for key, item in items.items()}
            for kind, items in (("features", flags), ("segments", made))
        }
        reader = FlagReader(CountingRequester(collections))
        for context in worlds.contexts("prefetch", 20):
            with reader.request(context) as plain, reader.request(context) as prefetched:
                prefetched.prefetch(*flags)
                for key in [*flags, *flags]:
                    assert result(prefetched.variation_detail(key, "default")) == result(
                        plain.variation_detail(key, "default")
                    )

    def test_a_result_that_the_caller_changes_is_new_the_next_time(self) -> None:
        _, reader = guessing(flag(variations=[{"a": 1}] * 2))
        with reader.request(USER) as request:
            request.prefetch("flag")
            detail = request.variation_detail("flag", None)
            detail.value["a"] = 2
            detail.reason["kind"] = "changed"
            assert result(request.variation_detail("flag", None)) == ({"a": 1}, 1, {"kind": "FALLTHROUGH"})

    def test_a_store_that_fails_is_told_by_the_evaluations_and_asked_once(self) -> None:
        requester, reader = guessing(flag())
        requester.most = 0
        with reader.request(USER) as request:
            request.prefetch("flag", "other")
            assert result(request.variation_detail("flag", "default")) == UNREACHABLE
            assert result(request.variation_detail("other", "default")) == UNREACHABLE
        assert requester.rounds == [features("flag", "other")]

    def test_it_never_raises_in_a_strict_reader_neither(self) -> None:
        requester, reader = guessing(flag(), strict=True)
        requester.most = 0
        with reader.request(USER) as request:
            request.prefetch("flag", 3, None, [], "\ud800")  # type: ignore[arg-type]
            with pytest.raises(StoreError):
                request.variation("flag", None)

    @pytest.mark.parametrize("context", [{}, {"kind": "user", "key": ""}, None, 3])
    def test_for_an_invalid_context_nothing_is_asked(self, context: Any) -> None:
        requester, reader = guessing(flag())
        reader.request(context).prefetch("flag")
        assert requester.rounds == []

    def test_offline_nothing_is_asked(self) -> None:
        requester, reader = guessing(flag(), offline=True)
        reader.request(USER).prefetch("flag")
        assert requester.rounds == []

    def test_the_next_request_asks_again(self) -> None:
        requester, reader = guessing(flag())
        for _ in range(2):
            with reader.request(USER) as request:
                request.prefetch("flag")
        assert requester.rounds == [features("flag")] * 2


class TestReadAhead:
    def test_the_second_request_takes_one_round_trip_however_deep_the_references_go(self) -> None:
        root = flag("root", prerequisites=[needs("0")], rules=[rule(in_segment("s"))])
        requester, reader = guessing(
            root, *chain(7), segments=[segment("s", rules=[{"clauses": [in_segment("t")]}]), everyone("t")]
        )
        assert [reader.variation("root", USER, None) for _ in range(3)] == ["match"] * 3
        assert [len(refs) for refs in requester.rounds[-2:]] == [11, 11]
        assert len(requester.rounds) == 9 + 1 + 1

    def test_prefetched_flags_take_one_too(self) -> None:
        flags = [flag(f"f{n}", prerequisites=[needs(f"p{n}")], rules=[rule(in_segment("s"))]) for n in range(20)]
        requester, reader = guessing(*flags, *(flag(f"p{n}") for n in range(20)), segments=[everyone("s")])
        for expected in (2, 1, 1):
            requester.rounds.clear()
            with reader.request(USER) as request:
                request.prefetch(*(f"f{n}" for n in range(20)))
                assert [request.variation(f"f{n}", None) for n in range(20)] == ["match"] * 20
            assert len(requester.rounds) == expected

    def test_only_keys_are_remembered_so_a_change_shows_at_once(self) -> None:
        requester, reader = guessing(*chain(1))
        assert reader.variation("0", USER, None) == "fall"
        requester.put(flag("1", on=False))
        assert reader.variation("0", USER, None) == "off"
        requester.remove("features", "1")
        assert reader.variation("0", USER, None) == "off"

    def test_a_flag_that_leads_elsewhere_now_is_followed(self) -> None:
        requester, reader = guessing(*chain(1), flag("2", on=False))
        reader.variation("0", USER, None)
        requester.put(flag("0", prerequisites=[needs("2")]))
        assert [reader.variation("0", USER, None) for _ in range(2)] == ["off", "off"]
        assert requester.rounds[2:] == [features("0", "1"), features("2"), features("0", "1", "2")]

    def test_what_other_contexts_need_is_remembered_too(self) -> None:
        beta = flag("flag", rules=[rule(clause("plan", "in", "beta"), in_segment("s"))])
        requester, reader = guessing(beta, segments=[everyone("s")])
        insider = {"kind": "user", "key": "u", "plan": "beta"}
        for context in (USER, insider, USER, insider):
            reader.variation("flag", context, None)
        both = [*features("flag"), *segments("s")]
        assert requester.rounds == [features("flag"), features("flag"), segments("s"), both, both]

    def test_what_was_not_asked_for_stays_known(self) -> None:
        """As when the flag came along with another, or while another thread learned."""
        beta = flag("flag", rules=[rule(clause("plan", "in", "beta"), in_segment("s"))])
        requester, reader = guessing(flag("above", prerequisites=[needs("flag")]), beta, segments=[everyone("s")])
        insider = {"kind": "user", "key": "u", "plan": "beta"}
        for context in (USER, insider):
            reader.variation("flag", context, None)
        reader.variation("above", USER, None)
        with reader.request(USER) as request:
            assert [request.variation(key, None) for key in ("above", "flag")] == ["fall", "fall"]
        requester.rounds.clear()
        assert reader.variation("flag", insider, None) == "match"
        assert requester.rounds == [[*features("flag"), *segments("s")]]

    def test_what_was_met_and_not_needed_in_the_end_is_guessed_too(self) -> None:
        """It would be fetched on that level without guesses as well."""
        served = flag(rules=[rule(in_segment("s")), rule(in_segment("t"))])
        requester, reader = guessing(served, segments=[everyone("s"), everyone("t")])
        reader.variation("flag", USER, None)
        requester.remove("segments", "s")
        assert reader.variation("flag", USER, None) == "match"
        assert requester.rounds[2:] == [[*features("flag"), *segments("s", "t")]]

    def test_what_is_at_hand_is_not_guessed(self) -> None:
        flags = [flag(key, rules=[rule(in_segment("s"))]) for key in ("a", "b")]
        requester, reader = guessing(*flags, segments=[everyone("s")])
        for key in ("a", "b"):
            reader.variation(key, USER, None)
        with reader.request(USER) as request:
            assert [request.variation(key, None) for key in ("a", "b")] == ["match"] * 2
        assert requester.rounds[4:] == [[*features("a"), *segments("s")], features("b")]

    def test_what_is_asked_for_anyway_is_asked_for_once(self) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        reader.request(USER).prefetch("0", "1")
        assert requester.rounds[2:] == [features("0", "1")]

    def test_an_item_that_was_not_needed_for_a_while_is_fetched_no_more(self) -> None:
        requester, reader = guessing(flag(rules=[rule(in_segment("s"))]), segments=[everyone("s")])
        reader.variation("flag", USER, None)
        requester.put(flag())
        for _ in range(IDLE + 1):
            reader.variation("flag", USER, None)
        assert requester.rounds[-1] == [*features("flag"), *segments("s")]
        reader.variation("flag", USER, None)
        assert requester.rounds[-1] == features("flag")

    def test_an_item_that_is_needed_now_and_then_stays(self) -> None:
        requester, reader = guessing(flag(rules=[rule(in_segment("s"))]), segments=[everyone("s")])
        for _ in range(3):
            requester.put(flag(rules=[rule(in_segment("s"))]))
            reader.variation("flag", USER, None)
            requester.put(flag())
            for _ in range(IDLE):
                reader.variation("flag", USER, None)
        assert requester.rounds[2:] == [[*features("flag"), *segments("s")]] * (len(requester.rounds) - 2)

    def test_a_missing_item_is_not_guessed_again(self) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.remove("features", "1")
        for _ in range(2):
            assert reader.variation("0", USER, None) == "off"
        assert requester.rounds[2:] == [features("0", "1"), features("0"), features("1")]

    def test_a_big_item_is_not_guessed_again(self) -> None:
        requester, reader = guessing(flag(rules=[rule(in_segment("s"))]), segments=[everyone("s")])
        reader.variation("flag", USER, None)
        requester.put(everyone("s") | {"included": ["x" * requester.guess_limit]}, "segments")
        for _ in range(2):
            assert reader.variation("flag", USER, None) == "match"
        assert requester.rounds[2:] == [[*features("flag"), *segments("s")], features("flag"), segments("s")]

    def test_the_requester_says_what_is_big(self) -> None:
        requester, reader = guessing(flag(rules=[rule(in_segment("s"))]), segments=[everyone("s")])
        requester.guess_limit = 20
        for _ in range(2):
            reader.variation("flag", USER, None)
        assert requester.rounds == [features("flag"), segments("s")] * 2

    def test_a_requester_that_may_not_batch_any_more_is_not_given_guesses(self) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.guess_limit = 0
        reader.variation("0", USER, None)
        assert requester.rounds == [features("0"), features("1")] * 2

    def test_malformed_guesses_spoil_only_who_reaches_them(self) -> None:
        requester, reader = guessing(flag(rules=[rule(in_segment("s"))]), segments=[everyone("s")])
        reader.variation("flag", USER, None)
        requester.held("segments")["s"] = "{ no JSON"
        requester.put(flag())
        assert result(reader.variation_detail("flag", USER, "default")) == FALLTHROUGH
        requester.put(flag(rules=[rule(in_segment("s"))]))
        assert reader.variation_detail("flag", USER, "default").reason["errorKind"] == "MALFORMED_FLAG"

    def test_a_read_that_fails_with_guesses_is_done_without_them(self) -> None:
        requester, reader = guessing(*chain(2))
        reader.variation("0", USER, None)
        requester.most = 1
        assert result(reader.variation_detail("0", USER, "default")) == FALLTHROUGH
        assert requester.rounds[3:] == [features("0", "1", "2"), *(features(key) for key in "012")]

    def test_what_is_needed_and_throttled_beside_guesses_is_asked_for_alone(self) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.spoilt = {("features", "0")}
        assert result(reader.variation_detail("0", USER, "default")) == FALLTHROUGH
        assert requester.rounds[2:] == [features("0", "1"), features("0")]

    def test_what_came_beside_the_throttled_is_not_asked_for_again(self) -> None:
        requester, reader = guessing(*chain(1), flag("other"))
        reader.variation("0", USER, None)
        requester.spoilt = {("features", "0")}
        with reader.request(USER) as request:
            request.prefetch("other", "0")
            assert [request.variation(key, None) for key in ("other", "0")] == ["fall"] * 2
        assert requester.rounds[2:] == [features("other", "0", "1"), features("0")]

    def test_a_guess_that_is_throttled_is_asked_for_when_it_is_needed(self) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.spoilt = {("features", "1")}
        assert result(reader.variation_detail("0", USER, "default")) == FALLTHROUGH
        assert requester.rounds[2:] == [features("0", "1"), features("1")]

    def test_a_store_that_fails_without_guesses_too_gives_the_default(self) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.most = 0
        with reader.request(USER) as request:
            for _ in range(2):
                assert result(request.variation_detail("0", "default")) == UNREACHABLE
        assert requester.rounds[2:] == [features("0", "1"), features("0")]

    def test_a_silent_store_whose_patience_is_unknown_is_waited_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.most = 0
        requester.refusal.answered = False
        ticks = iter(range(100))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
        assert result(reader.variation_detail("0", USER, "default")) == UNREACHABLE
        assert requester.rounds[2:] == [features("0", "1")]

    def test_a_store_that_failed_is_not_asked_again_in_the_request_whatever_is_known(self) -> None:
        pairs = [item for key in "abc" for item in (flag(key, prerequisites=[needs(f"{key}p")]), flag(f"{key}p"))]
        requester, reader = guessing(*pairs)
        for key in "abc":
            reader.variation(key, USER, None)
        requester.rounds.clear()
        requester.most = 0
        with reader.request(USER) as request:
            for key in "abc":
                assert result(request.variation_detail(key, "default")) == UNREACHABLE
        assert requester.rounds == [features("a", "ap"), features("a")]

    @pytest.mark.parametrize("answered", [True, False])
    def test_guesses_that_made_a_read_fail_are_forgotten(self, answered: bool) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.most = 1
        requester.refusal.answered = answered
        for _ in range(2):
            assert result(reader.variation_detail("0", USER, "default")) == FALLTHROUGH
            requester.rounds.append([])
        assert requester.rounds[2:4] == [features("0", "1"), features("0")]

    def test_what_is_missing_stays_so_when_something_beside_it_fails(self) -> None:
        requester, reader = guessing(*chain(1))
        reader.variation("0", USER, None)
        requester.spoilt = {("features", "0")}
        requester.fails_alone = True
        with reader.request(USER) as request:
            request.prefetch("0", "nowhere")
            assert request.variation_detail("0", "default").reason["errorKind"] == "EXCEPTION"
            assert request.variation_detail("nowhere", "default").reason["errorKind"] == "FLAG_NOT_FOUND"

    def test_it_can_be_turned_off(self) -> None:
        requester, reader = guessing(*chain(1), read_ahead=False)
        for _ in range(2):
            reader.variation("0", USER, None)
        assert requester.rounds == [features("0"), features("1")] * 2

    def test_it_is_off_by_default_for_stores_that_gain_nothing(self) -> None:
        for options, expected in (({}, [1, 1, 1, 1]), ({"read_ahead": True}, [1, 1, 2])):
            requester = CountingRequester(store(*chain(1)))
            reader = FlagReader(requester, **options)  # type: ignore[arg-type]
            for _ in range(2):
                reader.variation("0", USER, None)
            assert [len(refs) for refs in requester.rounds] == expected

    def test_the_state_of_all_flags_neither_guesses_nor_learns(self) -> None:
        requester, reader = guessing(*chain(1))
        assert reader.all_flags_state(USER).get_flag_value("0") == "fall"
        reader.variation("0", USER, None)
        assert requester.rounds == [features("0"), features("1")]

    def test_flags_that_do_not_exist_take_no_room(self) -> None:
        read_ahead = ReadAhead()
        _, reader = guessing(flag())
        reader._read_ahead = read_ahead
        for number in range(50):
            reader.variation(f"nowhere {number}", USER, None)
        assert read_ahead._known == {}

    def test_answers_are_the_same_with_and_without(self) -> None:
        """Random worlds that change beneath the reader, bad items included."""
        for seed in range(5):
            flags, made = worlds.world(f"ahead {seed}")
            requester, reader = guessing(*flags.values(), segments=list(made.values()))
            plain = FlagReader(requester, read_ahead=False)
            for number, context in enumerate(worlds.contexts(f"ahead {seed}", 12)):
                for key in flags:
                    assert result(reader.variation_detail(key, context, "default")) == result(
                        plain.variation_detail(key, context, "default")
                    )
                if number % 3 == 2:
                    gone = sorted(made)[number]
                    requester.held("segments").pop(gone, None)
                    requester.held("features")[sorted(flags)[number]] = "null"

    def test_threads_share_it(self) -> None:
        flags, made = worlds.world("threads")
        requester, reader = guessing(*flags.values(), segments=list(made.values()))
        everyone_ = worlds.contexts("threads", 10)
        plain = FlagReader(CountingRequester(requester._collections))
        expected = [[result(plain.variation_detail(key, context, None)) for key in flags] for context in everyone_]
        wrong: list[Any] = []

        def read() -> None:
            try:
                for context, answers in zip(everyone_, expected, strict=True):
                    if [result(reader.variation_detail(key, context, None)) for key in flags] != answers:
                        wrong.append(context)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def sized(count: int, size: int, start: int = 0) -> dict[ItemRef, int]:
    return {("segments", f"s{number}"): size for number in range(start, start + count)}


def taught(*sizes: Mapping[ItemRef, int], limit: int = 65536) -> list[ItemRef]:
    """What a memory guesses about a flag that needed these items, one evaluation after the other."""
    read_ahead = ReadAhead()
    for needed in sizes:
        read_ahead.learn("flag", needed, {}, needed, limit)
    return list(read_ahead.guesses("flag"))


class TestTheBounds:
    def test_relearning_a_flag_of_many_forgets_no_other(self) -> None:
        read_ahead = ReadAhead()
        for number in range(FLAGS):
            read_ahead.learn(str(number), sized(1, 10), {}, sized(1, 10), 65536)
        read_ahead.learn("0", sized(2, 10), {}, sized(2, 10), 65536)
        assert len(read_ahead._known) == FLAGS

    def test_a_flag_has_so_many_items_and_no_more(self) -> None:
        assert len(taught(sized(REFS_PER_FLAG + 40, 10))) == REFS_PER_FLAG

    def test_their_size_is_bounded_together(self) -> None:
        assert len(taught(sized(30, 60_000))) == BYTES_PER_FLAG // 60_000

    def test_what_is_known_already_is_counted_once(self) -> None:
        assert len(taught(sized(4, 60_000), {**sized(4, 60_000), **sized(1, 10, start=4)})) == 5

    def test_one_above_the_limit_is_left_out_and_one_at_it_is_not(self) -> None:
        assert taught(sized(1, 65536)) == list(sized(1, 65536))
        assert taught(sized(1, 65537)) == []

    def test_a_long_key_is_left_out(self) -> None:
        assert taught({("segments", "s" * KEY_LIMIT): 1}) != []
        assert taught({("segments", "s" * (KEY_LIMIT + 1)): 1}) == []

    def test_the_flag_itself_is_no_guess(self) -> None:
        assert taught({("features", "flag"): 10, ("features", "other"): 10}) == features("other")

    def test_flags_are_bounded_and_learned_anew(self) -> None:
        read_ahead = ReadAhead()
        for number in range(FLAGS + 1):
            read_ahead.learn(str(number), sized(1, 10), {}, sized(1, 10), 65536)
        assert len(read_ahead._known) == 1
        assert list(read_ahead.guesses(str(FLAGS))) == segments("s0")


def test_one_read_has_the_guesses_of_so_many_flags_and_no_more() -> None:
    flags = [
        flag(f"flag-{number}", rules=[rule(clause("", "segmentMatch", f"{number}-{each}")) for each in range(30)])
        for number in range(6)
    ]
    segments = [segment(f"{number}-{each}") for number in range(6) for each in range(30)]
    requester = Guessing(store(*flags, segments=segments))
    reader = FlagReader(requester)
    for _ in range(2):
        requester.rounds.clear()
        with reader.request(Context.create("ada")) as request:
            request.prefetch(*(flag["key"] for flag in flags))
    first, second = requester.rounds
    assert len(first) == 6 + 4 * 30  # four flags have 120, which is enough
    assert len(second) == 2 * 30


class Bounded(Guessing):
    """One that takes a deadline, and time."""

    keeps_deadlines = True
    timeout = 2.0

    def __init__(self, collections: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(collections)
        self.deadlines: list[float | None] = []

    def get_many(self, refs: Sequence[ItemRef], deadline: float | None = None) -> dict[ItemRef, Text]:
        self.deadlines.append(deadline)
        return super().get_many(refs)

    def get_all(self, deadline: float | None = None) -> dict[str, dict[str, Text]]:
        self.deadlines.append(deadline)
        return super().get_all()


class TestTheDeadline:
    def test_it_reaches_a_requester_that_keeps_deadlines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        requester = Bounded(store(flag()))
        reader = FlagReader(requester)
        reader.variation("flag", USER, None)
        with reader.request(USER, timeout=0.5) as request:
            request.variation("flag", None)
            request.all_flags_state()
        assert requester.deadlines == [None, 100.5, 100.5]

    def test_a_read_with_guesses_leaves_time_for_one_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        requester = Bounded(store(*chain(1)))
        requester.refusal.answered = False
        reader = FlagReader(requester)
        reader.variation("0", USER, None)
        requester.most = 1
        requester.deadlines.clear()
        assert reader.variation("0", USER, None) == "fall"
        assert requester.deadlines == [102.0, 104.0, None]

    def test_the_requests_own_deadline_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        requester = Bounded(store(*chain(1)))
        reader = FlagReader(requester)
        reader.variation("0", USER, None)
        requester.most = 1
        requester.deadlines.clear()
        assert reader.request(USER, timeout=3).variation("0", None) == "fall"
        assert requester.deadlines == [101.5, 103.0, 103.0]

    def test_a_store_of_big_segments_is_told_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        told = []

        class Memberships:
            keeps_deadlines = True

            def get_metadata(self) -> Any:
                raise AssertionError("one read for both is enough")

            def get_membership(self, context_hash: str) -> Any:
                raise AssertionError("one read for both is enough")

            def get_big_segments(self, hashes: Sequence[str], *deadline: float) -> Any:
                told.append(deadline)
                raise StoreError("away")

            def stop(self) -> None:
                pass

        big = segment("big", unbounded=True, generation=1)
        requester = CountingRequester(store(flag(rules=[rule(in_segment("big"))]), segments=[big]))
        reader = FlagReader(requester, big_segments=Memberships())
        reader.variation("flag", USER, None)
        reader.request(USER, timeout=7).variation("flag", None)
        assert told == [(), (107.0,)]


class TestStats:
    def test_a_request_tells_what_it_has_cost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ticks = iter(range(100))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
        requester = CountingRequester(store(*chain(1)))
        with FlagReader(requester).request(USER) as request:
            stats = request.stats
            assert (stats.round_trips, stats.items, stats.bytes, stats.seconds) == (0, 0, 0, 0)
            request.variation("0", None)
            request.variation("0", None)
            request.variation("nowhere", None)
            size = sum(len(text) for text in requester._collections["features"].values())
            assert (stats.round_trips, stats.items, stats.bytes, stats.seconds) == (3, 2, size, 3.0)
        assert request.stats.round_trips == 3

    def test_everything_is_one(self) -> None:
        requester = CountingRequester(store(*chain(3), segments=[everyone("s")]))
        request = FlagReader(requester).request(USER)
        request.all_flags_state()
        assert (request.stats.round_trips, request.stats.items) == (1, 5)

    def test_guesses_count(self) -> None:
        _, reader = guessing(*chain(3))
        reader.variation("0", USER, None)
        request = reader.request(USER)
        request.variation("0", None)
        assert (request.stats.round_trips, request.stats.items) == (1, 4)

    def test_a_read_that_failed_counts(self) -> None:
        requester, reader = guessing(flag())
        requester.most = 0
        request = reader.request(USER)
        request.variation("flag", None)
        assert (request.stats.round_trips, request.stats.items) == (1, 0)

    def test_big_segments_count(self) -> None:
        class Memberships:
            def get_metadata(self) -> Any:
                return None

            def get_membership(self, context_hash: str) -> Any:
                return None

            def stop(self) -> None:
                pass

        big = segment("big", unbounded=True, generation=1)
        requester = CountingRequester(store(flag(rules=[rule(in_segment("big"))]), segments=[big]))
        request = FlagReader(requester, big_segments=Memberships()).request(USER)
        request.variation("flag", None)
        assert request.stats.round_trips == 2 + 2

    def test_it_can_be_shown(self) -> None:
        request = FlagReader(CountingRequester(store(flag()))).request(USER)
        request.variation("flag", None)
        assert repr(request.stats).startswith("RequestStats(round_trips=1, items=1, bytes=")
