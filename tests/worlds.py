"""Seeded worlds of flags and segments, and contexts to meet them, for comparing two evaluators.

A world keeps away from what ldreader does differently on purpose; those cases are the table in ``test_official.py``.
The comments that begin with *Apart* say where the shape of a world comes from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, TypeAlias

Item: TypeAlias = dict[str, Any]
Items: TypeAlias = dict[str, Item]

KINDS = ("user", "org", "device", "team.x")
KEYS = ("alice", "bob", "1", "01", "u:1", "100%", "Zoë", "用户", "a b", "🦊")
TEXTS = ("alice@example.com", "bob@example.com", "BOB@example.com", "example", "@example.com", "al", "", "a.b", "7")
NAMES = ("Alice", "Bob", "Zoë", "Zoe\u0308", "", "用户")
PLANS = ("free", "pro", "Pro", "enterprise")
PATTERNS = ("^al", r"example\.com$", "[0-9]", "a.b", "(", "*", "", "(?i)BOB", "^$", "Zo.$", r"\bpro\b", "[", "用")
NUMBERS = (-2.5, -1, 0, 0.1, 1, 1.0, 2, 2.5, 7, 99, 1e3, 1000, 2**53, 2**53 + 1, 12345678901234567890, 1e300)
DATES = (
    "2017-12-06T00:00:00Z",
    "2017-12-06T00:00:00.000-07:00",
    "2017-12-06T07:00:00Z",
    "2017-12-06t07:00:00.001z",
    "2017-12-06T07:00:00",
    "2017-12-06T07:00:00.001000000+00:00",
    1512543600000,
    1512543600001,
    "1512543600000",
    1512543600000.0,
    "2017-12-06",
    "2017-12-06T14:00:00.000999+07:00",
    "2020-02-29T23:59:59.9+14:00",
    "2020-02-30T00:00:00Z",
    "yesterday",
    "",
    "1970-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999Z",
    0,
    -1,
    "00:00:00Z",
)
VERSIONS = (
    "2",
    "2.0",
    "2.0.0",
    "2.0.0+build.7",
    "2.",
    "v2.0.0",
    "2.0.0.0",
    "02.0.0",
    "2.0.1",
    "1.99.99",
    "10.1",
    "99999999999999999999.0.0",
    "100000000000000000000.0",
    "",
    " 2.0.0",
    "2-rc",
    "2.0-rc+b",
    "2.0.0-rc",
    "2.0.0-rc.2",
    "2.0.0-rc.10",
    "2.0.0-rc.9",
    "2.0.0-rc.x",
    "2.0.0-rc_1",
    "2.0.0-",
    "2.0.0-a..b",
    "2.0.0-2",
    "2.0.0-01",
    "2.0.0-10",
)
ACCOUNTS = ("acct-1", "acct-2", "7", 7, 33333, 99999, 2**70, -4, True, 0.5)
FLAGGED = (True, False, 0, 1, "true", "1")
CITIES = ("Oslo", "Göteborg", "Xi'an", "oslo")

# What an attribute may hold. Apart: integral floats are in `score` and `since` only, where nothing is bucketed by them.
ATTRIBUTES: dict[str, Sequence[Any]] = {
    "email": TEXTS,
    "plan": PLANS,
    "score": NUMBERS,
    "since": DATES,
    "version": VERSIONS,
    "flagged": FLAGGED,
    "account": ACCOUNTS,
    "/odd": TEXTS,
    "a/b": TEXTS,
    "m~n": NUMBERS,
}
# How a clause may name a value: as a literal (without a context kind) or a reference (with one), and what it holds.
PLACES: tuple[tuple[str | None, str | None, Sequence[Any]], ...] = (
    ("key", "/key", KEYS),
    ("name", "name", NAMES),
    ("anonymous", "/anonymous", (True, False)),
    ("email", "/email", TEXTS),
    ("plan", "plan", PLANS),
    ("score", "/score", NUMBERS),
    ("since", "since", DATES),
    ("version", "/version", VERSIONS),
    ("flagged", "flagged", FLAGGED),
    ("account", "/account", ACCOUNTS),
    ("/odd", "/~1odd", TEXTS),
    ("a/b", "a/b", TEXTS),
    ("a/b", "/a~1b", TEXTS),
    ("m~n", "/m~0n", NUMBERS),
    (None, "/address/city", CITIES),
    (None, "/address/zip/code", ACCOUNTS),
    (None, "/address/a~1b", TEXTS),
    (None, "/address/m~0n", VERSIONS),
    (None, "/address/2", NUMBERS),
    (None, "/address/since", DATES),
)
POOLS = (KEYS, TEXTS, NAMES, PLANS, PATTERNS, NUMBERS, DATES, VERSIONS, ACCOUNTS, FLAGGED, CITIES)
# Names of what is not there, or is not what it looks like.
NOWHERE = ("nothing", "/email", "/address/city", "/email/city", "/tags/0", "/score/0", "/_meta/privateAttributes", "~2")
TEXT_PLACES = tuple(place for place in PLACES if place[2] in (KEYS, NAMES, TEXTS, PLANS, CITIES))
NUMBER_PLACES = tuple(place for place in PLACES if place[2] in (NUMBERS, ACCOUNTS))
DATE_PLACES = tuple(place for place in PLACES if place[2] is DATES)
VERSION_PLACES = tuple(place for place in PLACES if place[2] is VERSIONS)
MIXED_PLACES = tuple(place for place in PLACES if place[2] in (FLAGGED, ACCOUNTS))

UNKNOWN_OPERATOR = "newerThanThisTest"
OPERATORS = {
    "in": (*PLACES, *MIXED_PLACES, *MIXED_PLACES),
    "startsWith": TEXT_PLACES,
    "endsWith": TEXT_PLACES,
    "contains": TEXT_PLACES,
    "matches": TEXT_PLACES,
    "lessThan": NUMBER_PLACES,
    "lessThanOrEqual": NUMBER_PLACES,
    "greaterThan": NUMBER_PLACES,
    "greaterThanOrEqual": NUMBER_PLACES,
    "before": DATE_PLACES,
    "after": DATE_PLACES,
    "semVerEqual": VERSION_PLACES,
    "semVerLessThan": VERSION_PLACES,
    "semVerGreaterThan": VERSION_PLACES,
    UNKNOWN_OPERATOR: PLACES,
}
# Apart: `in` finds equal arrays, objects and nulls there and never here, so those of clauses are in no context.
ODD_VALUES: tuple[Any, ...] = (True, False, 0, 1, "1", None, [], ["clauses"], {"in": "clauses"}, 1.5, "", -1e300)
INVALID_REFERENCES = ("", "/", "//", "/a/", "/a//b", "/a~2b", "/a~")
BUCKET_LITERALS = ("key", "/odd", "name", "account", "flagged", "/odd", "anonymous", "/odd", "", "tags", "address")
BUCKET_REFERENCES = ("/key", "key", "name", "/account", "/address/zip/code", "/address/a~1b", "/address", "kind", "")
SCALARS = (True, False, None, "a", "b", "", "ünï", 0, 1, 1.0, -2.5, 1e300, 2**63)
VALUES: tuple[Any, ...] = (*SCALARS, [], [1, [None]], {}, {"a": {"b": [1]}})
TEXT_OPERATORS = ("startsWith", "endsWith", "contains")

# Families of items; an item refers to its own family and to "plain".
# Apart: big segments and what aborts an evaluation never meet, because the official SDK then forgets the status.
SEGMENT_FAMILIES = ("plain", "big", "bad")
# Apart: a flag that may bucket by an invalid reference is nobody's prerequisite; one aborts there and fails here.
FLAG_FAMILIES = ("plain", "big") * 2 + ("plain", "bad") + ("plain", "big") * 2 + ("plain", "bad and last")


def world(seed: object, flags: int = 60, segments: int = 24) -> tuple[Items, Items]:
    """The flags and segments that this seed gives, by key, in LaunchDarkly's JSON form."""
    return _Maker(seed, flags, segments).world()


def contexts(seed: object, count: int) -> list[Item]:
    """The contexts that this seed gives, in LaunchDarkly's JSON form; about one in fifty is invalid."""
    maker = _ContextMaker(seed)
    return [maker.context() for _ in range(count)]


def clauses_in(item: Item) -> list[Item]:
    """All clauses of a flag or segment."""
    return [clause for rule in item.get("rules") or () for clause in rule["clauses"]]


class _Few:
    """A few values of each pool, the same for a world and its contexts, so that they often meet."""

    def __init__(self, seed: object) -> None:
        rng = Random(f"few {seed}")
        self._few: dict[int, Sequence[Any]] = {}
        for pool in POOLS:
            # Neighbours, because they are alike.
            start = rng.randrange(len(pool))
            self._few[id(pool)] = (*pool[start:], *pool[:start])[:6]

    def of(self, pool: Sequence[Any]) -> Sequence[Any]:
        """The values in use; all of them where there are only a few."""
        return self._few.get(id(pool), pool)


class _Maker:
    """Makes one world; each item is told first which others it may refer to."""

    def __init__(self, seed: object, flags: int, segments: int) -> None:
        self.rng = Random(f"world {seed}")
        self.few = _Few(seed)
        self.flags = self._keys("flag", flags, FLAG_FAMILIES)
        self.segments = self._keys("segment", segments, SEGMENT_FAMILIES)
        self.made: Items = {}
        self.made_segments: Items = {}

    def world(self) -> tuple[Items, Items]:
        for key, family in self.segments.items():
            self.made_segments[key] = self._segment(key, family)
        for key, family in self.flags.items():
            self.made[key] = self._flag(key, family)
        return self.made, self.made_segments

    def _keys(self, word: str, count: int, families: Sequence[str]) -> dict[str, str]:
        """So many keys, each with its family."""
        endings = ("", "", "", ":x", " ö", "/y", ".g1")
        return {
            f"{word}-{number}{self.rng.choice(endings)}": families[number % len(families)] for number in range(count)
        }

    # Flags

    def _flag(self, key: str, family: str) -> Item:
        rng = self.rng
        flag: Item = {"key": key, "version": rng.randint(1, 99), "salt": rng.choice(("salty", "", "ß"))}
        if self._chance(0.03):
            return {"key": key, "version": 7, "deleted": True}
        variations = rng.sample(VALUES, rng.choice((1, 2, 2, 3, 3, 4)))
        count = len(variations)
        flag |= {
            "on": self._chance(0.93),
            "deleted": False,
            "variations": variations,
            "offVariation": None if self._chance(0.2) else self._index(count),
            "fallthrough": self._fallthrough(count),
            "clientSideAvailability": {"usingMobileKey": True, "usingEnvironmentId": False},
            "trackEvents": self._chance(0.2),
            "trackEventsFallthrough": self._chance(0.2),
            "debugEventsUntilDate": rng.choice((None, 0, 1512543600000)),
            "somethingNew": {"of": ["the", "future"]},
        }
        if self._chance(0.1):
            flag["migration"] = {"checkRatio": 2}
        last, family = family == "bad and last", family.removesuffix(" and last")
        if self._chance(0.3):
            # Nothing but clauses one by one, so that each of them tells.
            flag["rules"] = [
                {"id": f"rule-{index}", "clauses": self._clauses(family, 1), "variation": self._index(count)}
                for index in range(6)
            ]
            return flag
        prerequisites = self._prerequisites(family) if self._chance(0.4 if family == "big" else 0.25) else []
        self._put(flag, "prerequisites", prerequisites)
        self._put_targets(flag, count)
        rules = rng.choice((0, 1, 2, 3, 4, 5, 6))
        self._put(flag, "rules", [self._rule(f"rule-{index}", family, count, last) for index in range(rules)])
        if self._chance(0.1):
            del flag["offVariation"]
        return flag

    def _prerequisites(self, family: str) -> list[Item]:
        candidates = [other for other in self.made if self.flags[other] in (family, "plain")]
        if family == "bad" and self._chance(0.4):
            candidates = [other for other in self.flags if self.flags[other] == "bad"]
        if not candidates or self._chance(0.05):
            candidates = ["no-such-flag"]
        # From the newest, so that chains grow and share their ends.
        chosen = [self.rng.choice(candidates[-12:]) for _ in range(self.rng.choice((1, 1, 1, 2, 3)))]
        return [{"key": other, "variation": self._likely_index(self.made.get(other, {}))} for other in chosen]

    def _likely_index(self, flag: Item) -> int:
        ways: list[Item] = [*(flag.get("rules") or ()), flag.get("fallthrough") or {}]
        served = [way["variation"] for way in ways if way.get("variation") is not None]
        if served and self._chance(0.8):
            return int(self.rng.choice(served))
        return self.rng.choice((0, 1, 2))

    def _put_targets(self, flag: Item, count: int) -> None:
        if not self._chance(0.5):
            return
        rng = self.rng
        targets = [{"variation": self._index(count), "values": self._some_keys()} for _ in range(rng.choice((1, 2, 3)))]
        self._put(flag, "targets", targets)
        if not self._chance(0.5):
            return
        by_kind: list[Item] = []
        for _ in range(rng.choice((1, 2, 3))):
            kind = rng.choice(KINDS)
            if kind == "user":
                # Apart: these point at `targets` and have no values of their own.
                entry = {"variation": rng.choice(targets)["variation"] if self._chance(0.8) else 0, "values": []}
                by_kind.append(entry | self._kind_field("contextKind", kind))
            else:
                by_kind.append({"contextKind": kind, "variation": self._index(count), "values": self._some_keys()})
        self._put(flag, "contextTargets", by_kind)

    def _rule(self, rule_id: str, family: str, count: int, last: bool) -> Item:
        rng = self.rng
        # Apart: the official reason has a null for a rule without an id.
        rule: Item = {"id": rule_id, "trackEvents": self._chance(0.2)}
        clauses = self._clauses(family, rng.choice((0, 1, 1, 1, 1, 2, 2, 3)))
        if self._chance(0.6):
            rule |= {"clauses": clauses, "variation": self._index(count)}
            if self._chance(0.1):
                rule["rollout"] = None if self._chance(0.5) else self._rollout("user", count, present=False)
            return rule
        kind = self._kind()
        guarded = self._chance(0.5)
        rollout = self._rollout(kind, count, present=guarded)
        if guarded:
            clauses.insert(0, self._guard(kind))
            if last and rollout.get("contextKind") and self._chance(0.4):
                rollout["bucketBy"] = rng.choice(INVALID_REFERENCES)
        return rule | {"clauses": clauses, "rollout": rollout}

    def _fallthrough(self, count: int) -> Item | None:
        draw = self.rng.random()
        if draw < 0.04:
            return self.rng.choice((None, {}, {"variation": None}, {"rollout": None}))
        if draw < 0.5:
            return {"variation": self._index(count)}
        return {"rollout": self._rollout(self._kind(), count, present=False)}

    def _rollout(self, kind: str, count: int, *, present: bool) -> Item:
        """A rollout by this kind; `present` promises that the context has it."""
        rng = self.rng
        if self._chance(0.03):
            return {"variations": []}
        parts = rng.randint(1, 4)
        cuts = sorted(rng.choice((0, 1, 20000, 50000, 70000, 100000)) for _ in range(parts - 1))
        whole = 100000 if self._chance(0.8) else rng.choice((cuts[-1] if cuts else 0, 130000))
        weights = [high - low for low, high in zip([0, *cuts], [*cuts, whole], strict=True)]
        if not present and weights[0] == 0:
            # Apart: a context without the kind gets the first entry there, the first with a weight here.
            weights[0] = 1
        rollout: Item = {
            "variations": [
                {"variation": self._index(count, sure=0.98), "weight": weight}
                | ({"untracked": True} if self._chance(0.25) else {})
                for weight in weights
            ]
        }
        rollout |= self._kind_field("contextKind", kind)
        rollout |= rng.choice(({}, {"kind": "rollout"}, *({"kind": "experiment"},) * 2, {"kind": "new"}))
        if self._chance(0.4):
            rollout["seed"] = rng.choice((None, 0, 61, -5, 2**40))
        self._put_bucket_by(rollout, "contextKind")
        if rollout.get("kind") == "experiment" and self._chance(0.2):
            rollout["bucketBy"] = "//"
        return rollout

    # Segments

    def _segment(self, key: str, family: str) -> Item:
        rng = self.rng
        segment: Item = {"key": key, "version": rng.randint(1, 99), "salt": rng.choice(("salty", "", "ß"))}
        if self._chance(0.05):
            return {"key": key, "version": 7, "deleted": True}
        for name in ("included", "excluded"):
            self._put(segment, name, self._some_keys() if self._chance(0.3) else [])
            by_kind = [
                {"values": self._some_keys()} | self._kind_field("contextKind", self._kind())
                for _ in range(rng.choice((0, 0, 0, 1, 2)))
            ]
            self._put(segment, f"{name}Contexts", by_kind)
        rules = [self._segment_rule(family) for _ in range(rng.choice((0, 1, 2, 3)))]
        self._put(segment, "rules", rules)
        if family == "big" and self._chance(0.7):
            segment |= {"unbounded": True}
            segment |= rng.choice(({}, {"generation": None}, {"generation": 0}, {"generation": 1}, {"generation": 3}))
            segment |= self._kind_field("unboundedContextKind", self._kind())
        return segment

    def _segment_rule(self, family: str) -> Item:
        rule: Item = {"id": "some-id", "clauses": self._clauses(family, self.rng.choice((0, 1, 1, 1, 2)))}
        if self._chance(0.5):
            return rule | ({"weight": None} if self._chance(0.3) else {})
        kind = self._kind()
        # Apart: for a context without the kind, the rule matches there with any weight and not at all here.
        rule["clauses"].insert(0, self._guard(kind))
        rule["weight"] = self.rng.choice((0, 1, 30000, 50000, 80000, 100000))
        rule |= self._kind_field("rolloutContextKind", kind)
        self._put_bucket_by(rule, "rolloutContextKind")
        if family == "bad" and rule.get("rolloutContextKind") and self._chance(0.2):
            rule["bucketBy"] = self.rng.choice(INVALID_REFERENCES)
        return rule

    # Clauses

    def _clauses(self, family: str, count: int) -> list[Item]:
        return [clause for _ in range(count) for clause in self._clause_or_guarded(family)]

    def _clause_or_guarded(self, family: str) -> list[Item]:
        if family == "bad" and self._chance(0.08):
            # Apart: for a context without the kind, the reference is not looked at there and is an error here.
            kind = self._kind()
            reference = {"attribute": self.rng.choice(INVALID_REFERENCES), "contextKind": kind}
            if kind == "user" and self._chance(0.3):
                reference = {"attribute": ""}
            return [self._guard(kind), {"op": "in", "values": ["x"], "negate": self._chance(0.5)} | reference]
        draw = self.rng.random()
        if draw < (0.25 if family == "plain" else 0.5):
            return [self._segment_match(family)]
        if draw < 0.55:
            return [self._kind_clause()]
        return [self._clause()]

    def _clause(self) -> Item:
        rng = self.rng
        op = rng.choice((*OPERATORS, "in", "in"))
        literal, reference, pool = rng.choice(PLACES if self._chance(0.05) else OPERATORS[op])
        kind_field = self._kind_field("contextKind", rng.choice(("user", "user", "user", *KINDS)))
        name = reference if kind_field.get("contextKind") else literal
        if name is None or self._chance(0.03):
            name = rng.choice(NOWHERE)
        clause: Item = {"attribute": name, "op": op, "values": self._clause_values(op, pool)} | kind_field
        return self._negated(clause, 0.35)

    def _clause_values(self, op: str, pool: Sequence[Any]) -> list[Any]:
        rng = self.rng
        pool = self.few.of(PATTERNS if op == "matches" else pool)
        if op in ("before", "after"):
            # Apart: two milliseconds that are one double are told apart here.
            pool = [value for value in pool if value not in (2**53, 2**53 + 1)]
        values = [rng.choice(pool) for _ in range(rng.choice((0, 1, 1, 2, 3)) if pool else 0)]
        if op in TEXT_OPERATORS:
            values = [self._piece(value) for value in values]
        if self._chance(0.2):
            values.insert(0, rng.choice(ODD_VALUES))
        return values

    def _piece(self, value: Any) -> Any:
        """A piece of a text; anything else as it is."""
        return value[self.rng.randint(0, 2) :][: self.rng.randint(1, 20)] if isinstance(value, str) else value

    def _kind_clause(self) -> Item:
        rng = self.rng
        op = rng.choice(("in", "in", "in", "startsWith", "endsWith", "contains", "matches", "before", UNKNOWN_OPERATOR))
        values = [rng.choice((*KINDS, "multi", "us", ".x", "o.*g")) for _ in range(rng.choice((0, 1, 2)))]
        clause: Item = {"attribute": "kind", "op": op, "values": values}
        if self._chance(0.3):
            clause["contextKind"] = rng.choice((*KINDS, "nobody", "multi", ""))
        return self._negated(clause, 0.35)

    def _segment_match(self, family: str) -> Item:
        rng = self.rng
        # Made so far: only the bad family has circles.
        candidates = self.segments if family == "bad" else self.made_segments
        own = [key for key in candidates if self.segments[key] == family]
        plain = [key for key in self.made_segments if self.segments[key] == "plain"]
        values: list[Any] = []
        for _ in range(rng.choice((1, 1, 2))):
            values.append(rng.choice((own if self._chance(0.7) else plain) or ["no-such-segment"]))
        if self._chance(0.15):
            values.insert(0, rng.choice(("no-such-segment", "", 7)))
        clause: Item = {"op": "segmentMatch", "values": values}
        clause |= rng.choice(({"attribute": ""}, {"attribute": "key"}, {"attribute": "//", "contextKind": "org"}))
        return self._negated(clause, 0.3)

    def _negated(self, clause: Item, chance: float) -> Item:
        if self._chance(chance):
            return clause | {"negate": True}
        return clause | self.rng.choice(({}, {"negate": False}, {"negate": None}))

    def _guard(self, kind: str) -> Item:
        """A clause that is false, at the latest, for a context without the kind."""
        if self._chance(0.6):
            return {"attribute": "kind", "op": "in", "values": [kind], "negate": False}
        op = self.rng.choice(("in", "matches", UNKNOWN_OPERATOR))
        clause: Item = {"attribute": "key", "op": op, "values": ["bob"], "negate": True}
        return clause | self._kind_field("contextKind", kind)

    # Parts

    def _chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def _kind(self) -> str:
        return self.rng.choice(("user", "user", *KINDS))

    def _kind_field(self, name: str, kind: str) -> Item:
        """The field that says this kind, in one of the forms there are for `user`."""
        if kind == "user" and self._chance(0.6):
            return self.rng.choice(({}, {name: ""}, {name: None}))
        return {name: kind}

    def _index(self, count: int, sure: float = 0.96) -> int:
        if self._chance(sure):
            return self.rng.randrange(count)
        return self.rng.choice((-1, count, count + 3))

    def _some_keys(self) -> list[str]:
        return self.rng.sample(self.few.of(KEYS), self.rng.choice((0, 1, 2, 3, 4)))

    def _put_bucket_by(self, holder: Item, kind_field: str) -> None:
        if self._chance(0.6):
            names = BUCKET_REFERENCES if holder.get(kind_field) else BUCKET_LITERALS
            holder["bucketBy"] = self.rng.choice(names)
        elif self._chance(0.2):
            holder["bucketBy"] = None

    def _put(self, holder: Item, name: str, values: list[Any]) -> None:
        """Puts the list there; an empty one may also be null or absent."""
        if values or self._chance(0.5):
            holder[name] = values
        elif self._chance(0.3):
            holder[name] = None


class _ContextMaker:
    """Makes contexts for the world of a seed."""

    def __init__(self, seed: object) -> None:
        self.rng = Random(f"contexts {seed}")
        self.few = _Few(seed)

    def context(self) -> Item:
        rng = self.rng
        draw = rng.random()
        if draw < 0.02:
            return dict(rng.choice(_INVALID))
        if draw < 0.4:
            kinds = rng.sample(("user", "user", *KINDS), rng.choice((1, 2, 3, 4)))
            return {"kind": "multi"} | {kind: self._single() for kind in kinds}
        return {"kind": rng.choice(("user", "user", "user", "user", *KINDS))} | self._single()

    def _single(self) -> Item:
        """A context of one kind, less its kind."""
        rng = self.rng
        context: Item = {"key": rng.choice(self.few.of(KEYS))}
        if rng.random() < 0.7:
            context["name"] = rng.choice((*self.few.of(NAMES), None))
        if rng.random() < 0.4:
            context["anonymous"] = rng.random() < 0.7
        for name, pool in ATTRIBUTES.items():
            if rng.random() < 0.85:
                context[name] = self._value(pool)
        if rng.random() < 0.7:
            context["address"] = {
                "city": self._value(CITIES),
                "zip": rng.choice(({"code": rng.choice(self.few.of(ACCOUNTS))}, None, [1], "0150")),
                "a/b": self._value(TEXTS),
                "m~n": self._value(VERSIONS),
                "2": self._value(NUMBERS),
                "since": self._value(DATES),
            }
        if rng.random() < 0.5:
            context["tags"] = [rng.choice((*TEXTS, *NUMBERS, True, False)) for _ in range(3)]
        if rng.random() < 0.2:
            context["_meta"] = {"privateAttributes": ["email", "/address/city"]}
        return context

    def _value(self, pool: Sequence[Any]) -> Any:
        """A value of the pool, or several."""
        rng = self.rng
        pool = self.few.of(pool)
        draw = rng.random()
        if draw < 0.8:
            return rng.choice(pool)
        if draw < 0.83:
            return None
        several = [rng.choice(pool) for _ in range(rng.choice((0, 1, 2, 3)))]
        if draw < 0.87:
            return [*several, [rng.choice(pool)], {"in": "context"}]
        return several


_INVALID: tuple[Item, ...] = (
    {"kind": "user"},
    {"kind": "user", "key": ""},
    {"kind": "user", "key": 7},
    {"kind": "user", "key": None},
    {"kind": "", "key": "alice"},
    {"kind": None, "key": "alice"},
    {"kind": "kind", "key": "alice"},
    {"kind": "ørg", "key": "alice"},
    {"kind": "user", "key": "alice", "anonymous": None},
    {"kind": "user", "key": "alice", "anonymous": "yes"},
    {"kind": "user", "key": "alice", "name": 7},
    {"kind": "user", "key": "alice", "_meta": {"privateAttributes": {}}},
    {"kind": "multi"},
    {"kind": "multi", "user": {"key": "alice"}, "org": {"key": ""}},
    {"kind": "multi", "user": "alice"},
    {"key": "alice"},
)
