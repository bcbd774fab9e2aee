"""What the tests of Redis need besides Redis: certificates, and things on a port that only look like Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers import lacking


class Certificates:
    """An authority of its own, and certificates from it for a server on 127.0.0.1 and for a client."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._make("ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        signed = ["-CA", str(self.ca), "-CAkey", str(self.key("ca"))]
        for name in ("server", "client"):
            self._make(name, "basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1", options=signed)

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.certificate("ca")

    def certificate(self, name: str) -> Path:
        """The certificate of that name."""
        return self._directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        """The private key of that name."""
        return self._directory / f"{name}.key"

    def _make(self, name: str, *extensions: str, options: list[str] | None = None) -> None:
        program = shutil.which("openssl")
        if program is None:
            lacking("openssl is not installed: apt-get install openssl", "LDREADER_REQUIRE_SERVERS")
        command = [program, "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-keyout", str(self.key(name)), "-out", str(self.certificate(name))]
        command += [word for extension in extensions for word in ("-addext", extension)]
        made = subprocess.run([*command, *(options or [])], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@contextmanager
def full_port() -> Iterator[int]:
    """A port on which connecting never comes to an end, since nobody takes those who wait already."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(10):
            waiting = sockets.enter_context(socket.socket())
            waiting.settimeout(0.1)
            try:
                waiting.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            lacking("this system takes any number of connections", "LDREADER_REQUIRE_SERVERS")
        yield listener.getsockname()[1]


@contextmanager
def answering_port(answer: Callable[[socket.socket, bytes, threading.Event], None]) -> Iterator[int]:
    """A port where ``answer`` gets each connection with what came in; its event is set when the test is over."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(0.02)
            while not over.is_set():
                try:
                    asked = connection.recv(65536)
                    if not asked:
                        return
                    answer(connection, asked, over)
                except TimeoutError:
                    continue
                except OSError:
                    return

    def listen() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=serve, args=[connection]))
            threads[-1].start()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.settimeout(0.02)
        threads.append(threading.Thread(target=listen))
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            for thread in threads:
                thread.join()
