"""Real servers for the tests, each on a free port of this machine and gone with the test that started it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
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


def until(happened: Callable[[], object], what: str) -> None:
    """Returns when it is so; fails after a while."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain for {what}"
        time.sleep(0.02)


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

    def ask(self, *command: str) -> str:
        """The reply to a command, as it comes over the Unix socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.socket_path))
            words = [word.encode() for word in command]
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
            reply = b""
            while not reply.endswith(b"\r\n") or (reply[:1] == b"$" and reply.count(b"\r\n") < 2):
                reply += connection.recv(65536)
        assert not reply.startswith(b"-"), reply
        return reply.decode()

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


class RedisSentinel(RedisServer):
    """A Sentinel that alone decides who serves as ``service``; it knows others under that name after a failover."""

    service = "flags"

    def __init__(self, master: RedisServer, *lines: str) -> None:
        super().__init__()
        self._program = self._command[0]
        self._lines = [
            f"sentinel monitor {self.service} 127.0.0.1 {master.port} 1",
            f"sentinel down-after-milliseconds {self.service} 300",
            f"sentinel failover-timeout {self.service} 1000",
            *lines,
        ]

    def start(self) -> None:
        """Starts it with what it is to watch; returns when it answers."""
        settings = self._directory / "sentinel.conf"
        settings.write_text("".join(f"{line}\n" for line in self._lines))
        self._command = [self._program, str(settings), "--sentinel"]
        super().start()


class RedisCluster:
    """Three masters that share the slots, for the length of a ``with`` block."""

    def __init__(self, *options: str) -> None:
        settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *options]
        self._bus_ports = [free_port() for _ in range(3)]
        self.nodes = [RedisServer(*settings, "--cluster-port", str(port)) for port in self._bus_ports]
        self._running = ExitStack()

    @property
    def url(self) -> str:
        """The address of all three."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def __enter__(self) -> RedisCluster:
        with ExitStack() as starting:
            for node in self.nodes:
                starting.enter_context(node)
            for index, node in enumerate(self.nodes):
                node.ask("CLUSTER", "ADDSLOTSRANGE", str(16384 * index // 3), str(16384 * (index + 1) // 3 - 1))
                meeting = ["CLUSTER", "MEET", "127.0.0.1", str(node.port), str(self._bus_ports[index])]
                self.nodes[0].ask(*meeting)
            self.wait_until_whole()
            self._running = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def wait_until_whole(self) -> None:
        """Returns when every node knows that every other is up."""

        def is_whole(node: RedisServer) -> bool:
            state = node.ask("CLUSTER", "INFO")
            return "cluster_state:ok" in state and "cluster_slots_ok:16384" in state and "known_nodes:3" in state

        until(lambda: all(is_whole(node) for node in self.nodes), "a whole cluster")
