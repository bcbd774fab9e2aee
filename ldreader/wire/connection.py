"""Connections to one server, which read with a bound in time and size and are kept for the next read."""

from __future__ import annotations

import os
import time

from ..twins import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Reply = TypeVar("Reply")

KEPT = 8
"""Idle connections that are kept; as many threads may read without connecting anew."""

KEPT_FOR = 30.0
"""Seconds after which an idle connection is not trusted: a frozen process does not hear that it was closed."""

TRUSTED_FOR = 1.0
"""Seconds in which an idle connection is not even looked at before it is used."""

LINE_LIMIT = 65536
"""Bytes of a line of a protocol."""

REPLY_LIMIT = 512 * 1024 * 1024
"""Bytes of all that is read for one question: what Redis allows a single value, and more than a store answers."""

SLACK = 0.02
"""Seconds by which a wait may be off, unless it is shorter than ten times as much."""

_EXACT = 10 * SLACK

_PIECE = 65536
_LARGE_PIECE = 1024 * 1024


class MalformedReply(Exception):
    """The server's reply is not in its protocol, or too long."""


class Endpoint:
    """One server: connects when asked and keeps connections; may be shared by threads, and used after a fork.

    ``address`` is host and port, or the path of a Unix socket. ``secure`` makes the TLS context, when it is needed.
    ``timeout`` is in seconds: connecting may take so long, and the reply to a question too.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        *,
        timeout: float,
        secure: Callable[[], Any] | None = None,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._secure = secure
        self._context: Any = None
        self._idle: list[Connection] = []

    def ask(self, talk: Callable[[Connection], Reply], deadline: float | None = None) -> Reply:
        """What ``talk`` makes of the server's reply on a connection; it may be called twice, so it only reads.

        A kept connection that gives no byte in half of the timeout has gone stale, and a new one is asked; one that
        was idle for a while, also in half of the time until the deadline. All in all it takes twice the timeout at
        most, and not longer than the deadline (of ``time.monotonic``).

        Raises:
            OSError: There was no reply, or none in time.
            MalformedReply: The reply makes no sense.
        """
        begin = time.monotonic()
        end = begin + 2 * self._timeout
        if deadline is not None and deadline < end:
            end = deadline
            _left(end)  # none: a connection that is kept shall not be lost over it
        connection = self._kept(begin)
        if connection is not None:
            patience = self._timeout / 2
            if connection.slept:
                patience = min(patience, (end - begin) / 2)
            early, late = begin + patience, begin + self._timeout
            connection.end = early if early < end else end
            connection.prolonged = late if late < end else end
            try:
                reply = talk(connection)
            except OSError:
                connection.close()
                if not connection.heard:
                    self.close()  # those kept beside it have slept as long
                if connection.heard or time.monotonic() >= end:
                    raise
            except BaseException:
                connection.close()  # what is left of the reply would be taken for the next
                raise
            else:
                self._keep(connection)
                return reply
        connection = Connection(lambda: self._open(min(end, time.monotonic() + self._timeout)))
        connection.end = connection.prolonged = min(end, time.monotonic() + self._timeout)
        try:
            reply = talk(connection)
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return reply

    def close(self) -> None:
        """Closes the connections that are kept; the next question opens another."""
        idle, self._idle = self._idle, []  # at once: other threads take from it
        for connection in idle:
            connection.close()

    def _kept(self, now: float) -> Connection | None:
        """A connection from before that seems to be alive."""
        while True:
            try:
                connection = self._idle.pop()  # at once, so that no other thread gets it
            except IndexError:
                return None
            if connection.seems_alive(now):
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> None:
        if connection.rest() and len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def _open(self, end: float) -> Any:
        """A connected socket."""
        if self._secure is not None and self._context is None:
            self._context = self._secure()  # first, because it loads the public socket
        module = sockets()
        if isinstance(self._address, str):
            connected = module.socket(module.AF_UNIX, module.SOCK_STREAM)
            _connect(connected, self._address, end)
            return connected
        host, port = self._address
        try:
            name = host.encode("ascii" if host.isascii() else "idna")  # text would load that codec in any case
        except UnicodeError as error:
            raise OSError("no host can have this name") from error
        found = module.getaddrinfo(name, port, 0, module.SOCK_STREAM)
        for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
            now = time.monotonic()
            try:
                connected = module.socket(family, kind, protocol)  # fails where the system has no IPv6
                # An address that is silent leaves time for the others.
                _connect(connected, address, now + (end - now) / left)
                connected.setsockopt(module.IPPROTO_TCP, module.TCP_NODELAY, 1)
                break
            except OSError:
                if left == 1:
                    raise
        if self._context is None:
            return connected
        try:
            secured = self._context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
        except BaseException:
            connected.close()
            raise
        try:
            secured.settimeout(_left(end))
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


class Connection:
    """One connection, as a conversation sees it: send, then read lines and bytes."""

    __slots__ = (
        "_at",
        "_buffer",
        "_process",
        "_read",
        "_rested",
        "_socket",
        "_wait",
        "end",
        "fresh",
        "heard",
        "prolonged",
        "reusable",
        "slept",
    )

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._socket: Any = None
        self._buffer = b""
        self._at = 0  # what stands before it in the buffer has been read
        self._read = 0
        self._process = os.getpid()
        self._rested = (0.0, 0.0)
        self._wait = 0.0  # the timeout that the socket has
        self.end = 0.0
        """When the conversation has to be over, by ``time.monotonic``."""
        self.prolonged = 0.0
        """The same, once the first byte of a reply has come."""
        self.fresh = True
        """Nothing has been asked on it yet."""
        self.heard = False
        """A byte came since something was sent."""
        self.reusable = True
        """False when the server is going to close it."""
        self.slept = False
        """It was idle for so long that it may have died without a word."""
        # Younger than this object, since the garbage collector begins with the older: a socket left open warns.
        self._socket = connect()

    def send(self, data: bytes) -> None:
        """Sends a question; what is read from now on is the reply."""
        self.heard = False
        self._read = 0
        self._hurry(self.end)
        self._socket.sendall(data)

    def line(self) -> bytes:
        """The next line, without its end (CR LF)."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._receive(), 0
        looked = self._at
        while (end := self._buffer.find(b"\r\n", looked)) < 0:
            if len(self._buffer) - self._at > LINE_LIMIT:
                raise MalformedReply(f"a line of more than {LINE_LIMIT} bytes")
            rest = self._buffer[self._at :]
            self._buffer, self._at = rest + self._receive(), 0
            looked = len(rest) - 1
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    def lines(self, most: int) -> list[str]:
        """The lines before an empty one, as Latin-1."""
        end = self._buffer.find(b"\r\n\r\n", self._at)
        if end >= 0 and not self._buffer.startswith(b"\r\n", self._at):
            lines = self._buffer[self._at : end].decode("latin-1").split("\r\n")
            self._at = end + 4
        else:
            lines = []
            while len(lines) <= most and (line := self.line()):
                lines.append(line.decode("latin-1"))
        if len(lines) > most:
            raise MalformedReply(f"more than {most} lines")
        return lines

    def text(self, count: int) -> bytes:
        """The next bytes, so many, and a line's end after them, which is left out."""
        begin = self._at
        end = begin + count
        if self._buffer.startswith(b"\r\n", end):
            self._at = end + 2
            return self._buffer[begin:end]
        data = self.exactly(count)
        if self.exactly(2) != b"\r\n":
            raise MalformedReply("a text that does not end where it says")
        return data

    def exactly(self, count: int) -> bytes:
        """The next bytes, so many."""
        if count > REPLY_LIMIT:
            raise MalformedReply(f"a reply of more than {REPLY_LIMIT} bytes")
        have = len(self._buffer) - self._at
        if have >= count:
            data = self._buffer[self._at : self._at + count]
            self._at += count
            return data
        pieces = [self._buffer[self._at :]]
        self._buffer, self._at = b"", 0
        while count - have > _PIECE:
            # Not all of it, so that a large text is not copied once more to cut off what follows, and what follows is
            # seen with the rest.
            piece = self._receive(min(count - have - 1, _LARGE_PIECE))
            have += len(piece)
            pieces.append(piece)
        while have < count:
            self._buffer = self._receive()
            self._at = min(count - have, len(self._buffer))
            have += self._at
            pieces.append(self._buffer[: self._at])
        return b"".join(pieces)

    def rest_of_all(self) -> bytes:
        """All that comes until the server closes the connection."""
        self.reusable = False
        pieces = [self._buffer[self._at :]]
        try:
            while True:
                pieces.append(self._receive())
        except EOFError:
            return b"".join(pieces)

    def seems_alive(self, now: float) -> bool:
        """False when the server has closed it, or said something unasked, or it is old, or of another process.

        ``now`` is the time of ``time.monotonic``.
        """
        monotonic, wall = self._rested
        # Which of the clocks goes on while a process is frozen depends on who freezes it.
        passed = time.time() - wall
        if self._process != os.getpid() or now - monotonic > KEPT_FOR or not -KEPT_FOR <= passed <= KEPT_FOR:
            return False
        self.slept = now - monotonic >= TRUSTED_FOR or not -TRUSTED_FOR < passed < TRUSTED_FOR
        if not self.slept:
            return True
        self._wait = 0.0
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"  # naming the class would load ssl
        return False

    def rest(self) -> bool:
        """Notes that nothing is asked from now on; True when something may be asked again."""
        self.fresh = False
        self._rested = (time.monotonic(), time.time())
        return self.reusable and self._at == len(self._buffer)

    def close(self) -> None:
        """Closes it; may be called twice."""
        if self._socket is not None:
            self._socket.close()

    def __del__(self) -> None:
        self.close()

    def _receive(self, most: int = _PIECE) -> bytes:
        self._hurry(self.prolonged if self.heard else self.end)
        piece: bytes = self._socket.recv(most)
        if not piece:
            raise _Ended("the server closed the connection")
        self.heard = True
        self._read += len(piece)
        if self._read > REPLY_LIMIT:
            raise MalformedReply(f"a reply of more than {REPLY_LIMIT} bytes")
        return piece

    def _hurry(self, end: float) -> None:
        left = end - time.monotonic()
        # Setting it is one more call of the system.
        if left < _EXACT or not -SLACK < left - self._wait < SLACK:
            self._wait = _left(end)
            self._socket.settimeout(self._wait)


class _Ended(ConnectionError, EOFError):
    """The server has closed the connection."""


def _connect(connecting: Any, address: Any, end: float) -> None:
    try:
        connecting.settimeout(_left(end))
        connecting.connect(address)
    except BaseException:
        connecting.close()
        raise


def _left(end: float) -> float:
    """The seconds that are left.

    Raises:
        TimeoutError: None are.
    """
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
