"""AWS Lambda for the tests: the real runtime client runs a handler, and a small API gives it invocations.

The API is Lambda's, by which a runtime asks for the next invocation and posts what became of it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, NamedTuple

import pytest

from tests.servers import PATIENCE, lacking

PROJECT = Path(__file__).parent.parent
VERSION = "/2018-06-01/runtime"


class Answer(NamedTuple):
    """What became of an invocation."""

    value: Any
    """What the handler returned; None where it failed."""
    error: Any
    """What the runtime client says of a failure; None where there was none."""
    seconds: float
    """From handing it out until the answer."""
    spare: float
    """Seconds of its time that were left; negative when it was late."""
    moment: float
    """When it came, by ``time.monotonic``."""


class _Invocation(NamedTuple):
    name: str
    event: bytes
    remaining: float
    answers: Queue[Answer]


class RuntimeApi:
    """Lambda's side, on a port of this machine, for the length of a ``with`` block."""

    def __init__(self) -> None:
        self._queue: Queue[_Invocation | None] = Queue()
        self._handed: dict[str, tuple[_Invocation, float, float]] = {}
        self._connections: list[socket.socket] = []
        self._count = 0
        self.failed: Queue[Any] = Queue()
        """What runtimes said that could not begin."""
        self.snapshot = threading.Event()
        """Set when a runtime is ready for a snapshot to be taken."""
        self.restore = threading.Event()
        """Setting it lets such a runtime go on."""

    @property
    def address(self) -> str:
        """What the variable AWS_LAMBDA_RUNTIME_API names."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def begin(self, event: Any, remaining: float = 3.0) -> Queue[Answer]:
        """Lets a runtime have an event, with so many seconds to answer; where the answer will be."""
        self._count += 1
        invocation = _Invocation(str(self._count), json.dumps(event).encode(), remaining, Queue())
        self._queue.put(invocation)
        return invocation.answers

    def __enter__(self) -> RuntimeApi:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for connection in self._connections:
            self._queue.put(None)
            connection.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as stream:
                while request := stream.readline():
                    method, path, _ = request.decode().split()
                    length = 0
                    while header := stream.readline().strip():
                        name, _, value = header.partition(b":")
                        if name.lower() == b"content-length":
                            length = int(value)
                    self._answer(connection, path.removeprefix(VERSION), stream.read(length))
        except (OSError, ValueError):
            pass  # the runtime has gone, or the test is over

    def _answer(self, connection: socket.socket, path: str, body: bytes) -> None:
        now = time.monotonic()
        if path == "/invocation/next":
            invocation = self._queue.get()
            if invocation is None:
                raise OSError("the test is over")
            deadline = time.time() + invocation.remaining
            headers = {
                "Lambda-Runtime-Aws-Request-Id": invocation.name,
                "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:flags",
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
            }
            self._handed[invocation.name] = invocation, time.monotonic(), deadline
            _say(connection, 200, invocation.event, headers)
            return
        if path == "/restore/next":
            self.snapshot.set()
            self.restore.wait()
            _say(connection, 200, b"")
            return
        if path == "/init/error":
            self.failed.put(json.loads(body))
        else:
            _, _, name, what = path.split("/")
            invocation, begin, deadline = self._handed.pop(name)
            said = json.loads(body)
            value, error = (said, None) if what == "response" else (None, said)
            invocation.answers.put(Answer(value, error, now - begin, deadline - time.time(), now))
        _say(connection, 202, b'{"status":"OK"}')


class Environment:
    """An execution environment: a process of the real runtime client, for the length of a ``with`` block.

    ``wrapper`` is a command that runs the one that follows it, such as one that takes away most of a core.
    """

    def __init__(
        self,
        handler: str,
        variables: Mapping[str, str],
        *,
        python: str = sys.executable,
        directory: Path = PROJECT,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.api = RuntimeApi()
        self._command = [*wrapper, python, "-m", "awslambdaric", handler]
        self._variables = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **variables}
        self._directory = directory
        self.started = 0.0
        """When it was, by ``time.monotonic``."""

    def __enter__(self) -> Environment:
        self.api.__enter__()
        self._log = tempfile.TemporaryFile()
        address = {"AWS_LAMBDA_RUNTIME_API": self.api.address, "AWS_LAMBDA_FUNCTION_NAME": "flags"}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self._command,
            env={**self._variables, **address},
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)  # as Lambda does it, without a word, and its workers with it
        self.process.wait(PATIENCE)
        self.api.__exit__(kind, error, trace)
        self._log.close()

    def invoke(self, event: Any, remaining: float = 3.0) -> Answer:
        """What the handler answers to an event, for which it has so many seconds."""
        answers = self.api.begin(event, remaining)
        deadline = time.monotonic() + remaining + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                return answers.get(timeout=0.2)
            except Empty:
                continue
        raise AssertionError(f"no answer to {event!r}; the environment said:\n{self.log()}")

    def log(self) -> str:
        """What has been printed and logged in it."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()


def need_the_runtime_client() -> None:
    """Skips the test where the runtime client is not installed, which is for Linux alone."""
    try:
        import awslambdaric  # noqa: F401
    except ImportError:
        if sys.platform == "linux":
            lacking("awslambdaric is not installed: pip install awslambdaric", "LDREADER_REQUIRE_SERVERS")
        pytest.skip("awslambdaric is for Linux")


def _say(connection: socket.socket, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    lines = [f"HTTP/1.1 {status} OK", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    connection.sendall("\r\n".join((*lines, "\r\n")).encode() + body)
