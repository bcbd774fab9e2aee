"""Holds urllib3, on which both requests (under python-consul) and botocore (under boto3) sit, to a time in all.

Its own timeouts are for each address of a host and for each piece of a reply, so one that trickles in may take hours.

    clock = Clock(timeout)
    manager.pool_classes_by_scheme = hurried_pools(manager.pool_classes_by_scheme, clock)  # before its first use
    clock.start(deadline)  # before each call, in the thread that makes it
"""

from __future__ import annotations

import io
import socket
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Clock:
    """How long a call may take in all, whatever is tried in it: as long as connecting and one reply."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._thread = threading.local()

    def start(self, deadline: float | None = None) -> None:
        """A call begins in this thread; it ends by the deadline (of ``time.monotonic``) if that comes sooner."""
        end = time.monotonic() + 2 * self._timeout
        self._thread.end = end if deadline is None else min(end, deadline)

    def within(self) -> float:
        """When connecting, or a reply, that begins now has to be over."""
        end: float = time.monotonic() + self._timeout
        return min(end, getattr(self._thread, "end", end))


def hurried_pools(pools: Mapping[str, type], clock: Clock) -> dict[str, type]:
    """The classes of connection pools by their schemes, made from these, whose connections keep to the clock."""
    return {scheme: _hurried_pool(pool, clock) for scheme, pool in pools.items()}


def _hurried_pool(pool: Any, clock: Clock) -> type:
    connection = pool.ConnectionCls
    response = type("HurriedResponse", (_HurriedResponse, connection.response_class), {"clock": clock})
    members = {"clock": clock, "response_class": response}
    hurried = type(connection.__name__, (_HurriedConnection, connection), members)
    return type(pool.__name__, (pool,), {"ConnectionCls": hurried})


class _HurriedConnection:
    """What a connection class of urllib3 lacks to keep to a clock."""

    clock: Clock
    host: str
    port: int
    sock: Any
    timeout: Any

    def _new_conn(self) -> Any:
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

        end = self.clock.within()
        name, port = self.host, self.port
        try:
            found = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, str(error)) from error  # type: ignore[arg-type]
        for left, (*_, address) in zip(range(len(found), 0, -1), found, strict=True):
            self.host, self.port = str(address[0]), int(address[1])
            # An address that is silent leaves time for the others.
            self.timeout = _left(end) / left
            try:
                connected = super()._new_conn()  # type: ignore[misc]
                connected.settimeout(_left(end))  # for TLS
                return connected
            except (ConnectTimeoutError, NewConnectionError):
                if left == 1:
                    raise
            finally:
                self.host, self.port = name, port

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(_left(self.clock.within()))
        super().send(data)  # type: ignore[misc]


class _HurriedResponse:
    """What a response class of ``http.client`` lacks to keep to a clock."""

    clock: Clock

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)  # type: ignore[call-arg]
        self.fp = io.BufferedReader(_HurriedReader(self.fp.detach(), sock, self.clock.within()))  # type: ignore[has-type]


class _HurriedReader(io.RawIOBase):
    """Reads from a socket until an end in time, however the bytes trickle in."""

    def __init__(self, reader: io.RawIOBase, sock: Any, end: float) -> None:
        self._reader = reader
        self._socket = sock
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() >= self._end:
            raise TimeoutError("timed out")
        self._socket.settimeout(_left(self._end))
        return self._reader.readinto(buffer)

    def fileno(self) -> int:
        return self._reader.fileno()

    def close(self) -> None:
        self._reader.close()
        super().close()


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.001)  # 0 would mean: do not wait at all
