"""The command: measures, prints the tables, and writes ``results.md``, ``results.json`` and three pictures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks import plot, report
from tests.benchmarks.budgets import budgets
from tests.benchmarks.contenders import Launcher
from tests.benchmarks.environments import PACKAGES, Environments, default_directory, prepare, pth_files
from tests.benchmarks.results import FULL, QUICK, Effort, Outcome, measure, say
from tests.benchmarks.scenarios import GROWTH, LIMIT_ISOLATED, Scenarios
from tests.benchmarks.stores import Stores, Unavailable

EXAMPLES = """\
examples:
  python -m tests.benchmarks                           everything, in about twenty minutes
  python -m tests.benchmarks --quick                   a glance, in little more than one
  python -m tests.benchmarks --only cold-redis warm    these parts alone
  python -m tests.benchmarks --output docs/benchmarks  the results go there

The PHP SDK takes part where LDREADER_BENCH_PHP_SDK names a directory with its vendor/autoload.php, php is on the PATH
and has phpredis. Instructions are counted where valgrind is there. Servers: sh tests/install-servers.sh
exit codes: 0 measured, whatever it was; 1 a contender gave a wrong answer; 2 wrong usage
"""
PART_NAMES = (
    *("cold-redis", "cold-dynamodb", "cold-dynamodb-tls", "cold-consul", "cold-consul-tls", "cold-file"),
    *("warm", "decoding", "watched", "twenty", "all", "dynamodb-cpu", "growth", "lambda"),
)
QUICK_PARTS = tuple(name for name in PART_NAMES if not name.endswith("-tls") and name != "lambda")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures what ldreader costs, beside others under the same conditions.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a few turns of each, for a glance; not for figures")
    names = ", ".join(PART_NAMES)
    parser.add_argument("--only", nargs="+", action="extend", metavar="PART", choices=PART_NAMES, help=names)
    parser.add_argument("--output", type=Path, metavar="DIR", help="where results go (default: a new directory)")
    environments = "where virtual environments are kept (default: in the user's cache)"
    parser.add_argument("--environments", type=Path, metavar="DIR", default=default_directory(), help=environments)
    options = parser.parse_args(arguments)
    output = options.output or Path(tempfile.mkdtemp(prefix="ldreader-benchmarks-"))
    output.mkdir(parents=True, exist_ok=True)
    say("preparing the environments")
    prepared = prepare(options.environments)
    effort = QUICK if options.quick else FULL
    conditions = report.conditions_of(effort, _versions(prepared), pth_files(prepared.python))
    outcomes = run(prepared, options.only or (QUICK_PARTS if options.quick else PART_NAMES), effort)
    print(write(output, outcomes, conditions))
    say(f"results are in {output}")
    return 1 if any(outcome.wrong for outcome in outcomes.values()) else 0


def run(environments: Environments, parts: Sequence[str], effort: Effort) -> dict[str, Outcome]:
    """The outcomes of these parts, by the name of the scenario."""
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ldreader-benchmarks-")))
        stores = stack.enter_context(Stores(directory))
        launcher = stack.enter_context(Launcher(environments.python))
        scenarios = Scenarios(stores, environments, launcher, directory, effort)
        for name, part in scenarios.parts().items():
            if name not in parts:
                continue
            try:
                for scenario in part():
                    outcomes[scenario.name] = measure(scenario, stores, effort)
            except Unavailable as error:
                say(f"{name} is left out: {error}")
    return outcomes


def write(directory: Path, outcomes: Mapping[str, Outcome], conditions: Mapping[str, Any]) -> str:
    """Writes all results into the directory; returns the tables."""
    promises = budgets(outcomes)
    tables = report.markdown(outcomes, promises, conditions)
    (directory / "results.md").write_text(tables, encoding="utf-8")
    data = json.dumps(report.as_json(outcomes, promises, conditions), indent=1, ensure_ascii=False)
    (directory / "results.json").write_text(f"{data}\n", encoding="utf-8")
    cold = [name for name in outcomes if name.startswith("cold.")]
    kept = [name for name in outcomes if name.startswith(("warm.", "twenty.", "all."))]
    for file, chosen, title in (
        ("cold", cold, "A new process: time as a multiple of a bare interpreter's"),
        ("warm", kept, "A process that goes on: time as a multiple of ldreader's"),
    ):
        groups = [plot.Group(outcomes[name].scenario.title, _ratios(outcomes[name])) for name in chosen]
        (directory / f"{file}.svg").write_text(plot.bars(title, groups), encoding="utf-8")
    panels = []
    for by, sizes in GROWTH.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for size in sizes:
            if f"growth.{by}.{size}" in outcomes:
                for contender, figures in outcomes[f"growth.{by}.{size}"].figures.items():
                    lines.setdefault(contender, []).append((size, figures.wall * 1e3))
        panels.append(
            plot.Lines(f"time by number of {by}" if by != "depth" else "time by depth of prerequisites", lines)
        )
    growth = plot.diagrams("How cost grows", panels, "ms")
    (directory / "growth.svg").write_text(growth, encoding="utf-8")
    return tables


def _ratios(outcome: Outcome) -> dict[str, float]:
    ratios = {name: outcome.ratio(name) for name in outcome.figures if name != LIMIT_ISOLATED}
    return {name: ratio for name, ratio in ratios.items() if ratio is not None}


def _versions(environments: Environments) -> dict[str, str]:
    program = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.run(
        [environments.packages, "-c", program, *PACKAGES], check=True, capture_output=True, text=True
    )
    return dict(zip(PACKAGES, found.stdout.split(), strict=True))


if __name__ == "__main__":
    sys.exit(main())
