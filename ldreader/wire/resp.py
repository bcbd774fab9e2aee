"""Redis's protocol, RESP2, as far as reading needs it.

The first question on a connection goes out with its password and its database in one write.
"""

from __future__ import annotations

from .connection import Endpoint, MalformedReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from .connection import Connection

NESTING_LIMIT = 8
"""Levels of arrays in arrays; no reply to a read has more than two."""

DIGITS = 20
"""Characters of the longest number of the protocol."""

_AS_GIVEN = "surrogateescape"
"""How what Redis gave that is no UTF-8 was read, and is sent."""


class Refusal(Exception):
    """An error reply of Redis."""


class NoAdmission(Refusal):
    """An error reply to what comes before any command, ``AUTH`` or ``SELECT``."""

    def __init__(self, command: str, reply: Refusal) -> None:
        super().__init__(str(reply))
        self.command = command


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
        self._greeting: list[tuple[str, ...]] = []
        if user or password:
            self._greeting.append(("AUTH", user, password) if user else ("AUTH", password))
        if database:
            self._greeting.append(("SELECT", str(database)))

    def read(
        self,
        commands: Sequence[tuple[str, ...]],
        deadline: float | None = None,
        *,
        fits: Callable[[Sequence[tuple[str, ...]], list[Any]], bool] = lambda commands, replies: True,
    ) -> list[Any]:
        """The reply to each command, all in one round trip; a `Refusal` in the place of one that Redis refused.

        Texts are bytes, what does not exist is None, and a status such as OK is a str. Replies that do not fit their
        commands are malformed: the next ones on that connection could be those of others.

        Raises:
            NoAdmission: The user, the password or the database was refused.
            OSError: There was no reply, or none in time.
            MalformedReply: The reply is no RESP.
        """
        if not commands:
            return []

        def talk(connection: Connection) -> list[Any]:
            greeting = self._greeting if connection.fresh else ()
            connection.send(_encoded((*greeting, *commands)))
            replies: list[Any] = []
            try:
                for _ in greeting:
                    replies.append(_reply(connection))
                for _ in commands:
                    replies.append(_reply(connection))
            except OSError as error:
                if len(replies) == 1 and isinstance(replies[0], Refusal):  # Redis says why before it hangs up
                    raise ConnectionError(str(replies[0])) from error
                raise
            if greeting:
                for command, reply in zip(greeting, replies, strict=False):
                    if isinstance(reply, Refusal):
                        raise NoAdmission(command[0], reply)
                del replies[: len(greeting)]
            if not fits(commands, replies):
                raise MalformedReply("not what was asked for")
            return replies

        return self._endpoint.ask(talk, deadline)

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._endpoint.close()


def no_arguments(reason: str) -> str:
    """What Redis said, without what it quotes."""
    # A server on which AUTH has been renamed quotes the password that came with it.
    return reason.partition(", with args")[0]


def _encoded(commands: Iterable[tuple[str, ...]]) -> bytes:
    pieces = []
    for command in commands:
        pieces.append(f"*{len(command)}\r\n")
        pieces += [f"${_size(word)}\r\n{word}\r\n" for word in command]
    return "".join(pieces).encode("utf-8", _AS_GIVEN)


def _size(word: str) -> int:
    return len(word) if word.isascii() else len(word.encode("utf-8", _AS_GIVEN))


def _reply(connection: Connection, nesting: int = 0) -> Any:
    line = connection.line()
    kind, rest = line[:1], line[1:]
    if kind == b"$":
        size = _length(rest)
        return None if size is None else connection.text(size)
    if kind == b"*":
        count = _length(rest)
        if nesting >= NESTING_LIMIT:
            raise MalformedReply("arrays in arrays without an end")
        return None if count is None else [_reply(connection, nesting + 1) for _ in range(count)]
    if kind == b"-":
        return Refusal(no_arguments(rest.decode("utf-8", "replace")))
    if kind == b"+":
        return rest.decode("utf-8", "replace")
    if kind == b":" and rest.removeprefix(b"-").isdigit() and len(rest) <= DIGITS:
        return int(rest)
    raise MalformedReply("no reply of Redis")


def _length(text: bytes) -> int | None:
    """How much follows; None for what does not exist."""
    if text.isdigit() and len(text) <= DIGITS:
        return int(text)
    if text != b"-1":
        raise MalformedReply("a length that is no number")
    return None
