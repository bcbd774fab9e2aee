"""Flags in Redis: one hash per kind, ``<prefix>:features`` and ``<prefix>:segments`` (spec: store schemas, section 2).

The requester knows the layout; the client behind it is reached through one method, ``read``.
"""

from __future__ import annotations

from ..errors import ConfigurationError, StoreError
from ..schema import FEATURES, SEGMENTS
from . import DEFAULT_TIMEOUT, client_package, seconds, split_query, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from ..schema import ItemRef, JsonText

    class ReadsRedis(Protocol):
        """The seam: commands in one round trip."""

        def read(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
            """The reply to each command; what Redis refused is a `StoreError` in its place."""
            ...

        def close(self) -> None:
            """Lets go of what was opened."""
            ...


DEFAULT_PREFIX = "launchdarkly"


class RedisRequester:
    """Flags and segments from Redis.

    ``redis`` is a client of the package redis, made by the application and left open by `close`.
    """

    def __init__(self, redis: Any, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._redis: ReadsRedis = redis if hasattr(redis, "read") else RedisPy(redis)
        self._prefix = prefix or DEFAULT_PREFIX

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str | None = None, timeout: float | None = None, **options: Any
    ) -> RedisRequester:
        """The requester for ``redis://``, ``rediss://`` or ``unix://``. Connects when first asked.

        ``prefix`` and ``timeout`` (seconds, for connecting and for each reply) may also stand in the URL. All other
        options are those of the package redis.

        Raises:
            ConfigurationError: An option is unknown or makes no sense.
            MissingDependency: The package redis is not installed.
        """
        base, in_url = split_query(url)
        url_prefix = in_url.pop("prefix", "")
        url_timeout = in_url.pop("timeout", DEFAULT_TIMEOUT)
        bound = seconds(url_timeout if timeout is None else timeout)
        return cls(RedisPy.from_url(base, in_url, bound, options), prefix=url_prefix if prefix is None else prefix)

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, JsonText | StoreError]:
        """The items that exist, in one round trip.

        Raises:
            StoreError: Redis did not answer.
        """
        replies = self._redis.read([("HGET", self._hash(kind), key) for kind, key in refs])
        return {ref: text for ref, text in zip(refs, replies, strict=True) if text is not None}

    def get_all(self) -> dict[str, dict[str, JsonText | StoreError]]:
        """Everything under the prefix, in one round trip.

        Raises:
            StoreError: Redis did not answer, or refused.
        """
        kinds = (FEATURES, SEGMENTS)
        replies = self._redis.read([("HGETALL", self._hash(kind)) for kind in kinds])
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return {
            kind: {_decoded(key): text for key, text in reply.items()}
            for kind, reply in zip(kinds, replies, strict=True)
        }

    def close(self) -> None:
        """Closes the connections, if this requester opened them."""
        self._redis.close()

    def _hash(self, kind: str) -> str:
        return f"{self._prefix}:{kind}"


class RedisPy:
    """The seam over the package redis: its topologies, its credentials, its connection pool."""

    def __init__(self, client: Any, *, pool: Any = None) -> None:
        self._client = client
        self._own_pool = pool

    @classmethod
    def from_url(cls, base: str, in_url: dict[str, str], timeout: float, options: dict[str, Any]) -> RedisPy:
        """A client of its own, with short timeouts and one reconnect for a connection that went stale.

        Raises:
            ConfigurationError: An option is none of the package's, or makes no sense.
            MissingDependency: The package redis is not installed.
        """
        redis = client_package("redis", extra="redis")
        from urllib.parse import urlencode

        # Only a lost connection is tried again, at once and once: a timeout has used up the caller's patience.
        lost = (redis.exceptions.ConnectionError,)
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=lost)
        # Releases before 6 retry a command only for the errors of `retry_on_error`.
        bounds = {"retry": retry, "retry_on_error": list(lost)}
        bounds |= {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        if "max_connections" in options:  # the one option of the pool, not of its connections
            in_url = {name: value for name, value in in_url.items() if name != "max_connections"}
            bounds["max_connections"] = options["max_connections"]
        try:
            pool = redis.ConnectionPool.from_url(f"{base}?{urlencode(in_url)}", **bounds)
        except (ValueError, TypeError) as error:
            said = str(error)
            if not said.startswith(("Redis URL must", "Invalid value for", '"max_connections"')):
                # The standard library quotes what it cannot read, which may be part of a password.
                said = "check host and port; in a password, write : / ? # @ % as %3A %2F %3F %23 %40 %25"
            raise ConfigurationError(f"the Redis URL cannot be used: {said}") from None
        pool.connection_kwargs.update(options)  # what is given in code wins
        pool.connection_kwargs.pop("max_connections", None)
        known = _options_of(pool.connection_class) | {"max_connections"}
        for name in (*in_url, *pool.connection_kwargs):
            if name not in known:
                raise unknown("option for Redis", name, known | {"prefix", "timeout"})
        return cls(redis.Redis(connection_pool=pool), pool=pool)

    def read(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """The reply to each command, all in one round trip and outside any transaction.

        Raises:
            StoreError: Redis did not answer.
        """
        import redis

        try:
            if len(commands) == 1:
                replies = [self._client.execute_command(*commands[0])]
            else:
                pipeline = self._client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                replies = pipeline.execute(raise_on_error=False)
        except redis.exceptions.ResponseError as error:
            return [_refused(error)] * len(commands)  # refused on connecting, as for a database that is not there
        except UnicodeDecodeError as error:
            raise StoreError("Redis holds an item that is not UTF-8; use a client without decode_responses") from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreError(f"Redis did not answer: {error}; is it running, and is the store URL right?") from error
        return [_refused(reply) if isinstance(reply, redis.exceptions.ResponseError) else reply for reply in replies]

    def close(self) -> None:
        """Closes the connections if the client was made here."""
        if self._own_pool is not None:
            self._own_pool.disconnect()


def _options_of(connection_class: type) -> set[str]:
    import inspect

    names: set[str] = set()
    for ancestor in connection_class.__mro__[:-1]:
        names.update(inspect.signature(ancestor).parameters)
    return names - {"self", "kwargs"}


def _refused(error: Exception) -> StoreError:
    refusal = StoreError(f"Redis refused to read: {error}")
    refusal.__cause__ = error
    return refusal


def _decoded(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "surrogateescape")
