"""Redis through the package redis: its topologies, its credentials, its connection pools."""

from __future__ import annotations

import time

from ..errors import ConfigurationError, StoreError
from ..wire.resp import no_arguments
from . import client_package, host_and_port, unknown, unquote
from .redis import (
    GUESS_LIMIT,
    OF_A_CLUSTER,
    OWN_OPTIONS,
    TIMEOUTS,
    refused,
    refused_login,
    unanswered,
    unusable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

NEVER = float("inf")


class RedisPy:
    """The seam over the package redis: its topologies, its credentials, its connection pools."""

    def __init__(self, connect: Callable[[], Any], clock: Clock | None, *, in_cluster: bool = False) -> None:
        self._connect = connect  # Making some clients connects already, and opening a reader must not.
        self._clock = clock  # None: the client is the application's, and so are its timeouts and its end.
        self._client: Any = None
        self.timeout = None if clock is None else clock.replying
        # Flags and segments are on two nodes: a guess would cost a round trip, and wait for a node that is down.
        self.guess_limit = 0 if in_cluster else GUESS_LIMIT

    @classmethod
    def from_url(cls, base: str, in_url: dict[str, str], timeout: float, options: dict[str, Any]) -> RedisPy:
        """A client of its own, with short timeouts and one reconnect for a connection that went stale.

        Raises:
            ConfigurationError: An option is none of the package's, or makes no sense.
            MissingDependency: The package redis is not installed.
        """
        redis = client_package("redis", extra="redis")
        from urllib.parse import urlencode

        scheme, _, rest = base.partition("://")
        scheme, _, topology = scheme.lower().partition("+")
        authority, _, path = rest.partition("/")
        userinfo, at, hosts = authority.rpartition("@")
        service = ""
        to_sentinels: dict[str, Any] = {}
        if topology == "sentinel":
            service, _, path = path.partition("/")
            if not service:
                raise ConfigurationError("the Redis URL names no Sentinel service; write redis+sentinel://HOST/SERVICE")
            for given in (in_url, options):
                to_sentinels |= {name[9:]: given.pop(name) for name in _SENTINEL_OPTIONS if name in given}
        if topology:
            # Several hosts, or the name of a service, are nothing that the package's own parser knows.
            rest = f"{userinfo}{at}localhost/{path}"
        # Only a lost connection is tried again, at once and once: a timeout has used up the caller's patience.
        lost = (redis.exceptions.ConnectionError,)
        settings = {
            **dict.fromkeys(TIMEOUTS, timeout),
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=lost),
        }
        try:
            if scheme != "unix" and path.strip("/"):
                int(path.strip("/"))  # the package's parser would take database 0 instead
            parsed = redis.connection.parse_url(f"{scheme}://{rest}?{urlencode(in_url)}")
            default_port = 26379 if topology == "sentinel" else 6379
            addresses = [host_and_port(address, default_port) for address in hosts.split(",")]
            nodes = [(host.strip("[]") or "localhost", port) for host, port in addresses]
        except (ValueError, TypeError) as error:
            said = str(error)
            if not said.startswith(("Redis URL must", "Invalid value for", '"max_connections"')):
                # What cannot be read is not quoted: it may be part of a password.
                raise unusable() from None
            raise ConfigurationError(f"the Redis URL cannot be used: {said}") from None
        connection_class = parsed.pop("connection_class", redis.connection.Connection)
        known = _options_of(connection_class) | {"max_connections"}
        connection = {**settings, **parsed, **options}  # what is given in code wins
        for name in (*in_url, *connection):  # the package's parser drops a blank option of the URL
            if name not in known:
                others = {*OWN_OPTIONS, *(_SENTINEL_OPTIONS if topology == "sentinel" else ())}
                raise unknown("option for Redis", name, known | others)
        try:
            trial = connection_class(**{name: connection[name] for name in connection if name != "max_connections"})
        except (redis.exceptions.RedisError, TypeError, ValueError) as error:
            raise ConfigurationError(f"the options for Redis cannot be used: {_line(error)}") from error
        if "maint_notifications_config" in known and trial.protocol == 3:
            # Maintenance notifications would cost a round trip, and they lengthen timeouts.
            off = redis.maint_notifications.MaintNotificationsConfig(enabled=False)
            connection.setdefault("maint_notifications_config", off)
        clock = Clock(connection["socket_connect_timeout"], connection["socket_timeout"])
        if not topology:
            return cls(lambda: _client(redis, clock.hurry(connection_class, connection), connection), clock)
        del connection["host"]
        if topology == "sentinel":
            return cls(
                lambda: _master(redis, clock, connection_class, nodes, unquote(service), connection, to_sentinels),
                clock,
            )
        if connection.pop("db", 0):
            raise ConfigurationError("a Redis Cluster has database 0 only; leave the database out of the URL")
        return cls(
            lambda: _cluster(redis, clock.hurry(connection_class, connection), nodes, connection),
            clock,
            in_cluster=True,
        )

    @classmethod
    def over(cls, client: Any) -> RedisPy:
        """The seam over a client that the application has, and goes on to have."""
        return cls(lambda: client, None, in_cluster=hasattr(client, "get_node_from_key"))

    def read(self, commands: Sequence[tuple[str, ...]], deadline: float | None = None) -> list[Any]:
        """The reply to each command, all in one round trip (in a cluster, one a node) and outside any transaction.

        A client of the application is not asked after the deadline, but may answer later: its waiting is its own.

        Raises:
            StoreError: Redis did not answer, or not by the deadline.
        """
        import redis

        if deadline is not None and time.monotonic() >= deadline:
            raise unanswered("timed out")
        if self._clock is not None:
            self._clock.start(deadline)
        try:
            client = self._client
            if client is None:
                client = self._client = self._connect()
            replies = _replies(redis, client, commands)
        except redis.exceptions.ResponseError as error:
            raise _refused(error) from error
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            raise _unanswered(error) from error
        failures = [reply for reply in replies if isinstance(reply, Exception)]
        for failure in failures:
            # A node that is down spoils its own items; but what had to be waited for must not be asked for again.
            waited = isinstance(failure, (redis.exceptions.TimeoutError, redis.exceptions.ClusterDownError))
            refused = isinstance(failure, redis.exceptions.ResponseError)
            if waited or (not refused and len(failures) == len(replies)):
                raise _unanswered(failure) from failure
        return [_refused(reply) if isinstance(reply, Exception) else reply for reply in replies]

    def close(self) -> None:
        """Closes the connections if the client was made here."""
        client, self._client = self._client, None
        if client is None or self._clock is None:
            return
        if hasattr(client, "disconnect_connection_pools"):
            client.disconnect_connection_pools()
            return
        pool = client.connection_pool
        sentinels = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
        for each in (pool, *(sentinel.connection_pool for sentinel in sentinels)):
            each.disconnect()


class Clock:
    """How long one read may take, in all: as long as connecting and one reply, whatever is tried in between.

    The package's timeouts are for each address, node, attempt and piece of a reply.
    """

    def __init__(self, connecting: float | None, replying: float | None) -> None:
        import threading

        self.replying = replying
        self._allowed = NEVER if connecting is None or replying is None else connecting + replying
        self._thread = threading.local()

    def start(self, deadline: float | None) -> None:
        """A read begins in this thread."""
        end = time.monotonic() + self._allowed
        self._thread.end = end if deadline is None else min(end, deadline)

    def within(self, bound: float | None) -> float:
        """When something that begins now and may take so many seconds has to be over."""
        end: float = getattr(self._thread, "end", NEVER)
        return end if bound is None else min(end, time.monotonic() + bound)

    def hurry(self, connection_class: type, connection: dict[str, Any]) -> type:
        """The connection class, held to this clock."""
        connecting, replying = connection["socket_connect_timeout"], connection["socket_timeout"]
        members = {"clock": self, "connecting": connecting, "replying": replying}
        return type(connection_class.__name__, (HurriedConnection, connection_class), members)


class HurriedConnection:
    """What a connection class of the package lacks to be held to a clock."""

    clock: Clock
    connecting: float | None
    replying: float | None  # the package's own attribute is lost on Unix sockets in release 5.0

    @property
    def socket_connect_timeout(self) -> float | None:
        """What is left for one address; a host name may have many."""
        return _left(self._connected_by)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        pass  # `connecting` is the same

    def _connect(self) -> HurriedSocket:
        self._connected_by = self.clock.within(self.connecting)
        return HurriedSocket(super()._connect(), self.clock, self.replying)  # type: ignore[misc]


class HurriedSocket:
    """A socket on which a reply comes in time as a whole: what trickles in does not begin the time anew."""

    def __init__(self, socket: Any, clock: Clock, bound: float | None) -> None:
        self._socket = socket
        self._clock = clock
        self._bound = bound
        self._end = NEVER

    def sendall(self, data: bytes) -> None:
        """Sends a command; its reply is due from now on."""
        self._end = self._clock.within(self._bound)
        self._hurry()
        self._socket.sendall(data)

    def recv(self, *arguments: Any) -> bytes:
        """A piece of the reply."""
        self._hurry()
        piece: bytes = self._socket.recv(*arguments)
        return piece

    def recv_into(self, *arguments: Any) -> int:
        """A piece of the reply, for the parser in C."""
        self._hurry()
        count: int = self._socket.recv_into(*arguments)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _hurry(self) -> None:
        if self._socket.gettimeout() != 0:  # 0: only looks whether there is something
            self._socket.settimeout(_left(self._end))


_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


def _left(end: float) -> float | None:
    return None if end == NEVER else max(end - time.monotonic(), 0.001)  # 0 would mean: do not wait at all


def _replies(redis: Any, client: Any, commands: Sequence[tuple[str, ...]]) -> list[Any]:
    """The reply to each command, or the exception in its place."""
    # The items' own bytes, also from a client that decodes: one item that is no UTF-8 would fail all.
    as_bytes = {redis.client.NEVER_DECODE: True}
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0], **as_bytes)]
        except redis.exceptions.ResponseError as error:
            return [error]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command, **as_bytes)
    try:
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies
    except redis.exceptions.ConnectionError:
        keys = {command[1] for command in commands}
        if len(keys) == 1 or not hasattr(client, "get_node_from_key"):
            raise
    # A cluster whose nodes are not all up: those that are answer for their keys.
    by_key = {}
    for key in keys:
        own = [command for command in commands if command[1] == key]
        try:
            by_key[key] = iter(_replies(redis, client, own))
        except redis.exceptions.ConnectionError as error:
            by_key[key] = iter([error] * len(own))
    return [next(by_key[command[1]]) for command in commands]


def _client(redis: Any, connection_class: type, connection: dict[str, Any]) -> Any:
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=connection_class, **connection))


def _cluster(redis: Any, connection_class: type, nodes: list[tuple[str, int]], connection: dict[str, Any]) -> Any:
    from functools import partial

    from redis.cluster import ClusterNode

    (host, port), *others = nodes
    return redis.RedisCluster(
        url=f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}",
        startup_nodes=[ClusterNode(*node) for node in others],  # type: ignore[no-untyped-call]
        require_full_coverage=False,  # the nodes that are up serve their keys
        # Only with a URL does the client use this, and it drops the options that it does not know itself.
        connection_pool_class=partial(redis.ConnectionPool, connection_class=connection_class, **connection),
        **connection,
    )


def _master(
    redis: Any,
    clock: Clock,
    connection_class: type,
    nodes: list[tuple[str, int]],
    service: str,
    connection: dict[str, Any],
    to_sentinels: dict[str, Any],
) -> Any:
    from redis import sentinel

    asking = {name: connection[name] for name in connection if name.startswith(("ssl", "retry"))}
    for name in TIMEOUTS:
        # One Sentinel that is dead must not use up the time of the others.
        asking[name] = connection[name] and connection[name] / len(nodes)
    asking |= to_sentinels
    secure = issubclass(connection_class, redis.SSLConnection)
    manager = sentinel.Sentinel([], **connection)  # type: ignore[no-untyped-call]
    # Those that it would make itself try ten times.
    impatient = clock.hurry(connection_class, asking)
    manager.sentinels = [_client(redis, impatient, {"host": host, "port": port, **asking}) for host, port in nodes]
    managed = sentinel.SentinelManagedSSLConnection if secure else sentinel.SentinelManagedConnection
    return manager.master_for(service, connection_class=clock.hurry(managed, connection))  # type: ignore[no-untyped-call]


def _options_of(connection_class: type) -> set[str]:
    import inspect

    names: set[str] = set()
    for ancestor in connection_class.__mro__[:-1]:
        names.update(inspect.signature(ancestor).parameters)
    return names - {"self", "kwargs"}


def _unanswered(error: Exception) -> StoreError:
    import redis

    # What follows may be how the package prints its clients, in some releases with their passwords.
    reason = _line(error).partition(" : <")[0]
    return (refused_login if isinstance(error, redis.exceptions.AuthenticationError) else unanswered)(reason)


def _refused(error: Exception) -> StoreError:
    import redis

    error.args = (no_arguments(str(error)), *error.args[1:])  # it shows as the cause, too
    moved = isinstance(error, redis.exceptions.AskError)
    refusal = refused(f"moved to {_line(error)}{OF_A_CLUSTER}" if moved else _line(error))
    refusal.__cause__ = error
    return refusal


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
