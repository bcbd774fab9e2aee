"""Flags and segments in LaunchDarkly's JSON form, by keyword, and ways to hand them to the evaluator or a reader.

Every flag has the same variations, so that an answer tells how it came about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ldreader import Context, EvaluationDetail, FlagReader, MemoryRequester, StoreError
from ldreader.evaluator import Evaluation, evaluate
from ldreader.schema import FEATURES, MEMBERSHIPS, SEGMENTS, decode
from ldreader.segments import Membership

Item: TypeAlias = dict[str, Any]
ItemRef: TypeAlias = tuple[str, str]
Text: TypeAlias = bytes | str | StoreError

VARIATIONS = ["off", "fall", "match", "other"]
OFF, FALL, MATCH, OTHER = range(4)

USER = Context.create("u")
NO_MEMBERSHIPS: Mapping[str, Membership] = {}


def flag(key: str = "flag", **fields: Any) -> Item:
    """A flag that is on and falls through; an argument of `fields` that is ``...`` leaves its field out."""
    whole = {
        "key": key,
        "version": 1,
        "on": True,
        "variations": VARIATIONS,
        "offVariation": OFF,
        "fallthrough": {"variation": FALL},
        "salt": "salt",
    } | fields
    return {name: value for name, value in whole.items() if value is not ...}


def segment(key: str = "segment", **fields: Any) -> Item:
    """A segment, of nobody unless `fields` tell."""
    return {"key": key, "version": 1, "salt": "salt"} | fields


def everyone(key: str = "segment") -> Item:
    """A segment that everyone is in."""
    return segment(key, rules=[{"clauses": []}])


def clause(attribute: str, op: str, *values: Any, **fields: Any) -> Item:
    return {"attribute": attribute, "op": op, "values": list(values)} | fields


def in_segment(*keys: Any, **fields: Any) -> Item:
    return {"attribute": "", "op": "segmentMatch", "values": list(keys)} | fields


def rule(*clauses: Item, **fields: Any) -> Item:
    """A rule that serves MATCH unless `fields` tell."""
    served = {} if "rollout" in fields else {"variation": MATCH}
    return {"id": "rule-id", "clauses": list(clauses)} | served | fields


def needs(key: str, variation: int = FALL) -> Item:
    """A prerequisite; a flag made by `flag` meets it."""
    return {"key": key, "variation": variation}


def rollout(*shares: tuple[int, int], **fields: Any) -> Item:
    """What a rollout serves, by shares (variation, weight)."""
    return {"rollout": {"variations": [{"variation": index, "weight": weight} for index, weight in shares]} | fields}


def at_hand(
    *flags: Item,
    segments: Iterable[Item] = (),
    missing: Iterable[ItemRef] = (),
    memberships: Mapping[str, Membership] = NO_MEMBERSHIPS,
) -> dict[ItemRef, Any]:
    """Items as a request holds them; each goes through the decoder."""
    refs = [*((FEATURES, item) for item in flags), *((SEGMENTS, item) for item in segments)]
    items: dict[ItemRef, Any] = {
        (kind, item["key"]): decode((kind, item["key"]), json.dumps(item)) for kind, item in refs
    }
    items |= dict.fromkeys(missing)
    return items | {(MEMBERSHIPS, key): membership for key, membership in memberships.items()}


def walk(
    *flags: Item,
    context: Context | Item = USER,
    segments: Iterable[Item] = (),
    missing: Iterable[ItemRef] = (),
    memberships: Mapping[str, Membership] = NO_MEMBERSHIPS,
) -> Evaluation:
    """The walk over the first flag with exactly these items at hand."""
    asked_for = context if isinstance(context, Context) else Context.from_dict(context)
    return evaluate(
        flags[0]["key"], asked_for, at_hand(*flags, segments=segments, missing=missing, memberships=memberships)
    )


def serve(
    *flags: Item,
    context: Context | Item = USER,
    segments: Iterable[Item] = (),
    missing: Iterable[ItemRef] = (),
    memberships: Mapping[str, Membership] = NO_MEMBERSHIPS,
) -> EvaluationDetail:
    """The result for the first flag; these items, and no others, must be all that it takes."""
    evaluation = walk(*flags, context=context, segments=segments, missing=missing, memberships=memberships)
    assert not evaluation.lacks, f"looked for items that the test does not mention: {list(evaluation.lacks)}"
    return evaluation.detail


class CountingRequester(MemoryRequester):
    """Keeps note of what it was asked for: the references of each `get_many`, and the number of `get_all`."""

    def __init__(self, collections: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(collections)
        self.rounds: list[list[ItemRef]] = []
        self.reads_of_everything = 0

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, Text]:
        self.rounds.append(list(refs))
        return super().get_many(refs)

    def get_all(self) -> dict[str, dict[str, Text]]:
        self.reads_of_everything += 1
        return super().get_all()


def store(*flags: Item, segments: Iterable[Item] = ()) -> dict[str, dict[str, Any]]:
    """What a store holds, as JSON text."""
    return {
        FEATURES: {item["key"]: json.dumps(item) for item in flags},
        SEGMENTS: {item["key"]: json.dumps(item) for item in segments},
    }


def reader_of(*flags: Item, segments: Iterable[Item] = (), **options: Any) -> FlagReader:
    """A reader of a store with these items."""
    return FlagReader(MemoryRequester(store(*flags, segments=segments)), **options)


def result(detail: EvaluationDetail) -> tuple[Any, int | None, Item]:
    """What a detail holds, to be compared in one go."""
    return detail.value, detail.variation_index, detail.reason


def malformed(default: Any = None) -> tuple[Any, int | None, Item]:
    """The `result` of a flag that cannot be evaluated."""
    return default, None, {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"}


def same_json(left: Any, right: Any) -> bool:
    """JSON equality: 3 equals 3.0, and true does not equal 1, at any depth."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


def known_answers(file: str) -> list[Any]:
    """The cases of one of our own files, written from the specification."""
    cases: list[Any] = json.loads((Path(__file__).parent / "cases" / file).read_text(encoding="utf-8"))
    return cases


def serve_case(case: Item) -> EvaluationDetail:
    """The result for a case of ours: its flag ``flag``, with the items of the case and those it says are missing."""
    return serve(
        flag(**case.get("flag") or {}),
        *(flag(**fields) for fields in case.get("flags") or ()),
        context=case.get("context") or USER,
        segments=[segment(**fields) for fields in case.get("segments") or ()],
        missing=[(kind, key) for kind, key in case.get("missing") or ()],
        memberships={key: Membership(**fields) for key, fields in (case.get("memberships") or {}).items()},
    )


def expected(case: Item) -> tuple[Any, int | None, Item]:
    """The `result` that a case asks for; a value goes without saying where VARIATIONS has it."""
    index = case.get("index")
    value = case["value"] if "value" in case else None if index is None else VARIATIONS[index]
    return value, index, case["reason"]
