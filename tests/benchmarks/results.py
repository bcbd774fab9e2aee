"""Measuring contenders in turns, and what came out."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, TypeAlias

from tests.benchmarks.aws_lambda import ColdStart
from tests.benchmarks.contenders import NOTHING, Absent, Driven, OneShot, Sample, WrongAnswer
from tests.benchmarks.network import Network
from tests.benchmarks.stores import Place, Stores

Contender: TypeAlias = Driven | OneShot | ColdStart
_START = time.monotonic()


class Entry(NamedTuple):
    """Who takes part in a scenario."""

    name: str
    make: Callable[[Place], Contender]
    """Makes the contender, which reaches the store at this place."""
    expected: Any
    """The right answer."""
    is_small: bool = False
    """Whether its instructions are soon counted."""


class Scenario(NamedTuple):
    """Contenders under the same conditions."""

    name: str
    title: str
    place: Place
    entries: list[Entry]
    reference: str
    """The contender that the others are compared with."""
    delay: float = 0.0
    """Seconds that the network adds to a round trip."""


class Figures(NamedTuple):
    """Medians of what one time cost."""

    wall: float
    cpu: float
    memory: float | None = None
    instructions: int | None = None
    round_trips: int | None = None


class Outcome(NamedTuple):
    """What a scenario found."""

    scenario: Scenario
    figures: dict[str, Figures]
    """By contender."""
    absent: dict[str, str]
    """By contender that could not take part: why."""
    wrong: dict[str, str]
    """By contender that gave a wrong answer: which."""

    def ratio(self, name: str, to: str = "", figure: str = "wall") -> float | None:
        """How many times as much a contender costs as another, by default the reference; None where not measured."""
        costs = [getattr(self.figures.get(each), figure, None) for each in (name, to or self.scenario.reference)]
        return costs[0] / costs[1] if costs[0] is not None and costs[1] else None


class Effort(NamedTuple):
    """How long to measure."""

    rounds: int
    """Turns that each contender has."""
    slice_seconds: float
    """How long a turn of a `Driven` contender takes, about."""
    sizes: int
    """How many sizes of what grows."""
    instructions_of_all: bool
    """Counting instructions takes fifty times as long as running; False leaves out the larger."""


FULL = Effort(rounds=15, slice_seconds=0.05, sizes=5, instructions_of_all=True)
QUICK = Effort(rounds=3, slice_seconds=0.01, sizes=2, instructions_of_all=False)


def measure(scenario: Scenario, stores: Stores, effort: Effort) -> Outcome:
    """Checks the contenders' answers, counts their round trips, and measures them in turns."""
    say(scenario.title)
    outcome = Outcome(scenario, {}, {}, {})
    has_network = scenario.place.port != 0
    place = scenario.place
    if scenario.delay:
        place = place._replace(port=stores.network(place, scenario.delay).port, path="")
    taking_part: dict[str, Contender] = {}
    try:
        for entry in scenario.entries:
            try:
                contender = entry.make(place)
                taking_part[entry.name] = contender
                answer = contender.answer()
                if answer is not NOTHING and answer != entry.expected:
                    raise WrongAnswer(f"it answered {_short(answer)}, not {_short(entry.expected)}")
            except Absent as error:
                outcome.absent[entry.name] = str(error)
            except WrongAnswer as error:
                outcome.wrong[entry.name] = str(error)
        for name in (*outcome.absent, *outcome.wrong):
            left = taking_part.pop(name, None)
            if left is not None:
                left.close()
        samples: dict[str, list[Sample]] = {name: [] for name in taking_part}
        order = list(taking_part)
        for turn in range(effort.rounds):
            Random(turn).shuffle(order)  # or one would always run on the caches that the largest has filled
            for name in order:
                samples[name].append(taking_part[name].sample())
        for entry in scenario.entries:
            if entry.name in taking_part:
                round_trips = _round_trips(entry, scenario.place, stores) if has_network else None
                outcome.figures[entry.name] = _figures(
                    samples[entry.name], _instructions(taking_part[entry.name], entry, effort), round_trips
                )
    finally:
        for contender in taking_part.values():
            contender.close()
    for name, why in outcome.wrong.items():
        say(f"  WRONG: {name}: {why}")
    return outcome


def say(line: str) -> None:
    """Tells the person who waits."""
    print(f"{time.monotonic() - _START:4.0f} s  {line}", file=sys.stderr, flush=True)


def _round_trips(entry: Entry, place: Place, stores: Stores) -> int | None:
    network: Network = stores.network(place)
    contender = entry.make(place._replace(port=network.port, path=""))
    try:
        if contender.answer() is NOTHING:
            return None
        if isinstance(contender, Driven):
            contender.do(2)  # so that what is opened or learnt once does not count
        network.forget()
        contender.do(1)
        return network.round_trips
    finally:
        contender.close()


def _instructions(contender: Contender, entry: Entry, effort: Effort) -> int | None:
    if isinstance(contender, OneShot) and (effort.instructions_of_all or entry.is_small):
        return contender.instructions()
    return None


def _figures(samples: list[Sample], instructions: int | None, round_trips: int | None) -> Figures:
    def median(name: str) -> float:
        return statistics.median(sample[name] for sample in samples)

    memory = median("memory") if "memory" in samples[0] else None
    return Figures(median("wall"), median("cpu"), memory, instructions, round_trips)


def _short(answer: Any) -> str:
    shown = repr(answer)
    return shown if len(shown) < 200 else f"{shown[:100]} … {shown[-80:]}"
