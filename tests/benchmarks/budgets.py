"""What ldreader is to cost at most, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.benchmarks import shapes
from tests.benchmarks.results import Outcome
from tests.benchmarks.scenarios import (
    EMPTY,
    LDREADER,
    LIMIT,
    NO_READ_AHEAD,
    OFFICIAL,
    PACKAGES,
    PHP,
    PUBLIC,
    REQUEST,
    in_lambda,
    over_package,
)


class Budget(NamedTuple):
    """One promise, and what became of it."""

    what: str
    limit: float
    at_least: bool
    """True where more is better."""
    unit: str
    measured: float | None
    """None where it was not measured."""

    @property
    def met(self) -> bool | None:
        """Whether it is kept; None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def bound(self) -> str:
        """The limit, in words."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"


def budgets(outcomes: Mapping[str, Outcome]) -> list[Budget]:
    """All budgets, with what was measured of them."""

    def ratio(scenario: str, name: str, to: str, figure: str = "wall") -> float | None:
        return outcomes[scenario].ratio(name, to, figure) if scenario in outcomes else None

    def at_most(what: str, limit: float, unit: str, measured: float | None) -> None:
        found.append(Budget(what, limit, False, unit, measured))

    def at_least(what: str, limit: float, measured: float | None) -> None:
        found.append(Budget(what, limit, True, " ×", measured))

    def round_trips(scenario: str, name: str) -> float | None:
        figures = outcomes[scenario].figures.get(name) if scenario in outcomes else None
        return figures.round_trips if figures else None

    found: list[Budget] = []
    for key, title in shapes.SHAPES.items():
        if depth := shapes.DEPTHS[key]:
            if key not in shapes.LARGE:  # what is large is not fetched on a guess
                at_most(f"round trips, {title}, read-ahead", 1, "", round_trips(f"warm.{key}", LDREADER))
            at_most(f"round trips, {title}, no read-ahead", depth + 1, "", round_trips(f"warm.{key}", NO_READ_AHEAD))
    at_most("round trips, 20 flags, read-ahead", 1, "", round_trips("twenty.0ms.kept", LDREADER))
    at_most("round trips, 20 flags, no read-ahead", 2, "", round_trips("twenty.0ms.kept", NO_READ_AHEAD))
    at_most("round trips, all flags, Redis", 1, "", round_trips("all.0ms.kept", LDREADER))
    at_most("round trips, all flags, Consul", 1, "", round_trips("all.consul.kept", LDREADER))
    at_most("round trips, all flags, DynamoDB", 2, "", round_trips("all.dynamodb.kept", LDREADER))
    bare = "bare interpreter"
    for name, limit in ((LDREADER, 1.7), (PUBLIC, 3.3)):
        instructions = ratio("cold.redis", name, LIMIT, "instructions")
        at_most(f"{name}: cold from Redis, instructions × {bare}", limit, " ×", instructions)
    redis = outcomes.get("cold.redis")
    memory = redis.figures[LDREADER].memory if redis and LDREADER in redis.figures else None
    at_most("memory, cold from Redis", 12, " MB", memory / 1e6 if memory else None)
    for store, title, limit in (
        ("consul", "Consul", 2),
        ("dynamodb", "DynamoDB", 3),
        ("dynamodb-tls", "DynamoDB over TLS", 6),
    ):
        wall = ratio(f"cold.{store}", LDREADER, LIMIT)
        at_most(f"cold from {title}, time × {bare}", limit, " ×", wall)
    through_boto3 = ratio("cold.dynamodb", over_package("dynamodb"), LDREADER)
    at_least("cold from DynamoDB, faster than through boto3", 4, through_boto3)
    for key, title in shapes.SHAPES.items():
        limit = 2.5 if key == "targets" else 4
        at_least(f"warm, {title}: faster than the official SDK", limit, ratio(f"warm.{key}", OFFICIAL, LDREADER))
    for key, title in shapes.SHAPES.items():
        at_most(f"warm, {title}: time × PHP SDK", 1.3, " ×", ratio(f"warm.{key}", LDREADER, PHP))
    twenty = ratio("twenty.2ms.kept", OFFICIAL, LDREADER)
    at_least("20 flags at 2 ms: faster than the official SDK", 10, twenty)
    at_least("all flags, warm: faster than the official SDK", 3.5, ratio("all.0ms.kept", OFFICIAL, LDREADER))
    cold = ratio("all.2ms.process", OFFICIAL, LDREADER)
    at_least("all flags, a new process at 2 ms: faster than the official SDK", 12, cold)
    at_most("CPU of a DynamoDB read × boto3", 0.15, " ×", ratio("dynamodb-cpu", LDREADER, PACKAGES["dynamodb"], "cpu"))
    for key, title in shapes.SHAPES.items():
        limit = 1.5 if key in shapes.SMALLEST else 1.8
        faster = ratio(f"decoding.{key}", OFFICIAL, LDREADER)
        at_least(f"decoding and evaluating, {title}: faster than the official SDK", limit, faster)
    unwatched = ratio("watched.boolean", LDREADER, REQUEST)
    at_most("neither hook nor sink, boolean: time × a Request, which knows of neither", 1.1, " ×", unwatched)
    for store, title, limit in (("redis", "Redis", 1.3), ("dynamodb", "DynamoDB", 2)):
        wall = ratio("lambda.0.1", in_lambda(LDREADER, store), EMPTY)
        at_most(f"Lambda on 0.1 of a core, cold from {title}, time × an empty handler", limit, " ×", wall)
    return found
