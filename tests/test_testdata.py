"""Test data: its builders make the official SDK's flags, its updates show at once, and it can lie over a store."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.integrations.test_data import TestData as OfficialTestData

from ldreader import Context, FlagReader, MemoryRequester, Stage, StoreError, TestData, override_flags
from ldreader.migrations import Operation, Origin
from ldreader.testdata import FlagBuilder, FlagRuleBuilder
from tests.flags import (
    USER,
    CountingRequester,
    Item,
    everyone,
    flag,
    in_segment,
    needs,
    reader_of,
    rule,
    segment,
    store,
)
from tests.servers import RedisServer


def built(data: TestData, key: str = "flag") -> Item:
    """The flag as a requester gives it."""
    found: Item = json.loads(data.get_all()["features"][key])  # type: ignore[arg-type]
    return found


def serves(builder: FlagBuilder, context: Any = USER) -> Any:
    """What the flag serves, from the first update."""
    return FlagReader(TestData().update(builder)).variation(builder.key, context, "default")


@pytest.fixture
def data() -> TestData:
    return TestData.data_source()


class TestUpdates:
    def test_they_show_at_once_in_every_reader(self, data: TestData) -> None:
        readers = [FlagReader(data), FlagReader(data)]
        assert [reader.variation("flag", USER, "default") for reader in readers] == ["default"] * 2
        data.update(data.flag("flag"))
        assert [reader.variation("flag", USER, "default") for reader in readers] == [True] * 2
        data.update(data.flag("flag").variation_for_all(False))
        assert [reader.variation("flag", USER, "default") for reader in readers] == [False] * 2

    def test_a_request_keeps_what_it_has_seen(self, data: TestData) -> None:
        data.update(data.flag("flag"))
        with FlagReader(data).request(USER) as request:
            assert request.variation("flag", None) is True
            data.update(data.flag("flag").variation_for_all(False))
            assert request.variation("flag", None) is True

    def test_each_has_the_next_version(self, data: TestData) -> None:
        for version in (1, 2, 3):
            data.update(data.flag("flag"))
            assert built(data)["version"] == version
        data.update(data.flag("other"))
        assert built(data, "other")["version"] == 1

    def test_a_builder_changes_nothing_until_the_next_update(self, data: TestData) -> None:
        values: list[Any] = [["a"], "b"]
        builder = data.flag("flag").variations(*values).variation_for_all(0).variation_for_user("x", 1)
        rule_builder = builder.if_match("name", "Ada")
        rule_builder.then_return(1)
        data.update(builder)
        before = built(data)
        builder.on(False).variation_for_user("y", 1).clear_rules()
        rule_builder.and_match("plan", "gold")
        values[0].append("mine")
        assert built(data) == before
        assert data.flag("flag").build(1) == before

    def test_a_builder_that_was_asked_for_is_a_copy(self, data: TestData) -> None:
        data.update(data.flag("flag").variation_for_user("x", False))
        first, second = data.flag("flag"), data.flag("flag")
        first.variation_for_user("y", False).if_match("name", "Ada").then_return(False)
        first.sampling_ratio(0)
        assert second.build(1) == built(data)

    def test_a_value_that_json_cannot_carry_is_told_at_once(self, data: TestData) -> None:
        data.update(data.flag("flag"))
        with pytest.raises(TypeError):
            data.update(data.flag("flag").value_for_all(object()))
        assert built(data)["version"] == 1

    def test_all_flags_are_there_and_no_segments(self, data: TestData) -> None:
        data.update(data.flag("a")).update(data.flag("b"))
        assert FlagReader(data).all_flags_state(USER).to_values_map() == {"a": True, "b": True}
        assert data.get_all()["segments"] == {}
        assert data.get_many([("segments", "a"), ("features", "none")]) == {}
        data.close()

    def test_threads_may_share_it(self, data: TestData) -> None:
        def work() -> None:
            for _ in range(100):
                data.update(data.flag("flag"))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert built(data)["version"] == 400

    @pytest.mark.filterwarnings("error")
    def test_pytest_does_not_take_it_for_tests(self) -> None:
        assert TestData.__test__ is False


class TestBuilders:
    def test_a_new_flag_is_a_boolean_one_that_is_on(self, data: TestData) -> None:
        item = data.flag("flag").build(1)
        assert (item["variations"], item["on"], item["offVariation"]) == ([True, False], True, 1)
        assert item["fallthrough"] == {"variation": 0}

    def test_off(self, data: TestData) -> None:
        assert serves(data.flag("flag").on(False)) is False

    def test_values_of_any_type(self, data: TestData) -> None:
        assert serves(data.flag("flag").variations("a", {"b": 1}, None).fallthrough_variation(1)) == {"b": 1}
        assert serves(data.flag("flag").value_for_all([1, None])) == [1, None]

    def test_a_boolean_where_an_index_is_expected_makes_the_flag_boolean(self, data: TestData) -> None:
        changes: tuple[Callable[[FlagBuilder], FlagBuilder], ...] = (
            lambda builder: builder.fallthrough_variation(False),
            lambda builder: builder.on(False).off_variation(False),
            lambda builder: builder.variation_for_all(False),
            lambda builder: builder.variation_for_user("u", False),
            lambda builder: builder.if_match("key", "u").then_return(False),
        )
        for change in changes:
            builder = change(data.flag("flag").variations("a", "b", "c"))
            assert builder.build(1)["variations"] == [True, False]
            assert serves(builder) is False

    def test_1_and_0_are_no_booleans(self, data: TestData) -> None:
        assert data.flag("flag").variations(1, 0).boolean_flag().build(1)["variations"] == [True, False]

    def test_targets_by_kind_and_key(self, data: TestData) -> None:
        builder = data.flag("flag").variation_for_user("a", False).variation_for_key("org", "o", False)
        assert serves(builder, Context.create("a")) is False
        assert serves(builder, Context.create("b")) is True
        assert serves(builder, Context.create("o", "org")) is False
        assert serves(builder, Context.create("o")) is True

    def test_a_key_moves_from_one_target_to_another(self, data: TestData) -> None:
        builder = data.flag("flag").variation_for_user("a", False).variation_for_user("a", True)
        assert serves(builder.fallthrough_variation(False), Context.create("a")) is True

    def test_all_clears_targets_and_rules(self, data: TestData) -> None:
        builder = data.flag("flag").on(False).variation_for_user("u", False)
        builder.if_match("key", "u").then_return(False).variation_for_all(True)
        assert serves(builder) is True
        assert (builder.build(1)["targets"], builder.build(1)["rules"]) == ([], [])

    def test_rules(self, data: TestData) -> None:
        builder = (
            data.flag("flag")
            .fallthrough_variation(False)
            .if_match("name", "Ada", "Eve")
            .and_not_match_context("org", "key", "bad")
            .then_return(True)
        )
        both = {"kind": "multi", "user": {"key": "u", "name": "Eve"}, "org": {"key": "good"}}
        assert serves(builder, both) is True
        assert serves(builder, both | {"org": {"key": "bad"}}) is False
        assert serves(builder, both | {"user": {"key": "u", "name": "Bob"}}) is False
        assert [each["id"] for each in builder.build(1)["rules"]] == ["rule0"]


class TestWhatOnlyThePhpSdkHas:
    """There the first two are taken and then forgotten."""

    def test_the_sampling_ratio_is_kept(self, data: TestData) -> None:
        events: list[Item] = []
        data.update(data.flag("flag").sampling_ratio(0))
        FlagReader(data, events=events.extend).variation("flag", USER, None)
        assert built(data)["samplingRatio"] == 0
        assert events == []

    def test_the_exclusion_from_summaries_is_kept(self, data: TestData) -> None:
        events: list[Item] = []
        data.update(data.flag("flag").exclude_from_summaries(True))
        FlagReader(data, events=events.extend).variation("flag", USER, None)
        assert events[0]["excludeFromSummaries"] is True

    def test_the_settings_of_a_migration_are_kept(self, data: TestData) -> None:
        data.update(data.flag("flag").value_for_all("live").migration_settings(check_ratio=0))
        data.update(data.flag("flag"))
        stage, tracker = FlagReader(data).migration_variation("flag", USER, Stage.OFF)
        assert stage is Stage.LIVE
        assert built(data)["migration"] == {"checkRatio": 0}
        tracker.operation(Operation.READ).invoked(Origin.OLD).consistent(lambda: pytest.fail("it was checked"))

    def test_what_is_not_set_is_not_there(self, data: TestData) -> None:
        assert not {"migration", "samplingRatio", "excludeFromSummaries"} & set(data.flag("flag").build(1))


def random_calls(chance: random.Random) -> list[tuple[str, tuple[Any, ...]]]:
    """Calls of builder methods, the same for both libraries; a rule is one call with its clauses."""
    kinds, keys = ["user", "org"], ["a", "b", "c"]

    def variation() -> Any:
        return chance.choice([True, False, 0, 1, 2, 2, 7, -1])

    makers: list[Callable[[], tuple[str, tuple[Any, ...]]]] = [
        lambda: ("on", (chance.choice([True, False]),)),
        lambda: ("fallthrough_variation", (variation(),)),
        lambda: ("off_variation", (variation(),)),
        lambda: ("boolean_flag", ()),
        lambda: (
            "variations",
            tuple(chance.sample(["x", 1, 0, True, False, None, [1], {"y": 2}], chance.randrange(5))),
        ),
        lambda: ("variations", (True, False)),
        lambda: ("variation_for_all", (variation(),)),
        lambda: ("value_for_all", (chance.choice(["v", None, True, {"z": 1}]),)),
        lambda: ("variation_for_user", (chance.choice(keys), variation())),
        lambda: ("variation_for_key", (chance.choice(kinds), chance.choice(keys), variation())),
        lambda: ("variation_for_key", (chance.choice(kinds), chance.choice(keys), variation())),
        lambda: (
            "rule",
            (chance.choice(["if_match", "if_not_match"]), "key", tuple(chance.sample(keys, 2)), variation()),
        ),
        lambda: ("rule_context", (chance.choice(["if_match", "if_not_match"]), chance.choice(kinds), variation())),
        lambda: ("clear_rules", ()),
        lambda: ("clear_targets", ()),
    ]
    return [chance.choice(makers)() for _ in range(chance.randrange(1, 9))]


def called(builder: Any, calls: list[tuple[str, tuple[Any, ...]]]) -> Any:
    """The builder of either library after these calls."""
    for name, arguments in calls:
        if name == "rule":
            method, attribute, values, variation = arguments
            builder = getattr(builder, method)(attribute, *values).and_match("n", 1).and_not_match("n", 2)
            builder = builder.then_return(variation)
        elif name == "rule_context":
            method, kind, variation = arguments
            begun = getattr(builder, f"{method}_context")(kind, "key", "a")
            builder = begun.and_match_context(kind, "n", 1).and_not_match_context(kind, "n", 3).then_return(variation)
        else:
            builder = getattr(builder, name)(*arguments)
    return builder


class TestBesideTheOfficialSdk:
    def test_the_same_calls_make_the_same_flag(self) -> None:
        chance = random.Random("flags")
        for _ in range(3000):
            official, ours = OfficialTestData.data_source(), TestData.data_source()
            for _ in range(chance.randrange(1, 4)):
                calls = random_calls(chance)
                official.update(called(official.flag("flag"), calls))
                ours.update(called(ours.flag("flag"), calls))
                theirs = official._make_init_data()
                (items,) = theirs.values()
                assert json.dumps(built(ours), sort_keys=True) == json.dumps(items["flag"], sort_keys=True), calls

    def test_the_same_calls_give_the_same_answers(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("CRITICAL")
        chance = random.Random("answers")
        official, ours = OfficialTestData.data_source(), TestData.data_source()
        client = LDClient(Config("sdk-key", update_processor_class=official, send_events=False))
        reader = FlagReader(ours)
        contexts = [{"kind": kind, "key": key, "n": n} for kind in ("user", "org") for key in "abz" for n in (1, 2)]
        answers = set()
        try:
            for _ in range(300):
                calls = random_calls(chance)
                official.update(called(official.flag("flag"), calls))
                ours.update(called(ours.flag("flag"), calls))
                for context in contexts:
                    theirs = client.variation_detail("flag", OfficialContext.from_dict(context), "default")
                    mine = reader.variation_detail("flag", context, "default")
                    same = [(each.value, each.variation_index, each.reason) for each in (theirs, mine)]
                    if "errorKind" in theirs.reason:
                        assert mine.is_default_value()
                        assert mine.reason["kind"] == "ERROR"
                    else:
                        assert json.dumps(same[0]) == json.dumps(same[1]), (calls, context)
                    answers.add(json.dumps(mine.reason))
        finally:
            client.close()  # type: ignore[no-untyped-call]
        assert len(answers) >= 5

    def test_no_method_of_its_builders_is_lacking(self) -> None:
        official = OfficialTestData.data_source()
        flag_builder = official.flag("flag")
        for theirs, ours in (
            (flag_builder, FlagBuilder),
            (flag_builder.if_match("a", 1), FlagRuleBuilder),
            (official, TestData),
        ):
            names = {name for name in dir(theirs) if not name.startswith("_")}
            assert names <= set(dir(ours))


class TestOverride:
    def test_it_is_for_the_block_only(self) -> None:
        reader = reader_of(flag("a"), flag("b"))
        with override_flags(reader, {"a": "mine", "new": {"x": 1}}):
            assert reader.variation("a", USER, None) == "mine"
            assert reader.variation("b", USER, None) == "fall"
            assert reader.variation("new", USER, None) == {"x": 1}
            assert reader.all_flags_state(USER).to_values_map() == {"a": "mine", "b": "fall", "new": {"x": 1}}
        assert reader.all_flags_state(USER).to_values_map() == {"a": "fall", "b": "fall"}

    def test_it_is_over_after_an_exception_too(self) -> None:
        reader = reader_of(flag("a"))
        with pytest.raises(KeyError), override_flags(reader, {"a": "mine"}):
            raise KeyError
        assert reader.variation("a", USER, None) == "fall"

    def test_blocks_may_be_nested(self) -> None:
        reader = reader_of(flag("a"), flag("b"))
        with override_flags(reader, {"a": 1, "b": 1}), override_flags(reader, {"a": 2}):
            assert [reader.variation(key, USER, None) for key in "ab"] == [2, 1]

    def test_a_builder_may_be_given_and_flags_changed_within(self) -> None:
        reader = reader_of()
        builder = FlagBuilder("a").boolean_flag().variation_for_user("u", False)
        with override_flags(reader, {"a": builder}) as data:
            assert reader.variation("a", USER, None) is False
            assert reader.variation("a", Context.create("other"), None) is True
            data.update(data.flag("a").variation_for_all(True))
            assert reader.variation("a", USER, None) is True

    def test_prerequisites_and_segments_are_the_stores_unless_they_are_overridden(self) -> None:
        reader = reader_of(
            flag("a", prerequisites=[{"key": "b", "variation": 0}], rules=[rule(in_segment("s"))]),
            flag("b"),
            segments=[everyone("s")],
        )
        assert reader.variation("a", USER, None) == "off"
        with override_flags(reader, {"b": True}):
            assert reader.variation("a", USER, None) == "match"

    def test_the_store_is_not_asked_where_it_need_not_be(self) -> None:
        requester = CountingRequester(store(flag("a")))
        reader = FlagReader(requester)
        with override_flags(reader, {"a": 1}):
            assert reader.variation("a", USER, None) == 1
            assert requester.rounds == []
            reader.variation("b", USER, None)
            assert requester.rounds == [[("features", "b")]]

    def test_a_store_that_is_down_does_not_matter_then(self) -> None:
        class Down(MemoryRequester):
            def get_many(self, refs: Any) -> Any:
                raise StoreError("down")

        reader = FlagReader(Down({}))
        with override_flags(reader, {"a": 1}):
            assert reader.variation("a", USER, None) == 1
            assert reader.variation_detail("b", USER, None).reason["errorKind"] == "EXCEPTION"

    def test_a_request_from_before_the_block_does_not_see_it(self) -> None:
        reader = reader_of(flag("a"))
        request = reader.request(USER)
        with override_flags(reader, {"a": "mine"}):
            assert request.variation("a", None) == "fall"

    def test_a_wrong_value_is_told_before_anything_changes(self) -> None:
        reader = reader_of(flag("a"))
        with pytest.raises(TypeError), override_flags(reader, {"a": object()}):
            pytest.fail("the block was entered")
        assert reader.variation("a", USER, None) == "fall"

    def test_closing_within_the_block_closes_the_store(self) -> None:
        class Closing(MemoryRequester):
            closed = False

            def close(self) -> None:
                self.closed = True

        requester = Closing({})
        reader = FlagReader(requester)
        with override_flags(reader, {}):
            reader.close()
        assert requester.closed

    def test_deadlines_still_reach_the_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        deadlines: list[float] = []

        class Bounded(MemoryRequester):
            keeps_deadlines = True

            def get_many(self, refs: Any, *deadline: float) -> Any:
                deadlines.extend(deadline)
                return super().get_many(refs)

            def get_all(self, *deadline: float) -> Any:
                deadlines.extend(deadline)
                return super().get_all()

        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        reader = FlagReader(Bounded(store(flag("a"))))
        with override_flags(reader, {"z": 1}), reader.request(USER, timeout=0.5) as request:
            assert [request.variation(key, None) for key in "az"] == ["fall", 1]
            assert request.all_flags_state().valid
        assert deadlines == [100.5, 100.5]

    def test_it_lies_over_a_database_too(self, redis_server: RedisServer) -> None:
        """With guesses, which are read by a deadline, from the second evaluation on."""
        items = [flag("a", prerequisites=[needs("b")]), flag("b")]
        redis_server.ask("HSET", "over:features", *(text for each in items for text in (each["key"], json.dumps(each))))
        with FlagReader.from_url(f"{redis_server.url}?prefix=over") as reader:
            with override_flags(reader, {"z": 1}):
                for _ in range(3):
                    assert [reader.variation(key, USER, None) for key in "az"] == ["fall", 1]
            with override_flags(reader, {"b": 1}):
                assert reader.variation_detail("a", USER, None).reason["kind"] == "PREREQUISITE_FAILED"
            assert reader.variation("a", USER, None) == "fall"

    def test_segments_stay_in_the_state_of_the_store(self) -> None:
        reader = reader_of(flag("a", rules=[rule(in_segment("s"))]), segments=[segment("s", included=["u"])])
        with override_flags(reader, {"z": 1}):
            assert reader.all_flags_state(USER).to_values_map() == {"a": "match", "z": 1}

    def test_big_segments_stay_those_of_the_store(self) -> None:
        class WithBigSegments(MemoryRequester):
            def get_metadata(self) -> Any:
                return None

            def get_membership(self, context_hash: str) -> dict[str, bool]:
                return {"big.g1": True}

            def stop(self) -> None:
                pass

        big = segment("big", unbounded=True, generation=1)
        reader = FlagReader(WithBigSegments(store(flag("a", rules=[rule(in_segment("big"))]), segments=[big])))
        with override_flags(reader, {"z": 1}):
            assert reader.variation("a", USER, None) == "match"
            assert reader.big_segment_store_status().available
