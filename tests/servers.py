"""Real servers for the tests, each on a free port of this machine and gone with the test that started it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import pytest

PATIENCE = 10.0  # seconds for a server to start, or to end when asked to


def lacking(what: str, variable: str) -> NoReturn:
    """Skips what is being run or collected; fails it when the environment variable is 1."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{what} ({variable}=1)", pytrace=False)
    pytest.skip(what, allow_module_level=True)


def free_port() -> int:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """A redis-server that runs for the length of a ``with`` block, with the options given.

    It can be stopped and started again on the same port, but forgets what it held.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            lacking("redis-server is not installed: apt-get install redis-server", "LDREADER_REQUIRE_SERVERS")
        self._command = [program, *options]
        self.port = 0

    @property
    def url(self) -> str:
        """The server's address over TCP."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def socket_path(self) -> Path:
        """The server's Unix socket."""
        return self._directory / "redis.sock"

    def __enter__(self) -> RedisServer:
        self._directory = Path(tempfile.mkdtemp(prefix="ldreader-redis-"))
        try:
            self.start()
        except BaseException:
            self._remove_directory()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._remove_directory()

    def start(self) -> None:
        """Starts it; returns when it answers."""
        for _ in range(5):  # another process may take the port first
            port = self.port or free_port()
            if self._answers_on(port):
                self.port = port
                return
        raise RuntimeError(f"redis-server did not start:\n{self._log.read_text()}")

    def stop(self) -> None:
        """Ends it, paused or not; returns when it has ended."""
        if self.process.poll() is None:
            self.resume()
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def pause(self) -> None:
        """Keeps it from answering; connections are still accepted, by the kernel."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it answer again."""
        self.process.send_signal(signal.SIGCONT)

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _remove_directory(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers_on(self, port: int) -> bool:
        """Whether it starts on this port; if not, it has ended."""
        settings = ["--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(self.socket_path)]
        settings += ["--save", "", "--appendonly", "no", "--dir", str(self._directory)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*self._command, *settings], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _answers(self) -> bool:
        # The Unix socket, because on the port another process may be answering.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False
