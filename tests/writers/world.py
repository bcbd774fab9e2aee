"""Flags and segments of many shapes, as LaunchDarkly sends them, and contexts to evaluate them for."""

from __future__ import annotations

from typing import Any

from .stream import Data

Item = dict[str, Any]


def flag(key: str, **properties: Any) -> Item:
    """A flag that serves variation 0 unless the properties say otherwise."""
    return {
        "key": key,
        "version": 1,
        "deleted": False,
        "on": True,
        "salt": f"salt of {key}",
        "variations": [True, False],
        "offVariation": 1,
        "fallthrough": {"variation": 0},
        "prerequisites": [],
        "targets": [],
        "contextTargets": [],
        "rules": [],
        "clientSideAvailability": {"usingMobileKey": False, "usingEnvironmentId": False},
        "clientSide": False,
        "trackEvents": False,
        "trackEventsFallthrough": False,
        "debugEventsUntilDate": None,
        **properties,
    }


def segment(key: str, **properties: Any) -> Item:
    """A segment of nobody unless the properties say otherwise."""
    return {
        "key": key,
        "version": 1,
        "deleted": False,
        "included": [],
        "excluded": [],
        "includedContexts": [],
        "excludedContexts": [],
        "rules": [],
        "salt": f"salt of {key}",
        **properties,
    }


def clause(attribute: str, op: str, *values: Any, **properties: Any) -> Item:
    """A clause about the user, by attribute reference, unless the properties say otherwise."""
    return {
        "contextKind": "user",
        "attribute": attribute,
        "op": op,
        "values": list(values),
        "negate": False,
        **properties,
    }


def in_segment(*keys: str, negate: bool = False) -> Item:
    """A clause that matches the contexts in one of the segments."""
    return {"attribute": "", "op": "segmentMatch", "values": list(keys), "negate": negate}


def rule(variation: int, *clauses: Item, **properties: Any) -> Item:
    """A rule that serves a variation."""
    return {
        "id": f"rule {variation}",
        "variation": variation,
        "clauses": list(clauses),
        "trackEvents": False,
        **properties,
    }


def weights(*shares: int) -> list[Item]:
    """Weighted variations."""
    return [{"variation": index, "weight": share} for index, share in enumerate(shares)]


FLAGS = [
    flag("off", on=False),
    flag("off-without-variation", on=False, offVariation=None),
    flag("greeting", variations=["hello", 'grüß dich ☃ \U0001f600 "\\\n', ""], fallthrough={"variation": 1}),
    flag(
        "targets",
        variations=["nobody", "user", "organization"],
        targets=[{"contextKind": "user", "variation": 1, "values": ["ada", "bob"]}],
        contextTargets=[
            {"contextKind": "org", "variation": 2, "values": ["acme"]},
            {"contextKind": "user", "variation": 1, "values": []},
        ],
    ),
    flag(
        "rules",
        variations=[0, 1, 2, 3, 4, 5],
        rules=[
            rule(1, clause("/address/country", "in", "GB", "FR"), clause("plan", "startsWith", "gold")),
            rule(2, clause("version", "semVerGreaterThan", "2.0.0-beta.1"), trackEvents=True),
            rule(3, clause("joined", "before", "2020-01-01T00:00:00Z"), clause("age", "greaterThanOrEqual", 20.5)),
            rule(4, clause("name", "matches", "^Z.+a$", negate=True, contextKind="org")),
            # Without a context kind the attribute is a plain name. (Java's writer spoils one that begins with a slash:
            # it writes `/~1name`, and still no context kind.)
            rule(5, {"attribute": "a/b~", "op": "in", "values": [True], "negate": False}),
        ],
    ),
    flag("staff-only", offVariation=1, fallthrough={"variation": 1}, rules=[rule(0, in_segment("staff"))]),
    flag("not-for-testers", fallthrough={"variation": 1}, rules=[rule(0, in_segment("testers", negate=True))]),
    flag("for-a-third", fallthrough={"variation": 1}, rules=[rule(0, in_segment("a-third", "partners"))]),
    flag(
        "dependent",
        variations=["off", "both", "neither"],
        offVariation=0,
        fallthrough={"variation": 1},
        prerequisites=[{"key": "greeting", "variation": 1}, {"key": "doomed", "variation": 0}],
    ),
    flag("doomed", trackEvents=True),
    flag(
        "rollout",
        variations=["a", "b", "c"],
        fallthrough={"rollout": {"contextKind": "user", "variations": weights(30000, 30000, 40000)}},
        trackEventsFallthrough=True,
    ),
    flag(
        "experiment",
        variations=["control", "treatment"],
        fallthrough={
            "rollout": {
                "kind": "experiment",
                "contextKind": "org",
                "seed": 61,
                "variations": [
                    {"variation": 0, "weight": 10000, "untracked": True},
                    {"variation": 0, "weight": 40000, "untracked": False},
                    {"variation": 1, "weight": 50000, "untracked": False},
                ],
            }
        },
    ),
    flag(
        "json",
        variations=[
            {"nested": {"list": [1, 2.5, -3e-7, "x", None, True, {}, []]}, "large": 9007199254740991},
            [],
            None,
        ],
        fallthrough={"rollout": {"bucketBy": "plan", "variations": weights(50000, 25000, 25000)}},
        clientSideAvailability={"usingMobileKey": True, "usingEnvironmentId": True},
        clientSide=True,
    ),
    flag(
        "migration",
        variations=["off", "dualwrite", "shadow", "live", "rampdown", "complete"],
        fallthrough={"variation": 2},
        migration={"checkRatio": 3},
        samplingRatio=5,
        excludeFromSummaries=True,
        debugEventsUntilDate=1500000000000,
        clientSideAvailability={"usingMobileKey": False, "usingEnvironmentId": True},
        clientSide=True,
        version=7,
    ),
]

SEGMENTS = [
    segment(
        "staff",
        included=["ada"],
        includedContexts=[{"contextKind": "org", "values": ["acme"]}],
        excluded=["bob"],
        rules=[{"id": "1", "clauses": [clause("email", "endsWith", "@example.com")]}],
    ),
    segment("testers", rules=[{"id": "1", "clauses": [in_segment("staff")]}]),
    segment(
        "a-third",
        excludedContexts=[{"contextKind": "org", "values": ["acme"]}],
        rules=[{"id": "1", "clauses": [], "weight": 33333, "bucketBy": "key", "rolloutContextKind": "user"}],
    ),
    segment("partners", included=["bob"]),
]

DATA: Data = {
    "features": {flag["key"]: flag for flag in FLAGS},
    "segments": {segment["key"]: segment for segment in SEGMENTS},
}

CONTEXTS: list[dict[str, Any]] = [
    {"kind": "user", "key": "ada", "address": {"country": "GB"}, "plan": "gold+", "email": "ada@example.com"},
    {"kind": "user", "key": "bob", "version": "1.9.9", "age": 20.5, "joined": 1500000000000},
    {
        "kind": "multi",
        "user": {"key": "cy\u00e9", "plan": "tin", "a/b~": True},
        "org": {"key": "acme", "name": "Zebra"},
    },
]
