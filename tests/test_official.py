"""ldreader answers as the official Python SDK does, but for the differences that are named here.

``worlds.py`` makes what is compared. ``LDREADER_FUZZ`` says how many comparisons the long test makes, and
``LDREADER_FUZZ_SEED`` with which seed it begins.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import BigSegmentsConfig, Config
from ldclient.feature_store import CacheConfig, InMemoryFeatureStore
from ldclient.feature_store_helpers import CachingStoreWrapper
from ldclient.integrations import Redis
from ldclient.interfaces import FeatureStoreCore
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from ldreader import Context, FlagReader
from ldreader.requesters.memory import MemoryRequester
from tests import worlds
from tests.servers import RedisServer
from tests.worlds import Item, Items

DEFAULT = "the default"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # Both log each malformed flag, and many of these flags are.
    for name in ("ldclient", "ldclient.util", "ldclient.flag", "ldreader"):
        caplog.set_level(logging.CRITICAL + 1, name)


@contextmanager
def official_client(store: Any) -> Iterator[LDClient]:
    """The official SDK in daemon mode, reading this store."""
    client = LDClient(Config("sdk-key", use_ldd=True, feature_store=store, send_events=False))
    try:
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]


def answer(detail: Any) -> Item:
    """What the caller of either library gets."""
    return {"value": detail.value, "index": detail.variation_index, "reason": detail.reason}


def exactly(value: object) -> str:
    """A text that only the same JSON has; to Python, 1, 1.0 and True are equal."""
    return json.dumps(value, sort_keys=True)


class Pair:
    """Both libraries over the same world in memory."""

    def __init__(self, client: LDClient, store: InMemoryFeatureStore) -> None:
        self._client = client
        self._store = store

    def load(self, flags: Items, segments: Items) -> None:
        """Gives both this world in place of the one before."""
        self._store.init({FEATURES: flags, SEGMENTS: segments})  # type: ignore[no-untyped-call]
        self._reader = FlagReader(MemoryRequester({"features": _texts(flags), "segments": _texts(segments)}))

    def answers(self, context: Item, keys: Iterable[str]) -> Iterator[tuple[str, Item, Item]]:
        """Each key with the official answer and ours."""
        official = OfficialContext.from_dict(context)
        with self._reader.request(context) as ours:
            for key in keys:
                yield (
                    key,
                    answer(self._client.variation_detail(key, official, DEFAULT)),
                    answer(ours.variation_detail(key, DEFAULT)),
                )

    def official_reason(self, context: Item, key: str) -> Item:
        """The official reason alone."""
        reason: Item = self._client.variation_detail(key, OfficialContext.from_dict(context), DEFAULT).reason
        return reason


def _texts(items: Items) -> dict[str, str]:
    return {key: json.dumps(item) for key, item in items.items()}


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both libraries, to be loaded with worlds."""
    store = InMemoryFeatureStore()  # type: ignore[no-untyped-call]
    with official_client(store) as client:
        yield Pair(client, store)


def report(pair: Pair, seed: object, flags: Items, segments: Items, context: Item, key: str) -> str:
    """A difference in words, with no more of its world than it needs."""

    def answers(flags: Items, segments: Items, context: Item) -> tuple[Item, Item]:
        pair.load(flags, segments)
        ((_, official, ours),) = pair.answers(context, [key])
        return official, ours

    def essence(flags: Items, segments: Items, context: Item) -> str:
        """Both answers, less the number of the rule, so that the rules before it can go."""
        both = answers(flags, segments, context)
        return exactly([one | {"reason": one["reason"] | {"ruleIndex": 0}} for one in both])

    small = copy.deepcopy((flags, segments, context))
    wanted = essence(*small)

    def still_so() -> bool:
        try:
            return essence(*small) == wanted
        except (KeyError, ValueError):
            return False  # The official SDK refuses to load it.

    while sum(shrink(part, still_so) for part in small):
        pass
    official, ours = answers(*small)
    lines = {"flags": small[0], "segments": small[1], "context": small[2], "official": official, "ours": ours}
    shown = "\n".join(f"  {name:<8}  {json.dumps(value, ensure_ascii=False)}" for name, value in lines.items())
    return f"seed {seed!r}, flag {key!r}:\n{shown}"


def shrink(holder: Any, still_so: Callable[[], bool]) -> bool:
    """Takes out of a list or object what `still_so` does without; True when there was anything."""
    shrunk = False
    for at in list(holder) if isinstance(holder, dict) else reversed(range(len(holder))):
        removed = holder.pop(at)
        if still_so():
            shrunk = True
            continue
        if isinstance(holder, dict):
            holder[at] = removed
        else:
            holder.insert(at, removed)
        if isinstance(removed, (dict, list)):
            shrunk = shrink(removed, still_so) or shrunk
    return shrunk


class TestOneWorldInRedis:
    """A world that the official SDK wrote into Redis, read from there by both."""

    SEED = "seventeen"
    FLAGS = 66
    CONTEXTS = 220

    def test_every_flag_gives_every_context_the_same_answer(self, redis_server: RedisServer, pair: Pair) -> None:
        flags, segments = worlds.world(self.SEED, self.FLAGS)
        contexts = worlds.contexts(self.SEED, self.CONTEXTS)
        assert sum(not flag.get("deleted") for flag in flags.values()) >= 50
        assert sum(Context.from_dict(context).valid for context in contexts) >= 200
        Redis.new_feature_store(redis_server.url, prefix="official").init({FEATURES: flags, SEGMENTS: segments})
        reading_store = Redis.new_feature_store(redis_server.url, prefix="official")
        keys = [*flags, "no-such-flag"]
        different = []
        with (
            official_client(reading_store) as client,
            FlagReader.from_url(
                f"{redis_server.url}?prefix=official",
                big_segments=BigSegmentsConfig(),  # none, as for the other
            ) as reader,
        ):
            for number, context in enumerate(contexts):
                official_context = OfficialContext.from_dict(context)
                with reader.request(context) as request:
                    for key in keys:
                        official = client.variation_detail(key, official_context, DEFAULT)
                        # Now and then as one evaluation that is a request of its own.
                        alone = number % 10 == 0
                        ours = (
                            reader.variation_detail(key, context, DEFAULT)
                            if alone
                            else request.variation_detail(key, DEFAULT)
                        )
                        if exactly(answer(official)) != exactly(answer(ours)):
                            different.append((context, key))
        shown = [report(pair, self.SEED, flags, segments, context, key) for context, key in different[:3]]
        assert not different, f"{len(different)} answers differ\n" + "\n".join(shown)

    def test_its_answers_are_of_every_kind(self, pair: Pair) -> None:
        flags, segments = worlds.world(self.SEED, self.FLAGS)
        pair.load(flags, segments)
        kinds: Counter[str] = Counter()
        experiments: Counter[tuple[str, bool]] = Counter()
        big_segments: Counter[tuple[str, bool]] = Counter()
        for context in worlds.contexts(self.SEED, self.CONTEXTS):
            for key in [*flags, "no-such-flag"]:
                reason = pair.official_reason(context, key)
                kind = reason.get("errorKind") or reason["kind"]
                kinds[kind] += 1
                experiments[kind, "inExperiment" in reason] += 1
                big_segments[kind, "bigSegmentsStatus" in reason] += 1
        assert set(kinds) == {
            "OFF",
            "FALLTHROUGH",
            "TARGET_MATCH",
            "RULE_MATCH",
            "PREREQUISITE_FAILED",
            "MALFORMED_FLAG",
            "FLAG_NOT_FOUND",
            "USER_NOT_SPECIFIED",
        }
        for kind in ("FALLTHROUGH", "RULE_MATCH"):
            assert experiments[kind, True] > 0
            assert experiments[kind, False] > 0
        for kind in ("TARGET_MATCH", "FALLTHROUGH", "RULE_MATCH", "PREREQUISITE_FAILED", "MALFORMED_FLAG"):
            assert big_segments[kind, True] > 0
            assert big_segments[kind, False] > 0
        assert kinds["FALLTHROUGH"] + kinds["OFF"] < 0.4 * kinds.total()

    def test_its_clauses_are_true_and_false_by_every_operator(self, pair: Pair) -> None:
        flags, segments = worlds.world(self.SEED, self.FLAGS)
        contexts = worlds.contexts(self.SEED, self.CONTEXTS)
        clauses = [clause for item in (*flags.values(), *segments.values()) for clause in worlds.clauses_in(item)]
        # Alone in a rule and not negated, a clause shows that its operator holds; negated, that it does not, and not
        # merely that there was nothing to compare.
        probes = {
            f"{number} {clause['op']} {negate}": flag_with(clause | {"negate": negate})
            for number, clause in enumerate(clauses)
            for negate in (False, True)
        }
        pair.load(probes, segments)
        seen = {
            (probes[key]["rules"][0]["clauses"][0]["op"], not probes[key]["rules"][0]["clauses"][0]["negate"])
            for key in probes
            for context in contexts[:60]
            if pair.official_reason(context, key)["kind"] == "RULE_MATCH"
        }
        operators = {*worlds.OPERATORS, "segmentMatch"}
        assert {op for op, holds in seen if not holds} == operators
        assert {op for op, holds in seen if holds} == operators - {worlds.UNKNOWN_OPERATOR}


class TestManyWorlds:
    """Small worlds, one after the other, in memory."""

    FLAGS = 25
    SEGMENTS = 14
    CONTEXTS = 8

    def test_every_flag_gives_every_context_the_same_answer(self, pair: Pair) -> None:
        wanted = int(os.environ.get("LDREADER_FUZZ") or 5000)
        seed = int(os.environ.get("LDREADER_FUZZ_SEED") or 0)
        compared = 0
        reports: list[str] = []
        while compared < wanted and len(reports) < 3:
            flags, segments = worlds.world(seed, self.FLAGS, self.SEGMENTS)
            pair.load(flags, segments)
            different = []
            before = compared
            for context in worlds.contexts(seed, self.CONTEXTS):
                for key, official, ours in pair.answers(context, flags):
                    compared += 1
                    if exactly(official) != exactly(ours):
                        different.append((context, key))
            reports += [report(pair, seed, flags, segments, context, key) for context, key in different[:1]]
            seed += 1
            if compared // 10_000 > before // 10_000:
                print(f"{compared} comparisons, {len(reports)} worlds with differences, next seed {seed}", flush=True)
        assert not reports, "\n".join(reports)

    def test_a_difference_is_reported_with_no_more_than_it_needs(self, pair: Pair) -> None:
        flags, segments = worlds.world("to be left out", self.FLAGS, self.SEGMENTS)
        flags["flag"] = flag_with(
            {"attribute": "key", "op": "in", "values": ["bob"]},
            {"attribute": "x", "op": "in", "values": ["y", {"a": 1}], "negate": False},
        )
        context = {"kind": "user", "key": "bob", "x": [1, {"a": 1}], "name": "Bob"}
        lines = report(pair, 7, flags, segments, context, "flag").splitlines()
        assert lines[0] == "seed 7, flag 'flag':"
        shown = {name: json.loads(text) for name, text in (line.strip().split("  ", 1) for line in lines[1:])}
        (clause,) = shown["flags"]["flag"]["rules"][0]["clauses"]
        assert clause == {"attribute": "x", "op": "in", "values": [{"a": 1}]}
        assert list(shown["flags"]) == ["flag"]
        assert shown["segments"] == {}
        assert shown["context"] == {"kind": "user", "key": "bob", "x": [{"a": 1}]}
        assert shown["official"]["reason"]["kind"] == "RULE_MATCH"
        assert shown["ours"]["reason"]["kind"] == "FALLTHROUGH"


# The differences. Each is asserted on both sides, so that a new release of the official SDK shows up here.


def flag(**fields: Any) -> Item:
    """A flag that serves "a" to everyone."""
    return {
        "key": "flag",
        "version": 1,
        "on": True,
        "salt": "salty",
        "variations": ["a", "b"],
        "fallthrough": {"variation": 0},
    } | fields


def flag_with(*clauses: Item) -> Item:
    """A flag that serves "b" to whom the clauses match."""
    return flag(rules=[{"id": "rule", "clauses": list(clauses), "variation": 1}])


def flag_in_segment() -> Item:
    """A flag that serves "b" to the members of the segment "segment"."""
    return flag_with({"attribute": "", "op": "segmentMatch", "values": ["segment"]})


def flag_rolling(*weights: float, **fields: Any) -> Item:
    """A flag whose fallthrough is a rollout with these weights."""
    variations = [{"variation": index, "weight": weight} for index, weight in enumerate(weights)]
    return flag(fallthrough={"rollout": {"variations": variations} | fields})


def flag_after(*prerequisites: str) -> Item:
    """A flag that serves "a" when these serve their first variation, else "b"."""
    return flag(prerequisites=[{"key": key, "variation": 0} for key in prerequisites], offVariation=1)


def segment(**fields: Any) -> Item:
    """A segment with nobody in it."""
    return {"key": "segment", "version": 1, "salt": "salty"} | fields


def without(item: Item, name: str) -> Item:
    """The item less one field."""
    return {key: value for key, value in item.items() if key != name}


def user(**attributes: Any) -> Item:
    """A context of the kind user."""
    return {"kind": "user", "key": "ada"} | attributes


def serves(value: Any, index: Any, kind: str, **more: Any) -> Item:
    """The answer with a variation."""
    return {"value": value, "index": index, "reason": {"kind": kind} | more}


def fails(error_kind: str, **more: Any) -> Item:
    """The answer with an error."""
    return serves(DEFAULT, None, "ERROR", errorKind=error_kind, **more)


MATCHES = serves("b", 1, "RULE_MATCH", ruleIndex=0, ruleId="rule")
FALLS_THROUGH = serves("a", 0, "FALLTHROUGH")
MALFORMED = fails("MALFORMED_FLAG")
EXCEPTION = fails("EXCEPTION")
NOT_FOUND = fails("FLAG_NOT_FOUND")
HUGE = 10**400


@dataclass(frozen=True)
class Difference:
    """One deliberate difference: what it is, where the specification names it, and who answers what."""

    what: str
    named_in: str
    flag: Item | str
    """The flag, or its text where that is the point."""
    official: Item
    ours: Item
    context: Item = field(default_factory=user)
    segment: Item | str | None = None
    others: Mapping[str, Item | str] = field(default_factory=dict)
    """Other flags."""

    def __str__(self) -> str:
        return self.what


def lenient_date(text: str) -> Difference:
    """A date that only Python's ISO parser takes."""
    clause = {"attribute": "date", "op": "before", "values": [4_000_000_000_000]}
    return Difference(
        f"a date of another form than RFC 3339 is none: {text}",
        "evaluation, section 7",
        flag_with(clause),
        official=MATCHES,
        ours=FALLS_THROUGH,
        context=user(date=text),
    )


def not_compared(what: str, clause_value: Any, attribute: Any) -> Difference:
    """A value that `in` finds equal there only."""
    return Difference(
        f"`in` compares booleans, numbers and strings only, not {what}",
        "evaluation, section 7",
        flag_with({"attribute": "x", "op": "in", "values": [clause_value]}),
        official=MATCHES,
        ours=FALLS_THROUGH,
        context=user(x=attribute),
    )


def huge_number(op: str, clause_value: int, attribute: int, ours: Item) -> Difference:
    """An integer that no double can hold."""
    side = "clause" if clause_value == HUGE else "context"
    return Difference(
        f"an integer beyond the doubles is infinite to `{op}` ({side})",
        "evaluation, section 7",
        flag_with({"attribute": "x", "op": op, "values": [clause_value]}),
        official=EXCEPTION,
        ours=ours,
        context=user(x=attribute),
    )


def sparse(what: str, item: Item, ours: Item, segment: Item | None = None) -> Difference:
    """Data that lacks what has a default."""
    return Difference(
        f"the default applies to {what}",
        "store schemas, sections 11 to 13",
        item,
        official=EXCEPTION,
        ours=ours,
        segment=segment,
    )


def integral(what: str, item: Item, ours: Item) -> Difference:
    """An integer written with a fraction of zero."""
    return Difference(f"{what} may be written 1.0", "store schemas, section 13", item, official=EXCEPTION, ours=ours)


def wrong_type(what: str, item: Item, ours: Item = MALFORMED) -> Difference:
    """A field of another type, which the official SDK calls an exception, reached or not."""
    return Difference(what, "store schemas, section 13; design, section 3.2", item, official=EXCEPTION, ours=ours)


def unreadable(what: str, text: str, official: Item) -> list[Difference]:
    """A text that is no flag or segment, in all places where one is read."""
    named_in = "store schemas, section 14; design, section 3.5"
    failed = serves("b", 1, "PREREQUISITE_FAILED", prerequisiteKey="other")
    found = official != NOT_FOUND
    return [
        Difference(f"a flag that is {what} is malformed", named_in, text, official, MALFORMED),
        Difference(
            f"a segment that is {what} makes the flag malformed",
            named_in,
            flag_in_segment(),
            official if found else FALLS_THROUGH,
            MALFORMED,
            segment=text,
        ),
        Difference(
            f"a prerequisite that is {what} makes the flag malformed",
            named_in,
            flag_after("other"),
            official if found else failed,
            MALFORMED,
            others={"other": text},
        ),
    ]


def chain_of_flags(length: int) -> dict[str, Item | str]:
    """Flags that are prerequisites of each other in a row, from "0"."""
    following = [flag_after(str(number + 1)) for number in range(length - 1)]
    return {str(number): item | {"key": str(number)} for number, item in enumerate([*following, flag()])}


INVALID_REFERENCE = {"attribute": "//", "op": "in", "values": ["x"], "contextKind": "org"}

DIFFERENCES = [
    # Reasons
    Difference(
        "a rule without an id has no ruleId",
        "evaluation, section 10",
        flag(rules=[{"clauses": [], "variation": 1}]),
        official=serves("b", 1, "RULE_MATCH", ruleIndex=0, ruleId=None),
        ours=serves("b", 1, "RULE_MATCH", ruleIndex=0),
    ),
    Difference(
        "an empty id is none",
        "evaluation, section 10",
        flag(rules=[{"id": "", "clauses": [], "variation": 1}]),
        official=serves("b", 1, "RULE_MATCH", ruleIndex=0, ruleId=""),
        ours=serves("b", 1, "RULE_MATCH", ruleIndex=0),
    ),
    Difference(
        "an aborted evaluation keeps the status of big segments",
        "evaluation, section 8.1",
        flag_with(
            {"attribute": "", "op": "segmentMatch", "values": ["segment"], "negate": True},
            {"attribute": "", "op": "in", "values": ["x"]},
        ),
        official=MALFORMED,
        ours=fails("MALFORMED_FLAG", bigSegmentsStatus="NOT_CONFIGURED"),
        segment=segment(unbounded=True),
    ),
    # A context without the kind
    Difference(
        "a rollout by an absent kind serves the first variation that has a weight",
        "evaluation, section 9",
        flag_rolling(0, 100000, contextKind="org"),
        official=FALLS_THROUGH,
        ours=serves("b", 1, "FALLTHROUGH"),
    ),
    Difference(
        "a rollout by an absent kind serves the last variation when none has a weight",
        "evaluation, section 9",
        flag_rolling(0, 0, contextKind="org"),
        official=FALLS_THROUGH,
        ours=serves("b", 1, "FALLTHROUGH"),
    ),
    *(
        Difference(
            f"a segment rule weighted by an absent kind does not match (weight {weight})",
            "evaluation, section 8",
            flag_in_segment(),
            official=MATCHES,
            ours=FALLS_THROUGH,
            segment=segment(rules=[{"clauses": [], "weight": weight, "rolloutContextKind": "org"}]),
        )
        for weight in (0, 100000)
    ),
    Difference(
        "an invalid reference is an error although the clause's kind is absent",
        "evaluation, section 2",
        flag_with(INVALID_REFERENCE),
        official=FALLS_THROUGH,
        ours=MALFORMED,
    ),
    Difference(
        "an empty attribute is an error although there is no user",
        "evaluation, section 2",
        flag_with({"attribute": "", "op": "in", "values": ["x"]}),
        official=FALLS_THROUGH,
        ours=MALFORMED,
        context={"kind": "org", "key": "acme"},
    ),
    Difference(
        "an invalid bucketBy is an error although the rollout's kind is absent",
        "evaluation, section 2",
        flag_rolling(100000, contextKind="org", bucketBy="//"),
        official=FALLS_THROUGH,
        ours=MALFORMED,
    ),
    Difference(
        "an invalid bucketBy is an error although the segment rule's kind is absent",
        "evaluation, section 2",
        flag_in_segment(),
        official=MATCHES,
        ours=MALFORMED,
        segment=segment(rules=[{"clauses": [], "weight": 1, "rolloutContextKind": "org", "bucketBy": "//"}]),
    ),
    Difference(
        "`/kind` beside a context kind is an attribute of that context alone",
        "evaluation, section 6",
        flag_with({"attribute": "/kind", "contextKind": "user", "op": "in", "values": ["org"]}),
        official=MATCHES,
        ours=FALLS_THROUGH,
        context={"kind": "multi", "user": {"key": "ada"}, "org": {"key": "acme"}},
    ),
    # Prerequisites and targets
    Difference(
        "a prerequisite that buckets by an invalid reference fails",
        "evaluation, section 4",
        flag_after("other"),
        official=MALFORMED,
        ours=serves("b", 1, "PREREQUISITE_FAILED", prerequisiteKey="other"),
        others={"other": flag_rolling(100000, contextKind="user", bucketBy="//") | {"key": "other"}},
    ),
    Difference(
        "more than fifty prerequisites in a row are malformed",
        "design, section 3.2",
        flag_after("0"),
        official=FALLS_THROUGH,
        ours=MALFORMED,
        others=chain_of_flags(60),
    ),
    Difference(
        "thousands of prerequisites in a row are malformed",
        "design, section 3.2",
        flag_after("0"),
        official=EXCEPTION,
        ours=MALFORMED,
        others=chain_of_flags(3000),
    ),
    Difference(
        "contextTargets for users may list keys of their own",
        "evaluation, section 5",
        flag(contextTargets=[{"contextKind": "user", "variation": 1, "values": ["ada"]}]),
        official=FALLS_THROUGH,
        ours=serves("b", 1, "TARGET_MATCH"),
    ),
    Difference(
        "contextTargets for users with keys of their own do not point at targets",
        "evaluation, section 5",
        flag(
            targets=[{"variation": 1, "values": ["ada"]}],
            contextTargets=[{"contextKind": "user", "variation": 1, "values": ["bob"]}],
        ),
        official=serves("b", 1, "TARGET_MATCH"),
        ours=FALLS_THROUGH,
    ),
    # Values
    not_compared("objects", {"a": 1}, {"a": 1}),
    not_compared("arrays", [1], [[1]]),
    not_compared("null", None, [None]),
    huge_number("lessThan", HUGE, 1, MATCHES),
    huge_number("greaterThanOrEqual", HUGE, 1, FALLS_THROUGH),
    huge_number("lessThanOrEqual", 1, HUGE, FALLS_THROUGH),
    huge_number("greaterThan", 1, HUGE, MATCHES),
    huge_number("before", HUGE, 1, MATCHES),
    huge_number("after", 1, HUGE, MATCHES),
    *map(
        lenient_date,
        (
            "2017-12-06 00:00:00Z",
            "20171206T000000Z",
            "2017-12-06T00:00Z",
            "2017-12-06T00:00:00+0000",
            "2017-12-06T00:00:00+00",
            "2017-12-06T00:00:00+00:00:30",
            "2017-12-06T00:00:00,5Z",
            "2017-12-06T00:00:00.1234567890Z",
            "2017-W49-3T00:00:00Z",
        ),
    ),
    Difference(
        "RFC 3339 has a year 0",
        "evaluation, section 7",
        flag_with({"attribute": "date", "op": "before", "values": [0]}),
        official=FALLS_THROUGH,
        ours=MATCHES,
        context=user(date="0000-01-01T00:00:00Z"),
    ),
    Difference(
        "nanoseconds count",
        "evaluation, section 7",
        flag_with({"attribute": "date", "op": "after", "values": ["2017-12-06T00:00:00.000000001Z"]}),
        official=FALLS_THROUGH,
        ours=MATCHES,
        context=user(date="2017-12-06T00:00:00.000000002Z"),
    ),
    Difference(
        "milliseconds that are the same double are different instants",
        "evaluation, section 7",
        flag_with({"attribute": "date", "op": "before", "values": [2**53 + 1]}),
        official=FALLS_THROUGH,
        ours=MATCHES,
        context=user(date=2**53),
    ),
    Difference(
        "an integral float is bucketed as the integer",
        "evaluation, section 9",
        flag_rolling(50000, 50000, bucketBy="account") | {"key": "hashKey", "salt": "saltyA"},
        official=FALLS_THROUGH,
        ours=serves("b", 1, "FALLTHROUGH"),
        context=user(account=33333.0),
    ),
    Difference(
        "a lone surrogate in a key can be bucketed",
        "evaluation, section 9",
        flag_rolling(100000),
        official=EXCEPTION,
        ours=FALLS_THROUGH,
        context=user(key="\ud800"),
    ),
    Difference(
        "a segmentMatch value that is no string is skipped",
        "evaluation, section 6",
        flag_with({"attribute": "", "op": "segmentMatch", "values": [["segment"], "segment"]}),
        official=EXCEPTION,
        ours=MATCHES,
        segment=segment(included=["ada"]),
    ),
    Difference(
        "an attribute without a name is ignored",
        "evaluation, section 1",
        flag(),
        official=fails("USER_NOT_SPECIFIED"),
        ours=FALLS_THROUGH,
        context={"": 1, **user()},
    ),
    # Tombstones
    Difference(
        "a tombstone needs no version",
        "store schemas, section 5",
        '{"deleted": true}',
        official=EXCEPTION,
        ours=NOT_FOUND,
    ),
    Difference(
        "a segment's tombstone needs no version",
        "store schemas, section 5",
        flag_in_segment(),
        official=EXCEPTION,
        ours=FALLS_THROUGH,
        segment='{"deleted": true}',
    ),
    Difference(
        "a prerequisite's tombstone needs no version",
        "store schemas, section 5",
        flag_after("other"),
        official=EXCEPTION,
        ours=serves("b", 1, "PREREQUISITE_FAILED", prerequisiteKey="other"),
        others={"other": '{"deleted": true}'},
    ),
    # Sparse data
    sparse("every field of a flag", {}, serves(DEFAULT, None, "OFF")),
    sparse("a flag's version", without(flag(), "version"), FALLS_THROUGH),
    sparse("a flag's key", without(flag(), "key"), FALLS_THROUGH),
    sparse("every field of a segment", flag_in_segment(), FALLS_THROUGH, segment={}),
    sparse("a rule's clauses", flag(rules=[{"id": "rule", "variation": 1}]), MATCHES),
    sparse("a rule's clauses, null", flag(rules=[{"id": "rule", "variation": 1, "clauses": None}]), MATCHES),
    sparse("a target's values", flag(targets=[{"variation": 1}]), FALLS_THROUGH),
    sparse("a clause's values", flag_with({"attribute": "key", "op": "in", "negate": True}), MATCHES),
    sparse("a clause's op", flag_with({"attribute": "key", "values": ["ada"], "negate": True}), MATCHES),
    sparse("a clause's attribute, which is then an error", flag_with({"op": "in", "values": ["ada"]}), MALFORMED),
    sparse(
        "the attribute of a clause that asks for a segment",
        flag_with({"op": "segmentMatch", "values": ["segment"]}),
        MATCHES,
        segment=segment(included=["ada"]),
    ),
    sparse("a rollout's variations, which is then an error", flag(fallthrough={"rollout": {}}), MALFORMED),
    # Numbers
    integral("a variation", flag(fallthrough={"variation": 1.0}), serves("b", 1, "FALLTHROUGH")),
    integral("a weight", flag_rolling(100000.0), FALLS_THROUGH),
    integral("an offVariation", flag(on=False, offVariation=1.0), serves("b", 1, "OFF")),
    integral("a version", flag(version=1.0), FALLS_THROUGH),
    # Wrong types
    wrong_type("a list that is a number", flag(rules=7)),
    wrong_type("a boolean that is a number", flag(on=1)),
    wrong_type("an index that is no integer", flag(fallthrough={"variation": 1.5})),
    wrong_type("an operator that is a number", flag_with({"attribute": "key", "op": 7, "values": ["ada"]})),
    wrong_type("a prerequisite without a variation", flag(prerequisites=[{"key": "flag-2"}])),
    wrong_type(
        "a wrong type in a place that is not reached does no harm",
        flag(on=False, offVariation=1, rules=7),
        serves("b", 1, "OFF"),
    ),
    wrong_type("a wrong type in a field that evaluation does not use does no harm", flag(trackEvents=7), FALLS_THROUGH),
    Difference(
        "a boolean is no index",
        "store schemas, section 13; design, section 3.2",
        flag(fallthrough={"variation": True}),
        official=serves("b", True, "FALLTHROUGH"),
        ours=MALFORMED,
    ),
    # What cannot be read
    *unreadable("not JSON", "{", EXCEPTION),
    *unreadable("empty", "", EXCEPTION),
    *unreadable("a number", "7", EXCEPTION),
    *unreadable("null", "null", NOT_FOUND),
    Difference(
        "NaN is not JSON",
        "store schemas, section 14",
        json.dumps(flag(variations=[float("nan")])),
        official=serves(float("nan"), 0, "FALLTHROUGH"),
        ours=MALFORMED,
    ),
]


class TextStore(FeatureStoreCore):  # type: ignore[misc,unused-ignore]
    """Items as text, behind the official SDK's own wrapper for databases."""

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        self._texts = texts

    def get_internal(self, kind: Any, key: str) -> Any:
        text = self._texts[kind.namespace].get(key)
        return None if text is None else json.loads(text)

    def get_all_internal(self, callback: Any) -> Any:
        raise NotImplementedError

    def init_internal(self, all_data: Any) -> Any:
        raise NotImplementedError

    def upsert_internal(self, kind: Any, item: Any) -> Any:
        raise NotImplementedError

    def initialized_internal(self) -> bool:
        return True


class TestDeliberateDifferences:
    @pytest.mark.parametrize("difference", DIFFERENCES, ids=str)
    def test_the_answers_differ_as_the_specification_says(self, difference: Difference) -> None:
        if difference.what.startswith("a date of another form") and sys.version_info < (3, 11):
            pytest.skip("there, too, dates are read more strictly on Python 3.10")
        items: dict[str, dict[str, Item | str]] = {
            "features": {**difference.others, "flag": difference.flag},
            "segments": {} if difference.segment is None else {"segment": difference.segment},
        }
        texts = {
            kind: {key: item if isinstance(item, str) else json.dumps(item) for key, item in collection.items()}
            for kind, collection in items.items()
        }
        reader = FlagReader(MemoryRequester(texts))
        ours = answer(reader.variation_detail("flag", difference.context, DEFAULT))
        with official_client(CachingStoreWrapper(TextStore(texts), CacheConfig.disabled())) as client:
            context = OfficialContext.from_dict(difference.context)
            official = answer(client.variation_detail("flag", context, DEFAULT))
        assert exactly(ours) == exactly(difference.ours), f"ldreader; see {difference.named_in}"
        assert exactly(official) == exactly(difference.official), "the official SDK has changed"
        assert exactly(ours) != exactly(official)

    @pytest.mark.parametrize("key", [7, None])
    def test_a_key_that_is_no_string_makes_a_context_invalid(self, key: Any) -> None:
        # Evaluation, section 1.
        assert not Context.create(key).valid
        assert OfficialContext.create(key).valid

    @pytest.mark.parametrize("value", [[], 7, "ada"])
    def test_a_context_that_is_no_object_is_invalid_and_raises_nothing(self, value: Any) -> None:
        # Evaluation, section 1.
        assert not Context.from_dict(value).valid
        with pytest.raises((AttributeError, TypeError)):
            OfficialContext.from_dict(value)
