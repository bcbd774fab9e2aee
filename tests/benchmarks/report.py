"""Results in Markdown, for people, and as JSON, for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.budgets import Budget
from tests.benchmarks.results import Effort, Figures, Outcome

PARTS = {
    "cold": "Cold: one evaluation in a new process",
    "warm": "Warm: one evaluation over a kept connection to Redis",
    "decoding": "Decoding and evaluating, no store",
    "watched": "Hooks and events: one evaluation, texts in memory",
    "twenty": "20 flags with rules and segments in one request, from Redis",
    "all": "The state of 300 flags",
    "dynamodb-cpu": "One read from DynamoDB",
    "lambda": "AWS Lambda: from the start of the process to the first answer",
    "growth": "How cost grows",
}
"""By the first part of a scenario's name: the heading."""


def markdown(outcomes: Mapping[str, Outcome], budgets: Sequence[Budget], conditions: Mapping[str, Any]) -> str:
    """All tables, ratios first, and the budgets at the end."""
    lines = [f"{name}: {value}  " for name, value in conditions.items()]
    for part, title in PARTS.items():
        chosen = [outcome for name, outcome in outcomes.items() if name.partition(".")[0] == part]
        if not chosen:
            continue
        lines += ["", f"## {title}", ""]
        if part in ("cold", "dynamodb-cpu", "lambda"):
            for outcome in chosen:
                lines += [f"### {outcome.scenario.title}", "", *_details(outcome), ""]
        else:
            lines += _comparison(chosen)
    lines += ["", "## Budgets", "", *_budgets(budgets), ""]
    return "\n".join(lines)


def as_json(outcomes: Mapping[str, Outcome], budgets: Sequence[Budget], conditions: Mapping[str, Any]) -> Any:
    """The same for programs: seconds, bytes and counts; a ratio is to the scenario's reference."""
    scenarios = {}
    for name, outcome in outcomes.items():
        contenders = {}
        for each, figures in outcome.figures.items():
            ratio = {figure: outcome.ratio(each, figure=figure) for figure in ("wall", "cpu", "memory", "instructions")}
            contenders[each] = figures._asdict() | {"ratio": ratio}
        scenarios[name] = {
            "title": outcome.scenario.title,
            "reference": outcome.scenario.reference,
            "delay": outcome.scenario.delay,
            "contenders": contenders,
            "absent": outcome.absent,
            "wrong": outcome.wrong,
        }
    kept = [budget._asdict() | {"met": budget.met} for budget in budgets]
    return {"conditions": dict(conditions), "scenarios": scenarios, "budgets": kept}


def conditions_of(effort: Effort, versions: Mapping[str, str], pth_files: Sequence[str]) -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **versions,
        "turns": f"{effort.rounds} of each contender, in changing order; figures are medians",
        "environment": f"bytecode compiled, .pth files: {', '.join(pth_files) or 'none'}",
        "load": f"{os.getloadavg()[0]:.1f} processes ran on average in the minute before",
    }


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table with aligned columns; the first row is its head."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return [f"| {line} |" for line in lines]


def _details(outcome: Outcome) -> list[str]:
    """A row for each contender."""
    reference = outcome.scenario.reference
    head = ["", f"time × {reference}", "instructions ×", "time", "CPU", "memory", "round trips"]
    rows = [head]
    for name, figures in outcome.figures.items():
        wall, instructions = outcome.ratio(name), outcome.ratio(name, figure="instructions")
        memory = "–" if figures.memory is None else f"{figures.memory / 1e6:.1f} MB"
        rows.append(
            [name, _ratio(wall), _ratio(instructions), _time(figures.wall), _time(figures.cpu), memory, _trips(figures)]
        )
    return [*table(rows), *_left_out([outcome])]


def _comparison(outcomes: Sequence[Outcome]) -> list[str]:
    """A row for each scenario, a column for each contender: ratio, time and round trips."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.figures))
    reference = outcomes[0].scenario.reference
    rows = [[f"time × {reference} (time; round trips)", *names]]
    for outcome in outcomes:
        row = [outcome.scenario.title]
        for name in names:
            figures = outcome.figures.get(name)
            if figures is None:
                row.append("–")
                continue
            trips = "" if figures.round_trips is None else f"; {figures.round_trips}"
            row.append(f"{_ratio(outcome.ratio(name))} ({_time(figures.wall)}{trips})")
        rows.append(row)
    return [*table(rows), *_left_out(outcomes)]


def _left_out(outcomes: Sequence[Outcome]) -> list[str]:
    said = {f"{name} is not available: {why}" for outcome in outcomes for name, why in outcome.absent.items()}
    said |= {f"WRONG: {name}: {why}" for outcome in outcomes for name, why in outcome.wrong.items()}
    return [line for each in sorted(said) for line in ("", each)]


def _budgets(budgets: Sequence[Budget]) -> list[str]:
    rows = [["budget", "", "measured", "met"]]
    for budget in budgets:
        measured = "–" if budget.measured is None else f"{budget.measured:.3g}{budget.unit}"
        met = {True: "yes", False: "NO", None: "not measured"}[budget.met]
        rows.append([budget.what, budget.bound, measured, met])
    return table(rows)


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ×" if value < 10 else f"{value:.1f} ×"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _trips(figures: Figures) -> str:
    return "–" if figures.round_trips is None else str(figures.round_trips)
