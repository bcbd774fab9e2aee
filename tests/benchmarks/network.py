"""A network between a client and a server on this machine: it delays, and it counts round trips."""

from __future__ import annotations

import heapq
import select
import socket
import threading
import time
from types import TracebackType

PIECE = 1 << 18
"""Bytes that are passed on at once."""


class Network:
    """Passes on to a port of this machine, for the length of a ``with`` block.

    ``delay`` is what a round trip takes longer, in seconds: half of it lies on each way, and all of it once more on
    what a new connection sends first, as if connecting had taken its round trip.
    """

    def __init__(self, port: int, delay: float = 0.0) -> None:
        self._server = port
        self._delay = delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """Where it listens."""
        self._wake, self._woken = socket.socketpair()
        self._others: dict[socket.socket, socket.socket] = {}  # by socket: where what it says goes
        self._talking: set[socket.socket] = set()  # those that have not ended
        self._clients: dict[socket.socket, bool] = {}  # by client: whether it has said something since it was told
        self._due: dict[socket.socket, float] = {}  # by receiver: when the last piece so far is due
        self._pieces: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0
        self.round_trips = 0
        """How many times a client has spoken first or after an answer; what is sent meanwhile does not count."""
        self.connections = 0
        """How many there were."""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        for each in (*self._others, self._listener, self._woken):
            each.close()

    def forget(self) -> None:
        """Counts from 0 again; while nobody is talking."""
        self.round_trips = self.connections = 0

    def _run(self) -> None:
        while True:
            # No epoll: it waits for whole milliseconds.
            wait = max(self._pieces[0][0] - time.monotonic(), 0.0) if self._pieces else None
            readable, _, _ = select.select([self._listener, self._woken, *self._talking], [], [], wait)
            if self._woken in readable:
                return
            if self._listener in readable:
                self._connect()
            for speaker in readable:
                if speaker in self._talking:
                    self._hear(speaker)
            while self._pieces and self._pieces[0][0] <= time.monotonic():
                _, _, receiver, piece = heapq.heappop(self._pieces)
                self._pass_on(receiver, piece)

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._server))
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._others[one] = other
            self._talking.add(one)
        self._clients[client] = False
        self._due[server] = time.monotonic() + self._delay * 1.5
        self.connections += 1

    def _hear(self, speaker: socket.socket) -> None:
        try:
            piece = speaker.recv(PIECE)
        except OSError:
            piece = b""
        receiver = self._others[speaker]
        if piece and speaker in self._clients:
            if not self._clients[speaker]:
                self._clients[speaker] = True
                self.round_trips += 1
        elif piece:
            self._clients[receiver] = False
        else:
            self._talking.discard(speaker)
        due = max(time.monotonic() + self._delay / 2, self._due.get(receiver, 0.0))
        self._due[receiver] = due
        self._number += 1
        heapq.heappush(self._pieces, (due, self._number, receiver, piece))

    def _pass_on(self, receiver: socket.socket, piece: bytes) -> None:
        if receiver not in self._others:
            return  # closed meanwhile
        try:
            if piece:
                receiver.sendall(piece)
                return
        except OSError:
            pass
        for each in (receiver, self._others[receiver]):
            del self._others[each]
            self._talking.discard(each)
            self._clients.pop(each, None)
            self._due.pop(each, None)
            each.close()
