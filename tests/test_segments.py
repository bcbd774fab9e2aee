"""Which segments a context is in, big ones included (spec: evaluation, section 8)."""

from __future__ import annotations

import itertools

import pytest

from ldreader import EvaluationDetail, StoreError
from ldreader.evaluator import evaluate
from ldreader.segments import HEALTHY, NOT_CONFIGURED, STALE, STORE_ERROR, Membership
from tests.flags import (
    FALL,
    MATCH,
    USER,
    Item,
    at_hand,
    clause,
    everyone,
    flag,
    in_segment,
    known_answers,
    malformed,
    needs,
    reader_of,
    result,
    rule,
    segment,
    serve,
    serve_case,
    walk,
)

SEGMENTS = known_answers("segments.json")
BIG_SEGMENTS = known_answers("big_segments.json")

WORST_TO_BEST = (NOT_CONFIGURED, STORE_ERROR, STALE, HEALTHY)


def answer(case: Item) -> EvaluationDetail:
    """The result for a flag that serves MATCH to those in the segment."""
    matching = in_segment("segment") | case.get("clause", {})
    return serve_case(case | {"flag": {"rules": [{"clauses": [matching], "variation": MATCH}]}})


@pytest.mark.parametrize("case", SEGMENTS, ids=lambda case: case["name"])
def test_known_answers(case: Item) -> None:
    detail = answer(case)
    if case["in"] is None:
        assert result(detail) == malformed()
    else:
        assert detail.variation_index == (MATCH if case["in"] else FALL)
        assert "bigSegmentsStatus" not in detail.reason


@pytest.mark.parametrize("case", BIG_SEGMENTS, ids=lambda case: case["name"])
def test_known_answers_about_big_segments(case: Item) -> None:
    detail = answer(case)
    assert detail.variation_index == (MATCH if case["in"] else FALL)
    assert detail.reason.get("bigSegmentsStatus") == case["status"]
    assert ("bigSegmentsStatus" in detail.reason) is (case["status"] is not None)


def big(key: str = "big", **fields: object) -> Item:
    return segment(key, unbounded=True, generation=1, **fields)


def by_kind(kind: str) -> Item:
    return big(kind, unboundedContextKind=kind)


class TestKeys:
    def test_a_segment_goes_by_its_own_key_where_it_has_one(self) -> None:
        items = at_hand(flag(rules=[rule(in_segment("stored"))])) | {
            ("memberships", "u"): Membership({"own.g1": True}, HEALTHY)
        }
        items["segments", "stored"] = big("own")
        assert evaluate("flag", USER, items).detail.variation_index == MATCH

    def test_a_segment_without_a_key_goes_by_that_of_the_store(self) -> None:
        for nameless in ({"key": None}, {"key": ""}):
            items = at_hand(flag(rules=[rule(in_segment("big"))])) | {
                ("memberships", "u"): Membership({"big.g1": True}, HEALTHY)
            }
            items["segments", "big"] = big() | nameless
            assert evaluate("flag", USER, items).detail.variation_index == MATCH


class TestStatus:
    """How far big segments could be trusted stands in the reason, whatever the reason is."""

    CONTEXT = {"kind": "multi"} | {kind: {"key": kind} for kind in ("a", "b")}

    @pytest.mark.parametrize("statuses", list(itertools.product(WORST_TO_BEST, repeat=2)))
    def test_the_worst_of_several_is_kept(self, statuses: tuple[str, str]) -> None:
        memberships = {kind: Membership({}, status) for kind, status in zip("ab", statuses, strict=True)}
        detail = serve(
            flag(rules=[rule(in_segment("a", "b"))]),
            context=self.CONTEXT,
            segments=[by_kind("a"), by_kind("b")],
            memberships=memberships,
        )
        assert detail.reason == {
            "kind": "FALLTHROUGH",
            "bigSegmentsStatus": min(statuses, key=WORST_TO_BEST.index),
        }

    def test_one_that_is_not_looked_at_does_not_count(self) -> None:
        found = serve(
            flag(rules=[rule(in_segment("a", "b"))]),
            context=self.CONTEXT,
            segments=[by_kind("a"), by_kind("b")],
            memberships={"a": Membership({"a.g1": True}, HEALTHY), "b": Membership(None, STORE_ERROR)},
        )
        assert found.reason["bigSegmentsStatus"] == HEALTHY

    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({"rules": [rule(in_segment("big"))]}, "RULE_MATCH"),
            ({"rules": [rule(in_segment("big", negate=True))]}, "FALLTHROUGH"),
            ({"prerequisites": [needs("p", MATCH)]}, "FALLTHROUGH"),
            ({"prerequisites": [needs("p", FALL)]}, "PREREQUISITE_FAILED"),
            (
                {"prerequisites": [needs("p", MATCH)], "targets": [{"variation": MATCH, "values": ["u"]}]},
                "TARGET_MATCH",
            ),
            ({"rules": [rule(in_segment("big"), variation=9)]}, "ERROR"),
            ({"rules": [rule(in_segment("big"), clause("", "in"))]}, "ERROR"),
            ({"prerequisites": [needs("p", MATCH), needs("flag")]}, "ERROR"),
        ],
    )
    def test_it_is_kept_in_whatever_reason_results(self, fields: Item, kind: str) -> None:
        found = walk(
            flag(**fields),
            flag("p", rules=[rule(in_segment("big"))]),
            segments=[big()],
            memberships={"u": Membership({"big.g1": True}, STALE)},
        )
        assert not found.lacks
        assert found.detail.reason["kind"] == kind
        assert found.detail.reason["bigSegmentsStatus"] == STALE

    def test_it_is_kept_when_the_store_fails_afterwards(self) -> None:
        items = at_hand(
            flag(rules=[rule(in_segment("big", "bad"))]),
            segments=[big()],
            memberships={"u": Membership({}, STALE)},
        )
        found = evaluate("flag", USER, items | {("segments", "bad"): StoreError("down")})
        assert found.detail.reason == {"kind": "ERROR", "errorKind": "EXCEPTION", "bigSegmentsStatus": STALE}

    def test_the_status_of_a_walk_that_lacked_something_is_not_kept(self) -> None:
        # The first walk meets the big segment; the answer, once `s` is at hand, does not depend on it.
        user = flag(rules=[rule(in_segment("s")), rule(in_segment("big"))])
        memberships = {"u": Membership({}, STALE)}
        assert walk(user, segments=[big()], memberships=memberships).lacks
        detail = serve(user, segments=[big(), everyone("s")], memberships=memberships)
        assert "bigSegmentsStatus" not in detail.reason


class TestAReaderWithoutABigSegmentStore:
    def test_leaves_it_to_the_rules_and_says_not_configured(self) -> None:
        user = flag(rules=[rule(in_segment("big"))])
        for rules, index, kind in (
            ([], FALL, {"kind": "FALLTHROUGH"}),
            ([{"clauses": []}], MATCH, {"kind": "RULE_MATCH", "ruleIndex": 0, "ruleId": "rule-id"}),
        ):
            reader = reader_of(user, segments=[big(rules=rules, included=["u"])])
            detail = reader.variation_detail("flag", USER, None)
            assert detail.variation_index == index
            assert detail.reason == kind | {"bigSegmentsStatus": NOT_CONFIGURED}

    def test_says_so_in_the_state_of_all_flags(self) -> None:
        reader = reader_of(flag(rules=[rule(in_segment("big"))]), segments=[big()])
        state = reader.all_flags_state(USER, with_reasons=True)
        assert state.get_flag_reason("flag") == {"kind": "FALLTHROUGH", "bigSegmentsStatus": NOT_CONFIGURED}
