"""Runs LaunchDarkly's sdk-test-harness against ldreader: python -m tests.contract.run [php|server|persistence …]."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import ProxyHandler, build_opener

from tests.aws import ENVIRONMENT, FOREIGN, amazons_own
from tests.consul_agent import ConsulAgent
from tests.servers import RedisServer, free_port

PROJECT = Path(__file__).parent.parent.parent
INSTALLED = PROJECT / ".contract" / "sdk-test-harness"

SECTIONS = {
    "php": (),  # all
    "server": ("evaluation", "big segments", "hooks", "migrations", "secure mode hash", "context type"),
    "persistence": ("persistent data store",),
}
"""What is run: as the PHP SDK, as any SDK on a server, and over databases; the last two restricted."""

PORTS = {"redis": 6379, "consul": 8500, "dynamodb": 8000}
"""Where the harness looks for databases, and empties them: nothing of anybody's may be there."""


class Outcome(NamedTuple):
    """How a run of the harness went."""

    passed: bool
    ran: int
    excluded: int
    output: str


class Exclusion(NamedTuple):
    """A test that is left out."""

    run: str
    test: str
    reason: str


def exclusions() -> list[Exclusion]:
    """What exclusions.txt lists."""
    lines = (Path(__file__).parent / "exclusions.txt").read_text(encoding="utf-8").splitlines()
    parts = [[part.strip() for part in line.split(" | ", 2)] for line in lines if line and not line.startswith("#")]
    return [Exclusion(*each) for each in parts]


def harness() -> str | None:
    """The program: $LDREADER_HARNESS, the one that ``make contract`` installed, or one on the path."""
    named = os.environ.get("LDREADER_HARNESS")
    if named:
        return named
    return str(INSTALLED) if INSTALLED.exists() else shutil.which("sdk-test-harness")


def ports_in_use() -> list[int]:
    """The ports of databases at which somebody already listens."""
    found = []
    for port in PORTS.values():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


def run(name: str, program: str) -> Outcome:
    """One of the runs, without what is excluded from it."""
    left_out = [each.test for each in exclusions() if each.run == name]
    status, output = _harness(name, program, run=SECTIONS[name], skip=left_out)
    summary = re.search(r"^Test Summary: .* (\d+) ran$", output, re.MULTILINE)
    ran = int(summary[1]) if summary else 0
    return Outcome(status == 0 and ran > 0, ran, len(left_out), output)


def needless_exclusions(name: str, program: str) -> list[str]:
    """What is excluded from a run and need not be: tests that pass, and exclusions that the harness has no test for."""
    left_out = [each.test for each in exclusions() if each.run == name]
    if not left_out:
        return []
    _, output = _harness(name, program, run=left_out, skip=[])
    listed = output.splitlines()
    failed = {line[4:] for line in listed if line.startswith("  * ")}
    tests = [line[1:-1] for line in listed if re.fullmatch(r"\[.+\]", line)]
    leaves = [test for test in tests if not any(other.startswith(f"{test}/") for other in tests)]
    found = []
    for excluded in left_out:
        below = [test for test in leaves if f"{test}/".startswith(f"{excluded}/")]
        found += [test for test in below if test not in failed] or ([] if below else [excluded])
    return found


def _harness(name: str, program: str, *, run: Sequence[str], skip: Sequence[str]) -> tuple[int, str]:
    """The exit status and the output. For ``persistence``, databases are started where the harness expects them."""
    with ExitStack() as stack:
        if name == "persistence":
            stack.enter_context(_databases())
        port = stack.enter_context(_service("php" if name == "php" else "server"))
        command = [program, "-url", f"http://127.0.0.1:{port}", "-host", "127.0.0.1", "-port", str(free_port())]
        for option, tests in (("-run", run), ("-skip", skip)):
            command += [word for test in tests for word in (option, _pattern(test))]
        if name == "persistence":
            command.append("-enable-persistence-tests")
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
        )
    return done.returncode, done.stdout


def _pattern(test: str) -> str:
    return "/".join(f"^{part}$" for part in test.split("/"))


@contextmanager
def _service(mode: str) -> Iterator[int]:
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN} | ENVIRONMENT
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.service", str(port), mode],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        opener = build_opener(ProxyHandler({}))
        deadline = time.monotonic() + 20
        while True:
            try:
                with opener.open(f"http://127.0.0.1:{port}/", timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _databases() -> Iterator[None]:
    taken = ports_in_use()
    if taken:
        raise RuntimeError(f"the harness would empty what listens on {taken}; stop that first")
    with ExitStack() as stack:
        redis, consul, dynamodb = RedisServer(), ConsulAgent(), amazons_own()
        redis.port = PORTS["redis"]
        dynamodb.port = PORTS["dynamodb"]
        others = ("https", "server", "serf_lan", "serf_wan")
        consul._ports = {"http": PORTS["consul"], **{other: free_port() for other in others}}
        for server in (redis, consul, dynamodb):
            stack.enter_context(server)
        yield


def main(names: list[str]) -> int:
    """Runs those that are named, or all, and shows what failed."""
    program = harness()
    if program is None:
        print("sdk-test-harness is not installed: make contract", file=sys.stderr)
        return 2
    failed = False
    for name in names or list(SECTIONS):
        outcome = run(name, program)
        word = "passed" if outcome.passed else "FAILED"
        print(f"{name}: {word}, {outcome.ran} ran, {outcome.excluded} excluded")
        if not outcome.passed:
            failed = True
            print(outcome.output)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
