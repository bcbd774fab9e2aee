"""Data that is not as it should be: the answer is MALFORMED_FLAG or right, and never an exception.

`TestEachNodeReplaced` puts each kind of JSON in the place of each node of some rich flags and segments, and judges the
answers without looking at the code under test:

- Where the document stays within the schema (spec: store schemas, sections 11 and 12), the official answer is right.
- A null is right when it answers as its absence does; an odd element of a list of keys, when it answers as its absence.
- Where the document leaves the schema, the answer is MALFORMED_FLAG, or the document's own, the node not being reached.
  A node is surely reached if some change to it that stays within the schema changes the answer: then only
  MALFORMED_FLAG will do.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.versioned_data_kind import FEATURES as OFFICIAL_FEATURES
from ldclient.versioned_data_kind import SEGMENTS as OFFICIAL_SEGMENTS

from ldreader import FlagReader, MemoryRequester, StoreError
from ldreader.schema import dumps
from tests.flags import (
    FALL,
    MATCH,
    OFF,
    OTHER,
    USER,
    Item,
    clause,
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
from tests.test_schema import TOMBSTONES

Path: TypeAlias = tuple[str | int, ...]
Documents: TypeAlias = dict[str, dict[str, Any]]

# The schema, written again from the specification: a type, or a list or object of types. "any" is any JSON; "keys" a
# list whose odd elements match nothing; a name that ends in "!" has no default, so that null is no value for it.
_TARGET = {"contextKind": str, "variation!": int, "values": "keys"}
_KEYS_BY_KIND = {"contextKind": str, "values": "keys"}
_CLAUSE = {"contextKind": str, "attribute": str, "op": str, "values": "any", "negate": bool}
_ROLLOUT = {
    "kind": str,
    "contextKind": str,
    "variations": [{"variation!": int, "weight!": int, "untracked": bool}],
    "bucketBy": str,
    "seed": int,
}
_SERVED = {"variation": int, "rollout": _ROLLOUT}
SCHEMA: dict[str, dict[str, Any]] = {
    "features": {
        "key": str,
        "version": int,
        "deleted": bool,
        "on": bool,
        "variations": ["any"],
        "offVariation": int,
        "fallthrough": _SERVED,
        "prerequisites": [{"key": str, "variation!": int}],
        "targets": [_TARGET],
        "contextTargets": [_TARGET],
        "rules": [{"id": str, "clauses": [_CLAUSE], "trackEvents": bool} | _SERVED],
        "salt": str,
        "trackEvents": bool,
    },
    "segments": {
        "key": str,
        "version": int,
        "deleted": bool,
        "included": "keys",
        "excluded": "keys",
        "includedContexts": [_KEYS_BY_KIND],
        "excludedContexts": [_KEYS_BY_KIND],
        "rules": [{"clauses": [_CLAUSE], "weight": int, "bucketBy": str, "rolloutContextKind": str}],
        "salt": str,
        "unbounded": bool,
        "unboundedContextKind": str,
        "generation": int,
    },
}


def fits(value: Any, schema: Any) -> bool:
    """True if the value is within the schema; a null is judged by the object that holds it."""
    if schema == "any":
        return True
    if schema == "keys":
        return isinstance(value, list) and all(isinstance(element, str) for element in value)
    if isinstance(schema, list):
        return isinstance(value, list) and all(fits(element, schema[0]) for element in value)
    if isinstance(schema, dict):
        return isinstance(value, dict) and all(_member_fits(value, name, schema[name]) for name in schema)
    return type(value) is schema


def _member_fits(holder: Item, name: str, schema: Any) -> bool:
    value = holder.get(name.rstrip("!"))
    if schema == "any" and value is not None:
        return isinstance(value, list)
    return not name.endswith("!") if value is None else fits(value, schema)


def spelt_out(value: Any, schema: Any) -> Any:
    """The value with absent lists and texts written as empty ones, which the official SDK demands."""
    if isinstance(schema, list):
        return [spelt_out(element, schema[0]) for element in value]
    if not isinstance(schema, dict) or not isinstance(value, dict):
        return value
    types = {name.rstrip("!"): schema[name] for name in schema}
    lists: Item = {name: [] for name in types if types[name] in ("keys", "any") or isinstance(types[name], list)}
    texts = dict.fromkeys({"key", "attribute", "op"} & types.keys(), "")
    whole: Item = lists | texts | {name: member for name, member in value.items() if member is not None}
    return {name: spelt_out(member, types.get(name)) for name, member in whole.items()}


def nodes(value: Any, path: Path = ()) -> Iterator[Path]:
    """Each place below the top of a document."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in members:
        yield (*path, step)
        yield from nodes(member, (*path, step))


def holder_of(documents: Any, path: Path) -> Any:
    for step in path[:-1]:
        documents = documents[step]
    return documents


def replaced(documents: Documents, path: Path, value: Any) -> Documents:
    changed = copy.deepcopy(documents)
    holder_of(changed, path)[path[-1]] = value
    return changed


def removed(documents: Documents, path: Path) -> Documents:
    changed = copy.deepcopy(documents)
    del holder_of(changed, path)[path[-1]]
    return changed


ODD: tuple[Any, ...] = (None, True, False, 0, 1, 7, 1.5, "", "x", "user", "org", [], ["x"], {}, {"x": 1})

BY_ORG = {"contextKind": "org", "attribute": "/plan/name"}

WORLDS: dict[str, Documents] = {
    "targets": {
        "features": {
            "flag": flag(
                targets=[{"variation": OTHER, "values": ["t1", "u"]}, {"variation": OFF, "values": ["u", "t2"]}],
                contextTargets=[
                    {"contextKind": "org", "variation": MATCH, "values": ["none", "o2"]},
                    {"contextKind": "user", "variation": OFF, "values": []},
                    {"contextKind": "user", "variation": OTHER, "values": []},
                ],
                deleted=False,
                trackEvents=True,
            )
        },
        "segments": {},
    },
    "rules": {
        "features": {
            "flag": flag(
                targets=[{"variation": OTHER, "values": ["t2"]}],
                rules=[
                    rule(clause("email", "endsWith", "@example.com", 7), clause("n", "lessThan", 5, negate=False)),
                    rule(clause("kind", "in", "user", negate=True), clause("n", "in", 1, contextKind="user")),
                    rule({"op": "in", "values": ["gold", "silver"], "negate": True} | BY_ORG, variation=OFF),
                ],
            )
        },
        "segments": {},
    },
    "prerequisites": {
        "features": {
            "flag": flag(prerequisites=[needs("p", MATCH), needs("q")], rules=[rule()], offVariation=OTHER),
            "p": flag("p", rules=[rule(clause("key", "in", "u", "t2"))], prerequisites=[needs("q")]),
            "q": flag("q", targets=[{"variation": OFF, "values": ["t2"]}]),
        },
        "segments": {},
    },
    "off": {
        "features": {
            "flag": flag(prerequisites=[needs("p")], offVariation=None),
            "p": flag("p", on=False, offVariation=FALL),
        },
        "segments": {},
    },
    "segments": {
        "features": {"flag": flag(rules=[rule(in_segment("s", "big", "excluding"))])},
        "segments": {
            "s": segment(
                "s",
                included=["t1", "u"],
                includedContexts=[{"contextKind": "org", "values": ["none", "o2"]}],
                excludedContexts=[{"contextKind": "org", "values": ["o2"]}],
                rules=[
                    {"clauses": [clause("n", "in", 2, 4)], "weight": None},
                    {"clauses": [clause("n", "in", 7)], "weight": 2000, "bucketBy": "n"},
                    {"clauses": [], "weight": 20000, "rolloutContextKind": "user"},
                    {"clauses": [in_segment("nested", negate=True), clause("n", "in", 9)]},
                ],
                deleted=False,
                unbounded=False,
            ),
            "big": segment("big", unbounded=True, generation=1, unboundedContextKind="org", rules=[]),
            "excluding": segment(
                "excluding",
                excluded=["t2", "t3"],
                excludedContexts=[{"contextKind": "org", "values": ["o", "o2"]}],
                rules=[{"clauses": []}],
            ),
            "nested": segment("nested", included=["t2", "t3"]),
        },
    },
    "rollouts": {
        "features": {
            "flag": flag(
                "flag",
                rules=[
                    rule(
                        clause("kind", "in", "org"),
                        **rollout((0, 20000), (1, 30000), (3, 50000), contextKind="org", bucketBy="/n", kind="rollout"),
                    ),
                    rule(clause("n", "greaterThan", 3), **rollout((2, 40000), (3, 60000), kind="experiment", seed=61)),
                ],
                fallthrough=rollout((0, 10000), (1, 30000), (2, 60000), bucketBy="email"),
            ),
        },
        "segments": {},
    },
}

CONTEXTS: tuple[Item, ...] = (
    {"kind": "user", "key": "u", "email": "u@example.com", "n": 3},
    {"kind": "user", "key": "t2", "n": 7},
    {"kind": "user", "key": "t3", "email": "t3@example.com", "n": 9},
    {"kind": "org", "key": "o2", "n": 33333, "plan": {"name": "free"}},
    {"kind": "multi", "user": {"key": "t5"}, "org": {"key": "o"}},
    {"kind": "multi", "user": {"key": "t9", "n": 1}, "org": {"key": "o", "n": 5, "plan": {"name": "free"}}},
)

NEVER_REACHED = {
    "features.version",
    "features.trackEvents",
    "segments.version",
}
"""Places that no evaluation looks at."""


def told(detail: Any) -> str:
    """What either library answers, as text."""
    reason = dict(detail.reason)
    if reason["kind"] == "ERROR":
        reason.pop("bigSegmentsStatus", None)  # The official SDK drops it there; `test_segments` is about it.
    return json.dumps((detail.value, detail.variation_index, reason))


class Judge:
    """Answers by both libraries, as JSON text, remembered by document."""

    def __init__(self, client: LDClient, official_store: InMemoryFeatureStore) -> None:
        self._client = client
        self._store = official_store
        self._ours: dict[str, list[str]] = {}

    def ours(self, documents: Documents) -> list[str]:
        """Our answer for each context."""
        texts = {kind: {key: json.dumps(item) for key, item in items.items()} for kind, items in documents.items()}
        known = json.dumps(texts)
        if known not in self._ours:
            reader = FlagReader(MemoryRequester(texts))
            self._ours[known] = [told(reader.variation_detail("flag", each, "D")) for each in CONTEXTS]
        return self._ours[known]

    def official(self, documents: Documents) -> list[str]:
        """The official answer for each context."""
        features, segments = (
            {key: spelt_out(item, SCHEMA[kind]) for key, item in documents[kind].items()} for kind in SCHEMA
        )
        self._store.init({OFFICIAL_FEATURES: features, OFFICIAL_SEGMENTS: segments})  # type: ignore[no-untyped-call]
        contexts = map(OfficialContext.from_dict, CONTEXTS)
        return [told(self._client.variation_detail("flag", context, "D")) for context in contexts]


@contextmanager
def judge() -> Iterator[Judge]:
    official_store = InMemoryFeatureStore()  # type: ignore[no-untyped-call]
    client = LDClient(Config("sdk-key", use_ldd=True, feature_store=official_store, send_events=False))
    try:
        yield Judge(client, official_store)
    finally:
        client.close()  # type: ignore[no-untyped-call]


MALFORMED = json.dumps(malformed("D"))


def valid(documents: Documents) -> bool:
    return all(fits(item, SCHEMA[kind]) for kind, items in documents.items() for item in items.values())


class Change:
    """One value in the place of one node, and the answers that are right then, for each context."""

    def __init__(self, judge: Judge, documents: Documents, path: Path, value: Any) -> None:
        self._judge = judge
        self._documents = documents
        self._path = path
        self._value = value
        self._changed = replaced(documents, path, value)
        self.ours = judge.ours(self._changed)

    def right(self, reached: list[bool]) -> list[set[str]]:
        as_removed = [{answer} for answer in self._judge.ours(removed(self._documents, self._path))]
        if self._means_nothing():
            return as_removed
        if valid(self._changed):
            return [self._official(answer) for answer in self._judge.official(self._changed)]
        if self._is_an_odd_key():
            return as_removed
        own = self._judge.ours(self._documents)
        if isinstance(self._value, dict) and isinstance(holder_of(self._documents, self._path)[self._path[-1]], dict):
            # An object is wanted, and what this one lacks may not be reached.
            return [
                {MALFORMED, *pair}
                for pair in zip(own, self._judge.ours(removed(self._documents, self._path)), strict=True)
            ]
        return [{MALFORMED} if sure else {MALFORMED, answer} for answer, sure in zip(own, reached, strict=True)]

    def _means_nothing(self) -> bool:
        """A null, where there is a default, and what the specification recommends to skip."""
        name, *above = reversed(self._path)
        if self._value is None and isinstance(name, str):
            return valid(self._changed)
        if name == "key" and self._value == "":
            return len(above) == 2  # An item without a key of its own goes by the store's.
        if above[0] == "values" and "clauses" in above:
            clause_of = holder_of(self._documents, self._path[:-1])
            return clause_of["op"] == "segmentMatch" and not isinstance(self._value, str)
        return False

    def _is_an_odd_key(self) -> bool:
        return self._path[-2] in ("included", "excluded", "values") and not isinstance(self._value, str)

    def _official(self, answer: str) -> set[str]:
        """The official answer, but for what is recommended over it."""
        if "clauses" in self._path[:-1]:
            at = self._path.index("clauses") + 2
            tested = holder_of(self._changed, (*self._path[:at], "op"))
            if not tested.get("attribute") and tested.get("op") != "segmentMatch":
                return {answer, MALFORMED}  # An invalid reference is an error, be the kind there or not (section 2).
        if self._path[-3:] == ("contextTargets", 1, "values"):
            return {answer, *self._judge.ours(removed(self._documents, self._path[:-1]))}  # "x" is no one (section 5).
        if self._path[-1] == "rolloutContextKind":
            # A context without the kind is in no share of it (section 8).
            return {answer, *self._judge.ours(removed(self._documents, self._path[:-1]))}
        return {answer.replace(', "ruleId": ""', "")}  # A rule with an empty id has none.


def surely_reached(judge: Judge, documents: Documents, path: Path) -> list[bool]:
    """For each context, whether a change to the node that stays within the schema changes the answer."""
    alternatives = [replaced(documents, path, value) for value in ODD] + [removed(documents, path)]
    answers = [judge.ours(changed) for changed in alternatives if valid(changed)]
    own = judge.ours(documents)
    return [any(each[at] != own[at] for each in answers) for at in range(len(CONTEXTS))]


@pytest.fixture(scope="module")
def answers() -> Iterator[Judge]:
    with judge() as both:
        yield both


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("ldclient", "ldclient.util", "ldclient.flag", "ldreader"):
        caplog.set_level(logging.CRITICAL + 1, name)


class TestEachNodeReplaced:
    """By each kind of JSON."""

    @pytest.mark.parametrize("name", WORLDS)
    def test_the_worlds_answer_as_the_official_sdk_does(self, answers: Judge, name: str) -> None:
        assert valid(WORLDS[name])
        assert answers.ours(WORLDS[name]) == answers.official(WORLDS[name])

    @pytest.mark.parametrize("name", WORLDS)
    def test_the_answer_is_right_or_malformed(self, answers: Judge, name: str) -> None:
        documents = WORLDS[name]
        outcomes = {"malformed": 0, "right": 0}
        for path in nodes(documents):
            if len(path) < 3:
                continue  # a whole item: below
            reached = surely_reached(answers, documents, path)
            for value in ODD:
                change = Change(answers, documents, path, value)
                for context, ours, right in zip(CONTEXTS, change.ours, change.right(reached), strict=True):
                    assert ours in right, f"{path} = {value!r} for {context}"
                    outcomes["malformed" if ours == MALFORMED else "right"] += 1
        assert min(outcomes.values()) > 500

    def test_nearly_every_place_is_reached_in_some_world(self, answers: Judge) -> None:
        """Else the test above would allow too much."""
        reached: dict[str, bool] = {}
        for documents in WORLDS.values():
            for path in nodes(documents):
                if len(path) > 2:
                    place = ".".join("[]" if isinstance(step, int) else step for step in (path[0], *path[2:]))
                    reached[place] = reached.get(place, False) or any(surely_reached(answers, documents, path))
        assert {place for place in reached if not reached[place]} == NEVER_REACHED

    @pytest.mark.parametrize("name", WORLDS)
    def test_the_state_of_all_flags_keeps_its_other_flags(self, name: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL + 1, "ldreader")
        documents = copy.deepcopy(WORLDS[name])
        documents["features"]["good"] = flag("good")
        for path in [each for each in nodes(documents) if len(each) > 1 and "good" not in each]:
            for value in ODD:
                reader = FlagReader(MemoryRequester(replaced(documents, path, value)))
                for context in CONTEXTS[::4]:
                    state = json.loads(reader.all_flags_state(context, False, True, True).to_json_string())
                    assert (state["good"], state["$valid"]) == ("fall", True), f"{path} = {value!r}"
                    assert set(state) <= {"flag", "p", "q", "good", "$flagsState", "$valid"}


UNREADABLE: dict[str, bytes | str] = {
    "empty": "",
    "no JSON": "not JSON",
    "cut off": '{"key": "bad", "on": tr',
    "NaN": '{"on": true, "x": NaN}',
    "Infinity": '{"on": true, "x": -Infinity}',
    "invalid UTF-8": b'{"on": true, "key": "\xff\xfe"}',
    "nested too deeply": '{"x":' + "[" * 100_000,
    "too many digits": '{"version": ' + "9" * 5000 + "}",
    "null": "null",
    "true": "true",
    "a number": "7",
    "a text": '"on"',
    "a list": '[{"on": true}]',
    "deleted of a wrong type": '{"deleted": "true", "on": true}',
}

ROLES = {
    "flag": ("features", "bad"),
    "prerequisite": ("features", "needs it"),
    "segment": ("segments", "asks it"),
}
"""As what an item is met: the kind it is stored as, and the flag that meets it."""


def around(kind: str, stored: bytes | str | Item) -> Documents:
    """A store with the item ``bad``, a flag for each role, and one that needs neither."""
    collections = store(
        flag("good"),
        flag("needs it", prerequisites=[needs("bad")]),
        flag("asks it", rules=[rule(in_segment("bad"))]),
    )
    collections[kind]["bad"] = stored
    return collections


class TestWholeItems:
    """One that cannot be read, or was deleted, never spoils another."""

    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE)
    def test_an_unreadable_one_is_malformed_for_those_who_need_it(
        self, stored: bytes | str, role: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        kind, asked = ROLES[role]
        caplog.set_level(logging.WARNING, "ldreader")
        with FlagReader(MemoryRequester(around(kind, stored))).request(USER) as request:
            assert result(request.variation_detail(asked, "D")) == malformed("D")
            assert request.variation("good", "D") == "fall"
        (record,) = caplog.records
        assert (record.levelname, record.exc_info) == ("ERROR", None)
        assert f"{'flag' if kind == 'features' else 'segment'} 'bad'" in record.getMessage()

    @pytest.mark.parametrize("kind", ["features", "segments"])
    @pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE)
    def test_an_unreadable_one_is_skipped_in_the_state_of_all_flags(self, stored: bytes | str, kind: str) -> None:
        state = FlagReader(MemoryRequester(around(kind, stored))).all_flags_state(USER, with_reasons=True)
        spoilt, spared = ("needs it", "asks it") if kind == "features" else ("asks it", "needs it")
        assert state.valid
        assert set(state.to_values_map()) == {"good", "needs it", "asks it"}
        assert state.get_flag_reason(spoilt) == malformed()[2]
        assert state.get_flag_reason(spared) != malformed()[2]
        assert state.get_flag_value("good") == "fall"

    @pytest.mark.parametrize("stored", TOMBSTONES.values(), ids=TOMBSTONES)
    def test_a_deleted_one_is_as_none(self, stored: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.ERROR, "ldreader")
        outcomes = {
            "flag": ("D", None, {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"}),
            "prerequisite": ("off", OFF, {"kind": "PREREQUISITE_FAILED", "prerequisiteKey": "bad"}),
            "segment": ("fall", FALL, {"kind": "FALLTHROUGH"}),
        }
        for role, (kind, asked) in ROLES.items():
            reader = FlagReader(MemoryRequester(around(kind, stored)))
            assert result(reader.variation_detail(asked, USER, "D")) == outcomes[role]
            state = reader.all_flags_state(USER)
            assert set(state.to_values_map()) == {"good", "needs it", "asks it"}
            if role != "flag":
                assert state.get_flag_value(asked) == outcomes[role][0]
        assert caplog.records == []


class TestSparseJson:
    """What is absent or null takes the default."""

    @pytest.mark.parametrize(
        ("fields", "right"),
        [
            ("", ("D", None, {"kind": "OFF"})),
            ('"on": true', malformed("D")),
            ('"variations": [5], "offVariation": 0', (5, 0, {"kind": "OFF"})),
            ('"on": true, "variations": [5], "fallthrough": {"variation": 0}', (5, 0, {"kind": "FALLTHROUGH"})),
            (
                '"on": true, "variations": [5], "rules": [{"variation": 0}]',
                (5, 0, {"kind": "RULE_MATCH", "ruleIndex": 0}),
            ),
            (
                '"on": true, "variations": [5], "fallthrough": {"variation": 0}, "targets": [{"variation": 0}],'
                ' "rules": [{"clauses": [{"attribute": "key"}]}, {"clauses": [{"op": "segmentMatch"}]}]',
                (5, 0, {"kind": "FALLTHROUGH"}),
            ),
        ],
    )
    def test_of_a_flag(self, fields: str, right: tuple[Any, int | None, Item]) -> None:
        for text in (f"{{{fields}}}", f'{{{fields}{", " if fields else ""}"new": {{"on": [1]}}, "also new": null}}'):
            assert (
                result(FlagReader(MemoryRequester({"features": {"f": text}})).variation_detail("f", USER, "D")) == right
            )

    def test_every_field_with_a_default_may_be_null_or_absent(self) -> None:
        """Removed one at a time from the worlds above, in `TestEachNodeReplaced`; here all at once."""
        names = [name for name in SCHEMA["features"] if name not in ("on", "variations", "fallthrough")]
        rest = {"on": True, "variations": ["x"], "fallthrough": {"variation": 0}}
        null_names = [name for name in SCHEMA["segments"] if name != "rules"]
        null_rule = dict.fromkeys(SCHEMA["segments"]["rules"][0])
        segments = {
            "s": dict.fromkeys(null_names) | {"rules": [null_rule]},
            "t": dict.fromkeys(SCHEMA["segments"]),
            "v": {},
        }
        matching = {
            "op": "segmentMatch",
            "values": ["v", "t", "s"],
            "attribute": None,
            "negate": None,
            "contextKind": None,
        }
        for flag_of, right in (
            (rest | dict.fromkeys(names), {"kind": "FALLTHROUGH"}),
            (rest | {"rules": [{"clauses": [matching], "variation": 0}]}, {"kind": "RULE_MATCH", "ruleIndex": 0}),
        ):
            reader = FlagReader(MemoryRequester({"features": {"f": flag_of}, "segments": segments}))
            assert result(reader.variation_detail("f", USER, "D")) == ("x", 0, right)
            assert reader.all_flags_state(USER).to_json_dict()["$flagsState"]["f"] == {"variation": 0, "version": 0}

    def test_empty_texts_are_no_error(self) -> None:
        segments = [segment("s", included=[""], includedContexts=[{"contextKind": "", "values": [""]}], salt="")]
        texts: Item = {"salt": "", "targets": [{"contextKind": "", "variation": 0, "values": [""]}]}
        rules = [rule(in_segment("", "s")), rule(clause("key", "", ""), id="")]
        served = rollout((FALL, 100_000), kind="", contextKind="", bucketBy="")
        reader = reader_of(flag(rules=rules, fallthrough=served, **texts), segments=segments)
        assert result(reader.variation_detail("flag", USER, "D")) == ("fall", FALL, {"kind": "FALLTHROUGH"})
        assert reader_of(flag(prerequisites=[needs("")])).variation("flag", USER, "D") == "off"


class TestNoListIsMatchedByAccident:
    """Python finds a key in a text and in an object, too."""

    @pytest.mark.parametrize("instead", ["u", "a u b", {"u": True}, {"u": None}], ids=repr)
    @pytest.mark.parametrize(
        ("flag_fields", "segment_fields"),
        [
            ({"targets": [{"variation": MATCH, "values": ...}]}, {}),
            ({"targets": ..., "rules": [rule()]}, {}),
            ({"contextTargets": ...}, {}),
            ({"contextTargets": [{"variation": MATCH, "values": ...}]}, {}),
            ({"contextTargets": [{"variation": 0}], "targets": [{"variation": 0, "values": ...}]}, {}),
            ({"rules": [rule({"attribute": "key", "op": "in", "values": ...})]}, {}),
            ({"rules": [rule({"attribute": "key", "op": "contains", "values": ...})]}, {}),
            ({"rules": [rule({"attribute": "kind", "op": "in", "values": ...})]}, {}),
            ({"rules": [rule({"op": "segmentMatch", "values": ...})]}, {}),
            ({"rules": [{"variation": MATCH, "clauses": ...}]}, {}),
            ({"variations": ...}, {}),
            ({"prerequisites": ...}, {}),
            ({"fallthrough": {"rollout": {"variations": ...}}}, {}),
            ({"rules": [rule(in_segment("segment"))]}, {"included": ...}),
            ({"rules": [rule(in_segment("segment"))]}, {"excluded": ...}),
            ({"rules": [rule(in_segment("segment"))]}, {"includedContexts": ...}),
            ({"rules": [rule(in_segment("segment"))]}, {"includedContexts": [{"values": ...}]}),
            ({"rules": [rule(in_segment("segment"))]}, {"excludedContexts": [{"values": ...}]}),
            ({"rules": [rule(in_segment("segment"))]}, {"rules": ...}),
            ({"rules": [rule(in_segment("segment"))]}, {"rules": [{"clauses": ...}]}),
        ],
        ids=str,
    )
    def test_what_stands_where_a_list_belongs_is_malformed(
        self, flag_fields: Item, segment_fields: Item, instead: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.ERROR, "ldreader")
        documents = [flag() | filled(flag_fields, instead), segment() | filled(segment_fields, instead)]
        reader = reader_of(documents[0], segments=documents[1:])
        assert result(reader.variation_detail("flag", USER, "D")) == malformed("D")
        assert f" must be a list, not {'an object' if isinstance(instead, dict) else repr(instead)}" in caplog.text


def filled(value: Any, gap: Any) -> Any:
    """The value with `gap` in the place of each ``...``."""
    if isinstance(value, dict):
        return {name: filled(member, gap) for name, member in value.items()}
    if isinstance(value, list):
        return [filled(element, gap) for element in value]
    return gap if value is ... else value


class TestTheLogNamesThePlace:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"rules": [rule(clause("key", "in", "x")), rule({"attribute": "key", "op": "in", "values": 7})]},
                "flag 'checkout': rules[1].clauses[0].values must be a list, not 7",
            ),
            ({"on": "true"}, "flag 'checkout': on must be true or false, not 'true'"),
            (
                {"prerequisites": [{"key": "p"}]},
                "flag 'checkout': prerequisites[0].variation must be an integer, and is missing",
            ),
            ({"prerequisites": [7]}, "flag 'checkout': prerequisites[0] must be an object, not 7"),
            (
                {"prerequisites": [needs("worse")]},
                "flag 'worse': rules[0].clauses[0].negate must be true or false, not 1",
            ),
            ({"fallthrough": {"variation": 1.5}}, "flag 'checkout': fallthrough.variation must be an integer, not 1.5"),
            (
                {"fallthrough": {"rollout": {"variations": [{"weight": 1}]}}},
                "flag 'checkout': fallthrough.rollout.variations[0].variation must be an integer, and is missing",
            ),
            ({"rules": [rule(in_segment("bad"))]}, "segment 'bad': includedContexts[1].values must be a list, not 'u'"),
            ({"rules": [rule(id=[])]}, "flag 'checkout': rules[0].id must be a string, not a list"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_in_full(self, fields: Item, message: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.ERROR, "ldreader")
        worse = flag("worse", rules=[rule(clause("key", "in", "u", negate=1))])
        bad = segment("bad", includedContexts=[{"values": ["x"]}, {"values": "u"}])
        reader = reader_of(flag("checkout", **fields), worse, segments=[bad])
        assert result(reader.variation_detail("checkout", USER, "D")) == malformed("D")
        assert [record.getMessage() for record in caplog.records] == [f"flag 'checkout' gives the default: {message}"]


class TestNumbersAndDepth:
    HUGE = 10**4000

    def test_a_huge_number_is_a_number(self) -> None:
        for fields in ({"version": self.HUGE}, {"fallthrough": rollout((1, 100_000), seed=self.HUGE)}):
            assert reader_of(flag(**fields)).variation("flag", USER, "D") == "fall"
        big = segment("big", unbounded=True, generation=self.HUGE, rules=[{"clauses": []}])
        assert reader_of(flag(rules=[rule(in_segment("big"))]), segments=[big]).variation("flag", USER, "D") == "match"
        for index in (self.HUGE, -self.HUGE):
            detail = reader_of(flag(fallthrough={"variation": index})).variation_detail("flag", USER, "D")
            assert result(detail) == malformed("D")

    def test_one_beyond_a_double_is_no_integer(self) -> None:
        text = dumps(flag(fallthrough={"variation": "?"})).replace('"?"', "1e999")
        assert result(
            FlagReader(MemoryRequester({"features": {"f": text}})).variation_detail("f", USER, "D")
        ) == malformed("D")

    @pytest.mark.parametrize(
        ("fields", "served"),
        [
            ({"fallthrough": rollout((OTHER, HUGE), (OFF, 1))}, "other"),
            ({"fallthrough": rollout((OFF, -HUGE), (OTHER, 1))}, "other"),
            ({"rules": [rule(in_segment("most"))]}, "match"),
            ({"rules": [rule(in_segment("none"))]}, "fall"),
        ],
        ids=["rollout", "negative rollout", "segment", "negative segment"],
    )
    def test_a_huge_weight_is_a_weight(self, fields: Item, served: str) -> None:
        segments = [
            segment("most", rules=[{"clauses": [], "weight": self.HUGE}]),
            segment("none", rules=[{"clauses": [], "weight": -self.HUGE}]),
        ]
        assert reader_of(flag(**fields), segments=segments).variation("flag", USER, "D") == served

    def answers_at_depth(self, depth: int) -> Item:
        """The reason for a flag whose value is a list of that depth; another flag and the state are looked at, too."""
        text = dumps(flag(variations=["?"], fallthrough={"variation": 0})).replace('"?"', "[" * depth + "]" * depth)
        reader = FlagReader(MemoryRequester({"features": {"f": text, "good": flag("good")}}))
        with reader.request(USER) as request:
            reason = request.variation_detail("f", "D").reason
            state = request.all_flags_state()
        assert state.get_flag_value("good") == "fall"
        json.loads(state.to_json_string())
        return reason

    def test_a_deep_value_is_served(self) -> None:
        for depth in (1, 100, 400):
            assert self.answers_at_depth(depth) == {"kind": "FALLTHROUGH"}

    def test_a_very_deep_value_is_served_or_malformed(self) -> None:
        for depth in (600, 800, 1000, 1200, 1400, 2000, 5000, 9000):
            assert self.answers_at_depth(depth) in ({"kind": "FALLTHROUGH"}, malformed()[2])

    def test_a_value_too_deep_to_be_read_is_malformed(self) -> None:
        assert self.answers_at_depth(100_000) == malformed()[2]

    @pytest.mark.parametrize("depth", [100, 600, 950, 1200, 1400, 2000, 5000, 9000, 100_000])
    @pytest.mark.parametrize("name", ["rules", "on", "clientSideAvailability", "debugEventsUntilDate", "unknown"])
    def test_a_deep_field_raises_nothing(self, name: str, depth: int) -> None:
        nested = '{"a":' * depth + "[]" + "}" * depth
        text = dumps(flag("f", **{name: "?"})).replace('"?"', nested)
        reader = FlagReader(MemoryRequester({"features": {"f": text, "good": flag("good", clientSide=True)}}))
        detail = reader.variation_detail("f", USER, "D")
        assert detail.reason in ({"kind": "FALLTHROUGH"}, malformed()[2])
        state = reader.all_flags_state(USER, client_side_only=name == "clientSideAvailability")
        assert state.get_flag_value("good") == "fall"


def test_a_store_error_among_malformed_items_stays_a_store_error() -> None:
    collections = around("features", "not JSON")
    collections["segments"]["bad"] = StoreError("too big")
    reader = FlagReader(MemoryRequester(collections))
    assert reader.variation_detail("asks it", USER, "D").reason["errorKind"] == "EXCEPTION"
    assert reader.variation_detail("needs it", USER, "D").reason["errorKind"] == "MALFORMED_FLAG"
