"""The walk: what it answers, what it looks at, and what it names as lacking.

Each walk gets just the items that its test mentions; `serve` fails one that looks for any other.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ldreader import Context, FlagNotFound, MalformedItem, StoreError
from ldreader.evaluator import Evaluation, evaluate, is_experiment
from ldreader.segments import MAX_DEPTH
from tests.flags import (
    FALL,
    MATCH,
    OFF,
    USER,
    Item,
    at_hand,
    clause,
    everyone,
    expected,
    flag,
    in_segment,
    known_answers,
    malformed,
    needs,
    result,
    rule,
    segment,
    serve,
    serve_case,
    walk,
)

EVALUATION = known_answers("evaluation.json")
PREREQUISITES = known_answers("prerequisites.json")

SWITCH = rule(in_segment("segment"))


@pytest.mark.parametrize("case", EVALUATION + PREREQUISITES, ids=lambda case: case["name"])
def test_known_answers(case: Item) -> None:
    assert result(serve_case(case)) == expected(case)


@pytest.mark.parametrize("case", PREREQUISITES, ids=lambda case: case["name"])
def test_the_direct_prerequisites_looked_at_are_listed_in_order(case: Item) -> None:
    flags = [flag(**fields) for fields in case.get("flags", ())]
    missing = [(kind, key) for kind, key in case.get("missing", ())]
    found = walk(flag(**case["flag"]), *flags, context=case.get("context") or USER, missing=missing)
    assert found.prerequisites == case["prerequisites"]


class TestTheFlagItself:
    def test_a_missing_flag_is_not_found(self) -> None:
        found = evaluate("flag", USER, {("features", "flag"): None})
        assert result(found.detail) == (None, None, {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"})
        assert isinstance(found.failure, FlagNotFound)
        assert found.flag is None

    def test_an_unreachable_flag_is_an_exception(self) -> None:
        failure = StoreError("down")
        found = evaluate("flag", USER, {("features", "flag"): failure})
        assert result(found.detail) == (None, None, {"kind": "ERROR", "errorKind": "EXCEPTION"})
        assert found.failure is failure

    def test_an_unreadable_flag_is_malformed(self) -> None:
        failure = MalformedItem("not JSON")
        found = evaluate("flag", USER, {("features", "flag"): failure})
        assert result(found.detail) == malformed()
        assert found.failure is failure

    def test_a_good_flag_is_handed_back_and_has_no_failure(self) -> None:
        found = walk(flag())
        assert found.flag == flag()
        assert found.failure is None

    def test_an_answer_that_is_no_error_has_no_failure_although_a_prerequisite_had_one(self) -> None:
        found = walk(flag(prerequisites=[needs("p")]), flag("p", fallthrough={}))
        assert found.detail.reason["kind"] == "PREREQUISITE_FAILED"
        assert found.failure is None

    def test_the_failure_says_what_is_wrong(self) -> None:
        messages = {
            str(walk(flag(fallthrough={"variation": 7})).failure): "fallthrough serves variation 7, and there are 4",
            str(walk(flag(on=False, offVariation=-2)).failure): "off serves variation -2, and there are 4",
            str(walk(flag(rules=[rule(variation=9)])).failure): "rules[0] serves variation 9, and there are 4",
            str(walk(flag(fallthrough={})).failure): "fallthrough serves neither a variation nor a rollout",
            str(walk(flag(prerequisites=[needs("flag")])).failure): "of each other: flag -> flag",
        }
        for message, part in messages.items():
            assert part in message

    def test_the_items_and_the_context_are_left_as_they_are(self) -> None:
        flags = [flag(prerequisites=[needs("p")], rules=[SWITCH]), flag("p")]
        items = at_hand(*flags, segments=[everyone()])
        before = copy.deepcopy(items)
        evaluate("flag", USER, items)
        assert items == before

    def test_each_result_has_a_reason_of_its_own(self) -> None:
        items = at_hand(flag())
        evaluate("flag", USER, items).detail.reason["kind"] = "changed"
        assert evaluate("flag", USER, items).detail.reason == {"kind": "FALLTHROUGH"}


class TestWhatSpoilsWhom:
    """Something that cannot be had spoils those who need it, and no one else."""

    BAD: tuple[tuple[Exception, str], ...] = (
        (StoreError("down"), "EXCEPTION"),
        (MalformedItem("not JSON"), "MALFORMED_FLAG"),
    )

    @pytest.mark.parametrize(("bad", "error_kind"), BAD, ids=["store error", "malformed item"])
    @pytest.mark.parametrize(
        ("kind", "user"),
        [("features", flag(prerequisites=[needs("bad")])), ("segments", flag(rules=[rule(in_segment("bad"))]))],
        ids=["prerequisite", "segment"],
    )
    def test_one_that_is_needed_ends_it_all(self, bad: Exception, error_kind: str, kind: str, user: Item) -> None:
        for above in (user, flag(prerequisites=[needs("below")])):
            items = at_hand(above, user | {"key": "below"}) | {(kind, "bad"): bad}
            found = evaluate("flag", USER, items)
            assert result(found.detail) == (None, None, {"kind": "ERROR", "errorKind": error_kind})
            assert str(bad) in str(found.failure)

    @pytest.mark.parametrize(("bad", "error_kind"), BAD, ids=["store error", "malformed item"])
    def test_one_that_is_not_needed_does_no_harm(self, bad: Exception, error_kind: str) -> None:
        unneeded = [
            (OFF, flag(on=False, prerequisites=[needs("bad")])),
            (OFF, flag(prerequisites=[needs("p", MATCH), needs("bad")])),
            (MATCH, flag(targets=[{"variation": MATCH, "values": ["u"]}], rules=[rule(in_segment("bad"))])),
            (FALL, flag(rules=[rule(clause("key", "in", "x"), in_segment("bad"))])),
            (MATCH, flag(rules=[rule(), rule(in_segment("bad"))])),
            (MATCH, flag(rules=[rule(in_segment("segment", "bad"))])),
        ]
        for index, user in unneeded:
            items = at_hand(user, flag("p"), segments=[everyone()])
            found = evaluate("flag", USER, items | {("features", "bad"): bad, ("segments", "bad"): bad})
            assert (found.detail.variation_index, found.failure) == (index, None), user


def chain_of_flags(length: int) -> list[Item]:
    """Flags ``flag``, ``1``, ``2`` …, each but the last the prerequisite of the one before it."""
    keys = ["flag", *map(str, range(1, length))]
    needed = [*([needs(key)] for key in keys[1:]), []]
    return [flag(key, prerequisites=below) for key, below in zip(keys, needed, strict=True)]


def chain_of_segments(length: int, times: int = 1) -> list[Item]:
    """Segments ``0``, ``1``, …: everyone is in the last, and in each other by `times` clauses about the next."""
    chain = [
        segment(str(depth), rules=[{"clauses": [in_segment(str(depth + 1))] * times}]) for depth in range(length - 1)
    ]
    return [*chain, everyone(str(length - 1))]


class TestDepth:
    @pytest.mark.parametrize("length", [1, 2, 3, 10, MAX_DEPTH])
    def test_a_circle_of_flags_is_found_at_any_depth(self, length: int) -> None:
        chain = chain_of_flags(length)
        for back in chain:
            circle = [*chain[:-1], flag(chain[-1]["key"], prerequisites=[needs(back["key"])])]
            found = walk(*circle)
            assert result(found.detail) == malformed()
            assert "prerequisites of each other" in str(found.failure)

    @pytest.mark.parametrize("length", [1, 2, 3, 10, MAX_DEPTH])
    def test_a_circle_of_segments_is_found_at_any_depth(self, length: int) -> None:
        chain = chain_of_segments(length)
        for back in chain:
            last = segment(chain[-1]["key"], rules=[{"clauses": [in_segment(back["key"])]}])
            found = walk(flag(rules=[rule(in_segment("0"))]), segments=[*chain[:-1], last])
            assert result(found.detail) == malformed()
            assert "in a circle" in str(found.failure)

    def test_flags_may_be_as_deep_as_the_limit_and_no_deeper(self) -> None:
        assert serve(*chain_of_flags(MAX_DEPTH)).variation_index == FALL
        found = walk(*chain_of_flags(MAX_DEPTH + 1))
        assert result(found.detail) == malformed()
        assert f"more than {MAX_DEPTH} deep" in str(found.failure)

    def test_segments_may_be_as_deep_as_the_limit_and_no_deeper(self) -> None:
        user = flag(rules=[rule(in_segment("0"))])
        assert serve(user, segments=chain_of_segments(MAX_DEPTH)).variation_index == MATCH
        found = walk(user, segments=chain_of_segments(MAX_DEPTH + 1))
        assert result(found.detail) == malformed()
        assert f"more than {MAX_DEPTH} deep" in str(found.failure)

    def test_the_deepest_flags_may_use_the_deepest_segments(self) -> None:
        *chain, last = chain_of_flags(MAX_DEPTH)
        last["rules"] = [rule(in_segment("0"), variation=FALL)]
        assert serve(*chain, last, segments=chain_of_segments(MAX_DEPTH)).variation_index == FALL


class ItemsThatCount(dict[Any, Any]):
    """Items at hand; keeps count of the look-ups."""

    lookups = 0

    def get(self, key: Any, default: Any = None) -> Any:
        self.lookups += 1
        assert self.lookups < 10_000, "the walk takes exponential time"
        return super().get(key, default)


class TestDiamonds:
    """What is reached by many ways is walked once: forty doubled levels have 2**40 ways."""

    def counted(self, items: dict[Any, Any]) -> tuple[Evaluation, int]:
        counting = ItemsThatCount(items)
        return evaluate("flag", USER, counting), counting.lookups

    @pytest.mark.parametrize("last", [{}, {"prerequisites": [needs("lacking")]}], ids=["all at hand", "one lacking"])
    def test_of_flags(self, last: Item) -> None:
        chain = chain_of_flags(40)
        for above in chain[:-1]:
            above["prerequisites"] *= 2
        found, lookups = self.counted(at_hand(*chain[:-1], chain[-1] | last))
        assert lookups <= 2 * len(chain)
        assert list(found.lacks) == ([("features", "lacking")] if last else [])
        assert last or found.detail.variation_index == FALL

    @pytest.mark.parametrize("lacking", [[], [in_segment("lacking")]], ids=["all at hand", "one lacking"])
    def test_of_segments(self, lacking: list[Item]) -> None:
        chain = chain_of_segments(40, times=2)
        chain[-1]["rules"][0]["clauses"] = lacking
        found, lookups = self.counted(at_hand(flag(rules=[rule(in_segment("0"))]), segments=chain))
        assert lookups <= 2 * len(chain)
        assert list(found.lacks) == ([("segments", "lacking")] if lacking else [])
        assert lacking or found.detail.variation_index == MATCH

    def test_of_flags_that_share_a_segment(self) -> None:
        flags = [flag(str(number), rules=[rule(in_segment("0"), variation=FALL)]) for number in range(20)]
        user = flag(prerequisites=[needs(each["key"]) for each in flags])
        found, lookups = self.counted(at_hand(user, *flags, segments=chain_of_segments(30)))
        assert found.detail.variation_index == FALL
        assert lookups <= 1 + len(flags) + 30


class TestLacks:
    """A walk that lacks something names all that this context may need on this level, and no more."""

    def lacks(self, *flags: Item, context: Context = USER, segments: tuple[Item, ...] = ()) -> list[tuple[str, str]]:
        return list(walk(*flags, context=context, segments=segments).lacks)

    def test_the_flag_itself_may_be_lacking(self) -> None:
        assert list(evaluate("flag", USER, {}).lacks) == [("features", "flag")]

    def test_nothing_is_lacking_where_all_is_at_hand(self) -> None:
        assert self.lacks(flag()) == []

    def test_both_kinds_are_named_in_one_level(self) -> None:
        user = flag(prerequisites=[needs("p"), needs("q")], rules=[rule(in_segment("s")), rule(in_segment("t"))])
        assert self.lacks(user) == [
            ("features", "p"),
            ("features", "q"),
            ("segments", "s"),
            ("segments", "t"),
        ]

    def test_what_is_under_something_at_hand_is_named_beside_the_rest(self) -> None:
        user = flag(prerequisites=[needs("p"), needs("q")], rules=[rule(in_segment("s"))])
        below = flag("q", prerequisites=[needs("r")])
        nested = segment("s", rules=[{"clauses": [in_segment("t")]}, {"clauses": [in_segment("v")]}])
        assert self.lacks(user, below, segments=(nested,)) == [
            ("features", "p"),
            ("features", "r"),
            ("segments", "t"),
            ("segments", "v"),
        ]

    def test_each_is_named_once(self) -> None:
        user = flag(prerequisites=[needs("p"), needs("p")], rules=[rule(in_segment("s", "s")), rule(in_segment("s"))])
        assert self.lacks(user) == [("features", "p"), ("segments", "s")]

    @pytest.mark.parametrize(
        ("fields", "lacking"),
        [
            ({"on": False, "prerequisites": [needs("p")]}, []),
            ({"prerequisites": [needs("off"), needs("p")]}, []),
            ({"prerequisites": [needs("p"), needs("off"), needs("q")]}, ["p"]),
            ({"targets": [{"variation": MATCH, "values": ["u"]}], "rules": [SWITCH]}, []),
            ({"rules": [rule(), SWITCH]}, []),
            ({"rules": [rule(clause("key", "in", "x"), in_segment("s")), rule()]}, []),
            ({"rules": [rule(in_segment("s"), clause("key", "in", "x"), in_segment("t")), rule()]}, ["s"]),
            ({"rules": [rule(in_segment("s"), clause("key", "in", "u"), in_segment("t")), rule()]}, ["s", "t"]),
            ({"rules": [rule(in_segment("s")), rule(), rule(in_segment("t"))]}, ["s"]),
            ({"rules": [rule(in_segment("everyone", "s"))]}, []),
            ({"rules": [rule(in_segment("s", "everyone", "t"))]}, ["s"]),
            ({"rules": [rule(in_segment("s", negate=True)), rule(in_segment("t"))]}, ["s", "t"]),
        ],
    )
    def test_what_cannot_matter_is_not_named(self, fields: Item, lacking: list[str]) -> None:
        named = self.lacks(flag(**fields), flag("off", on=False), segments=(everyone("everyone"),))
        assert [key for _, key in named] == lacking

    def test_the_membership_of_a_big_segment_is_named_with_what_its_rules_may_need(self) -> None:
        big = segment("big", unbounded=True, generation=1, rules=[{"clauses": [in_segment("s")]}])
        assert self.lacks(flag(rules=[rule(in_segment("big"))]), segments=(big,)) == [
            ("memberships", "u"),
            ("segments", "s"),
        ]

    def test_an_error_at_hand_is_no_answer_while_something_before_it_is_lacking(self) -> None:
        user = flag(prerequisites=[needs("p"), needs("bad")])
        items = at_hand(user) | {("features", "bad"): MalformedItem("bad")}
        assert list(evaluate("flag", USER, items).lacks) == [("features", "p")]
        items |= at_hand(flag("p", on=False))
        assert evaluate("flag", USER, items).detail.reason == {"kind": "PREREQUISITE_FAILED", "prerequisiteKey": "p"}

    def test_an_error_below_a_lack_is_no_answer_either(self) -> None:
        user = flag(rules=[rule(in_segment("s")), rule(clause("", "in"))])
        assert self.lacks(user) == [("segments", "s")]
        assert serve(user, segments=[everyone("s")]).variation_index == MATCH
        assert result(serve(user, segments=[segment("s")])) == malformed()

    def test_a_target_or_rule_is_no_answer_while_a_prerequisite_is_lacking(self) -> None:
        for fields in (
            {"targets": [{"variation": MATCH, "values": ["u"]}]},
            {"rules": [rule()]},
            {"fallthrough": {"variation": 99}},
        ):
            user = flag(prerequisites=[needs("p", MATCH)], **fields)
            assert self.lacks(user) == [("features", "p")]
            assert serve(user, flag("p")).reason["kind"] == "PREREQUISITE_FAILED"

    @pytest.mark.parametrize(
        "fields",
        [
            {"targets": [{"variation": MATCH, "values": ["u"]}]},
            {"rules": [rule()]},
            {"fallthrough": {"variation": MATCH}},
        ],
        ids=["target", "rule", "fallthrough"],
    )
    def test_a_prerequisite_that_is_not_known_yet_does_not_hide_the_next_one(self, fields: Item) -> None:
        # What `a` would serve now would fail; once `p` has failed, its off variation is the wanted one.
        root = flag(prerequisites=[needs("a", OFF), needs("b")])
        assert self.lacks(root, flag("a", prerequisites=[needs("p")], **fields)) == [
            ("features", "p"),
            ("features", "b"),
        ]


class TestExperiments:
    """When a reason is always wanted (spec: evaluation, section 11)."""

    FLAG = flag(trackEventsFallthrough=True, rules=[rule(trackEvents=True), rule()])

    @pytest.mark.parametrize(
        ("reason", "wanted"),
        [
            ({"kind": "FALLTHROUGH"}, True),
            ({"kind": "RULE_MATCH", "ruleIndex": 0}, True),
            ({"kind": "RULE_MATCH", "ruleIndex": 1}, False),
            ({"kind": "RULE_MATCH", "ruleIndex": 1, "inExperiment": True}, True),
            ({"kind": "TARGET_MATCH"}, False),
            ({"kind": "OFF"}, False),
            ({"kind": "PREREQUISITE_FAILED", "prerequisiteKey": "p"}, False),
            ({"kind": "ERROR", "errorKind": "MALFORMED_FLAG"}, False),
        ],
    )
    def test_the_final_reason_decides(self, reason: Item, wanted: bool) -> None:
        assert is_experiment(self.FLAG, reason) is wanted

    def test_a_fallthrough_is_tracked_only_where_the_flag_says_so(self) -> None:
        assert not is_experiment(flag(trackEvents=True), {"kind": "FALLTHROUGH"})
        assert is_experiment(flag(), {"kind": "FALLTHROUGH", "inExperiment": True})
