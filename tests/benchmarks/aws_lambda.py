"""Cold starts in AWS Lambda: a process of the real runtime client, on a part of a core, until it has answered."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.benchmarks.contenders import ELSEWHERE, Sample, WrongAnswer, variables
from tests.benchmarks.environments import FUNCTION_NAME, Environments
from tests.benchmarks.stores import Place
from tests.lambda_runtime import Environment

PERIOD = 20_000
"""Microseconds in which a process may run for its part of them."""
LIMIT = 60.0
"""Seconds that an invocation may take."""
_ROOTS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
"""Where control groups for the processor are: those of version 1, and of version 2."""


class Core:
    """A part of a core for the processes that are started in it, for the length of a ``with`` block."""

    def __init__(self, part: float) -> None:
        self.part = part
        self._quota = round(PERIOD * part)

    @property
    def wrapper(self) -> list[str]:
        """A command that runs the one that follows it within the part."""
        return ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self._group / "cgroup.procs")]

    def __enter__(self) -> Core:
        for root in _ROOTS:
            self._group = root / f"ldreader-benchmark-{os.getpid()}-{self._quota}"
            try:
                self._group.mkdir()
            except OSError:
                continue
            try:
                if (self._group / "cpu.max").exists():
                    (self._group / "cpu.max").write_text(f"{self._quota} {PERIOD}", encoding="ascii")
                else:
                    (self._group / "cpu.cfs_period_us").write_text(str(PERIOD), encoding="ascii")
                    (self._group / "cpu.cfs_quota_us").write_text(str(self._quota), encoding="ascii")
                return self
            except OSError:
                self._group.rmdir()
        pytest.skip("control groups for the processor cannot be made here: that takes Linux, and root")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.rmdir()


class ColdStart:
    """A contender whose every time is a new execution environment, from its process to its first answer."""

    def __init__(
        self, environments: Environments, core: Core, contender: str, job: dict[str, Any], place: Place
    ) -> None:
        self._python = environments.packages
        self._core = core
        self._event = {"key": job["keys"][0], "context": job["context"]}
        self._variables = variables(place) | {
            "CONTENDER": contender,
            "JOB": json.dumps(job),
            "LDREADER_STORE": place.url,
        }

    def answer(self) -> Any:
        """What it answers."""
        return self._start()[1]

    def do(self, times: int) -> None:
        """Starts it so often, unmeasured."""
        for _ in range(times):
            self._start()

    def sample(self) -> Sample:
        """What one start costs."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        sample, _ = self._start()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        sample["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return sample

    def close(self) -> None:
        """Does nothing: nothing goes on."""

    def _start(self) -> tuple[Sample, Any]:
        with Environment(
            f"{FUNCTION_NAME}.handler",
            self._variables,
            python=self._python,
            directory=Path(ELSEWHERE),
            wrapper=self._core.wrapper,
        ) as environment:
            try:
                answer = environment.invoke(self._event, LIMIT)
            except AssertionError as error:
                raise WrongAnswer(f"it did not start: {error}") from error
            if answer.error is not None:
                raise WrongAnswer(f"it failed: {answer.error}")
            status = Path(f"/proc/{environment.process.pid}/status").read_text(encoding="ascii", errors="replace")
            (most,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
            return {"wall": answer.moment - environment.started, "memory": int(most) * 1024.0}, answer.value
