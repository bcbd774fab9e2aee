"""The flags that are evaluated, whom they are evaluated for, and what the answers must be.

The answers follow from how the flags are made, not from a library that is measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

Item: TypeAlias = dict[str, Any]

CONTEXT: Item = {
    "kind": "user",
    "key": "user-00009999",
    "name": "Ada",
    "email": "ada@example.com",
    "country": "GB",
    "plan": "gold",
    "version": "3.4.1",
    "seats": 12,
}
MANY = 10_000


class World(NamedTuple):
    """Flags and segments by key, and the value that each flag has for the context."""

    flags: dict[str, Item]
    segments: dict[str, Item]
    answers: dict[str, Any]

    def put(self, answer: Any, flag: Item, *others: Item, segments: Iterable[Item] = ()) -> None:
        """Adds a flag with its answer, and what it refers to."""
        for each in (flag, *others):
            self.flags[each["key"]] = each
        for segment in segments:
            self.segments[segment["key"]] = segment
        self.answers[flag["key"]] = answer


SMALLEST = ("boolean", "rollout")
SHAPES = {
    "boolean": "boolean",
    "rollout": "percentage rollout",
    "rules": "5 rules with 3 segments",
    "prerequisites": "3-deep prerequisites",
    "targets": "10,000 targets",
    "segment": "10,000-key segment",
}
"""By the flag's key in `shapes`: what it looks like."""
LARGE = ("targets", "segment")
DEPTHS = {"boolean": 0, "rollout": 0, "rules": 1, "prerequisites": 3, "targets": 0, "segment": 1}
"""By the flag's key in `shapes`: how many levels of references it has."""


def shapes() -> World:
    """One flag of each shape."""
    world = _world()
    world.put(True, _boolean("boolean"))
    _put_rollout(world, "rollout")
    _put_rules(world, "rules", rules=5, segments=[f"segment-{number}" for number in range(3)])
    _put_prerequisites(world, "prerequisites", depth=3)
    _put_targets(world, "targets", MANY)
    crowd = _segment("crowd", included=_keys(MANY))
    world.put("b", _flag("segment", rules=[_rule([_in_segment("crowd")], 1)]), segments=[crowd])
    return world


def twenty() -> World:
    """Twenty flags of five rules, three of which are about segments; twelve segments in all."""
    world = _world()
    for number in range(20):
        chosen = [f"segment-{(5 * number + 4 * step) % 12}" for step in range(3)]
        _put_rules(world, f"flag-{number:02}", rules=5, segments=chosen)
    return world


def environment(count: int = 300) -> World:
    """As many flags as an application may have: of ten, 4 boolean, 3 rollouts, 2 with a segment, 1 with a prerequisite.

    There are twenty segments.
    """
    world = _world()
    for number in range(count):
        key = f"flag-{number:04}"
        if number % 10 < 4:
            world.put(True, _boolean(key))
        elif number % 10 < 7:
            _put_rollout(world, key)
        elif number % 10 < 9:
            _put_rules(world, key, rules=2, segments=[f"segment-{number % 20}"])
        else:
            earlier = {"key": f"flag-{number - 9:04}", "variation": 0}
            world.put("a", _flag(key, prerequisites=[earlier]))
    return world


def grown(by: str, size: int) -> World:
    """A world with one flag, ``grown``, that has so many segments or targets, or so deep a chain of prerequisites."""
    world = _world()
    if by == "segments":
        _put_rules(world, "grown", rules=size + 1, segments=[f"segment-{number}" for number in range(size)])
    elif by == "targets":
        _put_targets(world, "grown", size)
    else:
        _put_prerequisites(world, "grown", depth=size)
    return world


def _world() -> World:
    return World({}, {}, {})


def _flag(key: str, **fields: Any) -> Item:
    whole: Item = {
        "key": key,
        "version": 7,
        "on": True,
        "variations": ["a", "b", "c"],
        "offVariation": 2,
        "fallthrough": {"variation": 0},
        "targets": [],
        "contextTargets": [],
        "prerequisites": [],
        "rules": [],
        "salt": "5f2d9c1b7e",
        "clientSideAvailability": {"usingMobileKey": False, "usingEnvironmentId": True},
        "clientSide": True,
        "trackEvents": False,
        "trackEventsFallthrough": False,
        "debugEventsUntilDate": None,
        "deleted": False,
    }
    return whole | fields


def _boolean(key: str) -> Item:
    return _flag(key, variations=[True, False], offVariation=1)


def _segment(key: str, **fields: Any) -> Item:
    whole: Item = {"key": key, "version": 3, "included": [], "excluded": [], "rules": [], "salt": "a8c03e61f4"}
    return whole | {"deleted": False} | fields


def _clause(attribute: str, op: str, *values: Any) -> Item:
    return {"contextKind": "user", "attribute": attribute, "op": op, "values": list(values), "negate": False}


def _in_segment(key: str) -> Item:
    return _clause("", "segmentMatch", key)


def _rule(clauses: list[Item], variation: int, name: str = "rule") -> Item:
    return {"id": name, "clauses": clauses, "variation": variation, "trackEvents": False}


def _keys(count: int) -> list[str]:
    """So many users' keys; the context's is the last."""
    return [f"user-{number:08}" for number in range(MANY - count, MANY)]


def _put_rollout(world: World, key: str) -> None:
    flag = _flag(key)
    parts = [{"variation": index, "weight": weight} for index, weight in enumerate((20_000, 50_000, 30_000))]
    flag["fallthrough"] = {"rollout": {"contextKind": "user", "variations": parts, "bucketBy": "key"}}
    digest = hashlib.sha1(f"{key}.{flag['salt']}.{CONTEXT['key']}".encode()).hexdigest()
    bucket = int(digest[:15], 16) / float(0xFFFFFFFFFFFFFFF)
    world.put("a" if bucket < 0.2 else "b" if bucket < 0.7 else "c", flag)


def _put_rules(world: World, key: str, rules: int, segments: list[str]) -> None:
    """A flag whose last rule matches. Those before it fail: by a segment, and by an address where segments run out."""
    narrow = [_in_segment(name) for name in segments]
    narrow += [_clause("email", "endsWith", "@example.org", "@example.net")] * (rules - 1 - len(segments))
    made = [
        _rule([_clause("plan", "in", "gold", "platinum"), clause], 1, f"rule-{number}")
        for number, clause in enumerate(narrow)
    ]
    made.append(_rule([_clause("country", "in", "NZ", "GB", "IE"), _clause("seats", "greaterThan", 10)], 2, "last"))
    elsewhere = [{"id": "elsewhere", "clauses": [_clause("country", "in", "US", "CA")]}]
    some = [f"customer-{number:04}" for number in range(50)]
    world.put(
        "c",
        _flag(key, rules=made),
        segments=[_segment(name, included=some, rules=elsewhere) for name in segments],
    )


def _put_prerequisites(world: World, key: str, depth: int) -> None:
    chain = [_flag(key), *(_flag(f"{key}-{number + 1}") for number in range(depth))]
    for flag, needed in zip(chain, chain[1:], strict=False):
        flag["prerequisites"] = [{"key": needed["key"], "variation": 0}]
    world.put("a", *chain)


def _put_targets(world: World, key: str, count: int) -> None:
    world.put("b", _flag(key, targets=[{"contextKind": "user", "variation": 1, "values": _keys(count)}]))
