"""Contenders: each can be asked for its answer, and measured once more."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

from tests.benchmarks.environments import Environments
from tests.benchmarks.stores import Place, pin

NOTHING = object()
"""The answer of a contender that gives none."""

ELSEWHERE = "/"
"""Where contenders run: Python looks for modules in the working directory first, and there is a ldreader here."""

Sample = dict[str, float]
"""What one measurement found, by name: ``wall``, ``cpu`` (seconds), ``memory`` (bytes)."""


class Absent(Exception):
    """A contender cannot take part; the message says why."""


class WrongAnswer(Exception):
    """A contender gave another answer than the right one."""


def variables(place: Place | None = None) -> dict[str, str]:
    """The environment variables that a contender sees, and nothing of the machine's own."""
    own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8"}
    return own | (place.variables if place else {})


class PhpSdk(NamedTuple):
    """Where the PHP SDK is."""

    program: str
    autoload: str

    @classmethod
    def at_hand(cls) -> PhpSdk | None:
        """The one in the directory that $LDREADER_BENCH_PHP_SDK names, None when there is none."""
        directory, program = os.environ.get("LDREADER_BENCH_PHP_SDK"), shutil.which("php")
        if not directory or not program:
            return None
        autoload = Path(directory) / "vendor" / "autoload.php"
        return cls(program, str(autoload)) if autoload.is_file() else None

    def command(self, *words: str) -> list[str]:
        """The command that runs the driver with these words."""
        return [self.program, str(Path(__file__).with_name("driver.php")), self.autoload, *words]


def driver_command(environments: Environments, *words: str) -> list[str]:
    """The command that runs the driver of the Python contenders."""
    start = "from ldreader_benchmark_driver import main; main()"
    return [environments.packages, "-c", start, *words]


class Driven:
    """A contender in a process that goes on, and does its job so often as it is told."""

    def __init__(self, command: Sequence[str], place: Place | None, slice_seconds: float) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables(place), cwd=ELSEWHERE, text=True
        )
        pin(self._process.pid)
        self._slice = slice_seconds
        self._times = 0
        try:
            started = self._reply()
            if "ready" not in started:
                raise Absent(str(started["unavailable"]).partition("; ")[0])
        except BaseException:
            self.close()
            raise

    def answer(self) -> Any:
        """What it answers."""
        return self._ask(0)["answer"]

    def do(self, times: int) -> None:
        """Does the job so often, unmeasured."""
        self._ask(times)

    def sample(self) -> Sample:
        """What one time costs, on average over a slice."""
        self._ask(1)  # after the others' turns, caches are cold
        if not self._times:
            self._times = 1
            # So often that it takes a slice: what a first time costs more is left out.
            while (spent := self._ask(self._times)["wall"]) < self._slice:
                self._times = max(self._times * 2, int(self._times * self._slice / max(spent, 1e-6)))
        spent = self._ask(self._times)
        return {name: spent[name] / self._times for name in ("wall", "cpu")}

    def close(self) -> None:
        """Ends the process."""
        self._stream("stdin").close()
        self._process.wait()
        self._stream("stdout").close()

    def _ask(self, times: int) -> Any:
        stdin = self._stream("stdin")
        stdin.write(f"{times}\n")
        stdin.flush()
        return self._reply()

    def _reply(self) -> Any:
        line = self._stream("stdout").readline()
        if not line:
            raise WrongAnswer(f"it ended without an answer, with exit code {self._process.wait()}")
        return json.loads(line)

    def _stream(self, name: str) -> IO[str]:
        stream: IO[str] = getattr(self._process, name)
        return stream


class OneShot:
    """A contender that is a new process each time."""

    def __init__(
        self, launcher: Launcher, command: Sequence[str], place: Place | None, *, silent: bool = False
    ) -> None:
        self._launcher = launcher
        self._command = list(command)
        self._variables = variables(place)
        self._silent = silent

    def answer(self) -> Any:
        """What it prints; of a state of all flags, the values."""
        done = subprocess.run(
            self._command, env=self._variables, cwd=ELSEWHERE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["nothing"]
            if done.returncode == 2:
                raise Absent(said[-1].partition("; ")[0])
            raise WrongAnswer(f"it ended with exit code {done.returncode} and said: {said[-1]}")
        if self._silent:
            return NOTHING
        printed = json.loads(done.stdout)
        if isinstance(printed, dict):
            return {name: value for name, value in printed.items() if not name.startswith("$")}
        return printed

    def do(self, times: int) -> None:
        """Runs it so often, unmeasured."""
        for _ in range(times):
            subprocess.run(self._command, env=self._variables, cwd=ELSEWHERE, stdout=subprocess.DEVNULL, check=True)

    def sample(self) -> Sample:
        """What one run costs."""
        return self._launcher.run(self._command, self._variables)

    def instructions(self) -> int | None:
        """How many instructions a run takes, counted by callgrind; None without valgrind."""
        valgrind = shutil.which("valgrind")
        if valgrind is None:
            return None
        command = self._command
        program = Path(command[0])
        with program.open("rb") as file:
            if file.read(2) == b"#!":  # valgrind is to run the interpreter itself
                command = [str(program.with_name("python")), *command]
        with tempfile.TemporaryDirectory() as directory:
            counting = [valgrind, "--tool=callgrind", f"--callgrind-out-file={directory}/out"]
            done = subprocess.run(
                [*counting, *command],
                env=self._variables | {"PYTHONHASHSEED": "0"},
                cwd=ELSEWHERE,
                capture_output=True,
                text=True,
                check=False,
            )
        return None if done.returncode else collected(done.stderr)

    def close(self) -> None:
        """Does nothing: nothing goes on."""


def collected(said: str) -> int | None:
    """The instructions that callgrind says it has counted."""
    found = re.search(r"^==\d+== Collected\s*: (\d+)", said, re.MULTILINE)
    return int(found[1]) if found else None


class Launcher:
    """Runs commands from a small process and measures them, for the length of a ``with`` block."""

    def __init__(self, python: str) -> None:
        self._command = [python, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]

    def __enter__(self) -> Launcher:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, cwd=ELSEWHERE, text=True)
        pin(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, command: Sequence[str], environment: dict[str, str]) -> Sample:
        """What a run of this command costs: seconds, CPU seconds and the most memory that it had, in bytes."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{(list(command), environment)!r}\n")
        stdin.flush()
        code, wall, cpu, kilobytes = eval(stdout.readline())
        if code:
            raise WrongAnswer(f"{' '.join(command)} ended with exit code {code}")
        return {"wall": wall, "cpu": cpu, "memory": kilobytes * 1024}
