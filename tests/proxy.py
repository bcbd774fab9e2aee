"""What stands between a client and a real server: it notes, or answers in its place, or lets connections die."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple

from tests.benchmarks.network import Network


class Sent(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Proxy:
    """Forwards to a port of this machine, for the length of a ``with`` block."""

    def __init__(self, port: int, instead: Callable[[Sent], Answer | None] = lambda sent: None) -> None:
        self.sent: list[Sent] = []
        self.connections = 0
        """How many there have been."""
        self.instead = instead
        """What answers in the server's place; None leaves a request to the server."""
        self._port = port

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.server_address[1]
        return port

    def forward(self, sent: Sent) -> Answer:
        """What the server answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(sent.method, sent.path, sent.body, sent.headers | {"Accept-Encoding": "identity"})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def __enter__(self) -> Proxy:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                sent = Sent(self.command, self.path, dict(self.headers.items()), body)
                proxy.sent.append(sent)
                answer = proxy.instead(sent) or proxy.forward(sent)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def setup(self) -> None:
                proxy.connections += 1
                super().setup()

            do_GET = do_PUT = do_POST = do_DELETE = _answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Relay(Network):
    """Passes on to a port of this machine until the connections that there are die."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._is_paused = False
        self._held: set[socket.socket] = set()

    def __enter__(self) -> Relay:
        super().__enter__()
        return self

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._clients)

    def cut(self) -> None:
        """Ends them, as a server does that has waited for long enough, and tells the client."""
        for each in list(self._others):
            with suppress(OSError):  # it has ended already
                each.shutdown(socket.SHUT_RDWR)

    def swallow(self) -> None:
        """Lets them die without a word: nothing that is sent on them arrives, and nobody answers."""
        self._talking = set()

    def pause(self) -> None:
        """Takes connections, and passes nothing on, as a server that hangs."""
        self._is_paused = True

    def resume(self) -> None:
        """Passes on again, from the next connection on also what has come meanwhile."""
        self._is_paused = False
        self._talking, self._held = self._talking | self._held, set()

    def _hear(self, speaker: socket.socket) -> None:
        if self._is_paused:
            self._talking.discard(speaker)
            self._held.add(speaker)
        else:
            super()._hear(speaker)
