"""Redis's protocol, RESP2, as far as reading needs it.

The first question on a connection goes out with its password and its database in one write.
"""

from __future__ import annotations

from .connection import Endpoint, MalformedReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .connection import Connection

NESTING_LIMIT = 8
"""Levels of arrays in arrays; no reply to a read has more than two."""


class Refusal(Exception):
    """An error reply of Redis."""


class Greeted(Refusal):
    """Redis refused what comes before any command: the user and password, or the database."""


class Resp:
    """One Redis server, as `Endpoint` keeps its connections."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        *,
        timeout: float,
        user: str = "",
        password: str = "",
        database: int = 0,
        secure: Callable[[], Any] | None = None,
    ) -> None:
        self._endpoint = Endpoint(address, timeout=timeout, secure=secure)
        greeting = []
        if user or password:
            greeting.append(("AUTH", user, password) if user else ("AUTH", password))
        if database:
            greeting.append(("SELECT", str(database)))
        self._greetings = len(greeting)
        self._greeting = _encoded(greeting)

    def read(self, commands: Sequence[tuple[str, ...]], deadline: float | None = None) -> list[Any]:
        """The reply to each command, all in one round trip; a `Refusal` in the place of one that Redis refused.

        Texts are bytes, and what does not exist is None.

        Raises:
            Greeted: The user, the password or the database was refused.
            OSError: There was no reply, or none in time.
            MalformedReply: The reply is no RESP.
        """
        question = _encoded(commands)

        def talk(connection: Connection) -> list[Any]:
            if not connection.fresh:
                connection.send(question)
                return [_reply(connection) for _ in commands]
            connection.send(self._greeting + question)
            for _ in range(self._greetings):
                reply = _reply(connection)
                if isinstance(reply, Refusal):
                    raise Greeted(str(reply))
            return [_reply(connection) for _ in commands]

        return self._endpoint.ask(talk, deadline)

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._endpoint.close()


def _encoded(commands: Sequence[tuple[str, ...]]) -> bytes:
    pieces = []
    for command in commands:
        pieces.append(b"*%d\r\n" % len(command))
        for word in command:
            # What Redis gave that is no UTF-8 was read the same way.
            data = word.encode("utf-8", "surrogateescape")
            pieces.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(pieces)


def _reply(connection: Connection, nesting: int = 0) -> Any:
    line = connection.line()
    kind, rest = line[:1], line[1:]
    if kind == b"$":
        size = _integer(rest)
        if size < 0:
            return None
        data = connection.exactly(size + 2)
        if data[-2:] != b"\r\n":
            raise MalformedReply("a text that does not end where it says")
        return data[:-2]
    if kind == b"*":
        count = _integer(rest)
        if nesting >= NESTING_LIMIT:
            raise MalformedReply("arrays in arrays without an end")
        return None if count < 0 else [_reply(connection, nesting + 1) for _ in range(count)]
    if kind == b"-":
        return Refusal(rest.decode("utf-8", "replace"))
    if kind == b"+":
        return rest
    if kind == b":":
        return _integer(rest)
    raise MalformedReply("no reply of Redis")


def _integer(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise MalformedReply("a length that is no number") from None
