"""Flags in Redis: one hash per kind, ``<prefix>:features`` and ``<prefix>:segments`` (spec: store schemas, section 2).

The requester knows the layout; the client behind it is reached through one method, ``read``.
"""

from __future__ import annotations

from ..errors import ConfigurationError, MissingDependency, StoreError
from ..schema import FEATURES, SEGMENTS
from ..wire.connection import MalformedReply
from ..wire.resp import NoAdmission, Refusal, Resp, no_arguments
from . import DEFAULT_TIMEOUT, host_and_port, seconds, split_query, unknown, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from ..schema import ItemRef, JsonText
    from .membership import BigSegmentsMetadata

    class ReadsRedis(Protocol):
        """The seam: commands in one round trip."""

        def read(self, commands: Sequence[tuple[str, ...]], deadline: float | None = None) -> list[Any]:
            """The reply to each command; what Redis refused is a `StoreError` in its place."""
            ...

        def close(self) -> None:
            """Lets go of what was opened."""
            ...


DEFAULT_PREFIX = "launchdarkly"
GUESS_LIMIT = 65536
WIRE, REDIS_PY = CLIENTS = ("wire", "redis-py")
TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
OWN_OPTIONS = {"client", "prefix", "timeout"}
_WIRE_OPTIONS = ("username", "password", "db")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_NOT_NOW = ("LOADING", "MASTERDOWN", "CLUSTERDOWN")
OF_A_CLUSTER = "; this is a node of a cluster, whose URL begins with redis+cluster://"


class RedisRequester:
    """Flags and segments from Redis.

    ``redis`` is a client of the package redis, made by the application and left open by `close`. Nothing bounds its
    waiting but its own timeouts: a deadline only keeps it from being asked too late.
    """

    keeps_deadlines = True
    reconnects = True

    def __init__(self, redis: Any, *, prefix: str = DEFAULT_PREFIX) -> None:
        if not hasattr(redis, "read"):
            from .redis_py import RedisPy

            redis = RedisPy.over(redis)
        self._redis: ReadsRedis = redis
        self.timeout: float | None = getattr(redis, "timeout", None)
        self.guess_limit: int = getattr(redis, "guess_limit", GUESS_LIMIT)
        self._prefix = prefix or DEFAULT_PREFIX
        self._hashes = {kind: f"{self._prefix}:{kind}" for kind in (FEATURES, SEGMENTS)}

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        timeout: float | None = None,
        client: str | None = None,
        **options: Any,
    ) -> RedisRequester:
        """The requester for ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``.

        Connects when first asked.

        ``prefix``, ``timeout`` (seconds, for connecting and for each reply) and ``client`` may also stand in the URL.
        All other options are those of the package redis. ``client`` is ``"wire"``, which needs no package and serves
        one server with user, password, database and certificates, or ``"redis-py"``, which serves everything; when it
        is not given, the first that can.

        Raises:
            ConfigurationError: An option is unknown or makes no sense.
            MissingDependency: The package redis is needed and not installed.
        """
        base, in_url = split_query(url)
        url_prefix = in_url.pop("prefix", "")
        url_timeout = in_url.pop("timeout", DEFAULT_TIMEOUT)
        url_client = in_url.pop("client", None)
        bound = seconds(url_timeout if timeout is None else timeout)
        if timeout is not None:  # in code, and so it wins over the package's own options in the URL
            in_url = {name: value for name, value in in_url.items() if name not in TIMEOUTS}
        redis = _client(base, in_url, bound, options, url_client if client is None else client)
        return cls(redis, prefix=url_prefix if prefix is None else prefix)

    def get_many(self, refs: Sequence[ItemRef], deadline: float | None = None) -> dict[ItemRef, JsonText | StoreError]:
        """The items that exist, in one round trip.

        Raises:
            StoreError: Redis did not answer, or not by the deadline.
        """
        replies = self._read([("HGET", self._hashes[kind], key) for kind, key in refs], deadline)
        return {ref: text for ref, text in zip(refs, replies, strict=True) if text is not None}

    def get_all(self, deadline: float | None = None) -> dict[str, dict[str, JsonText | StoreError]]:
        """Everything under the prefix, in one round trip.

        Raises:
            StoreError: Redis did not answer, or not by the deadline, or refused.
        """
        replies = self._read([("HGETALL", name) for name in self._hashes.values()], deadline)
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return {
            kind: {_decoded(key): text for key, text in _pairs(reply)}
            for kind, reply in zip(self._hashes, replies, strict=True)
        }

    def get_metadata(self) -> BigSegmentsMetadata:
        """When the big segments were last brought up to date.

        Raises:
            StoreError: Redis did not answer, or holds no integer there.
        """
        return self.get_big_segments(())[0]

    def get_membership(self, context_hash: str) -> dict[str, bool] | None:
        """The big segments that a context is known to be in (True) or not in (False); None when nothing is known.

        Raises:
            StoreError: Redis did not answer, or refused.
        """
        return self.get_big_segments((context_hash,))[1][context_hash]

    def get_big_segments(
        self, context_hashes: Iterable[str], deadline: float | None = None
    ) -> tuple[BigSegmentsMetadata, dict[str, dict[str, bool] | None]]:
        """The metadata and the memberships of contexts in one round trip.

        Raises:
            StoreError: Redis did not answer, or not by the deadline, or refused.
        """
        from .membership import BigSegmentsMetadata, epoch_ms, membership

        hashes = list(context_hashes)
        commands: list[tuple[str, ...]] = [("GET", f"{self._prefix}:big_segments_synchronized_on")]
        for context_hash in hashes:
            # The order of all writers and readers: a context that moves from one to the other is never in neither.
            commands.append(("SMEMBERS", f"{self._prefix}:big_segment_include:{context_hash}"))
            commands.append(("SMEMBERS", f"{self._prefix}:big_segment_exclude:{context_hash}"))
        synchronized, *sets = self._read(commands, deadline)
        for reply in (synchronized, *sets):
            if isinstance(reply, StoreError):
                raise reply
        memberships = {
            context_hash: membership(map(_decoded, sets[2 * index]), map(_decoded, sets[2 * index + 1]))
            for index, context_hash in enumerate(hashes)
        }
        return BigSegmentsMetadata(epoch_ms(synchronized)), memberships

    def stop(self) -> None:
        """The same as `close`, by the name that a big segment store has."""
        self.close()

    def close(self) -> None:
        """Closes the connections, if this requester opened them."""
        self._redis.close()

    def _read(self, commands: Sequence[tuple[str, ...]], deadline: float | None) -> list[Any]:
        return self._redis.read(commands) if deadline is None else self._redis.read(commands, deadline)


class Wire:
    """The seam over ldreader's own client: one server, no package."""

    def __init__(self, redis: Resp, place: str, timeout: float) -> None:
        self._redis = redis
        self._place = place
        self.timeout = timeout

    @classmethod
    def from_url(cls, base: str, in_url: Mapping[str, str], timeout: float, options: Mapping[str, Any]) -> Wire:
        """A client for a URL and options that `_beyond_the_wire` has nothing against.

        Raises:
            ConfigurationError: The URL or an option makes no sense.
        """
        scheme, _, rest = base.partition("://")
        authority, _, path = rest.partition("/")
        userinfo, _, host = authority.rpartition("@")
        user, _, password = userinfo.partition(":")
        # As the package reads a URL: blank is not given, and who stands before the host comes before the options.
        given: dict[str, Any] = {name: value for name, value in in_url.items() if value}
        given |= {name: unquote(value) for name, value in (("username", user), ("password", password)) if value}
        try:
            if scheme not in ("redis", "rediss", "unix") or not base.isprintable() or set("[]#") & set(userinfo + path):
                raise ValueError
            if not base.isascii():
                from urllib.parse import urlsplit

                urlsplit(base)  # refuses letters that pass for signs of a URL
            if scheme == "unix":
                if host or "\0" in unquote(path):
                    raise ValueError
                address: tuple[str, int] | str = f"/{unquote(path)}"
                place = str(address)
            else:
                address = _host_and_port(host)
                place = "{}:{}".format(*address)
                given = {"db": int(path.strip("/") or 0), **given}
            given |= options
            database = int(given.get("db") or 0)
        except (ValueError, TypeError):
            raise unusable() from None
        redis = Resp(
            address,
            timeout=timeout,
            user=given.get("username") or "",
            password=given.get("password") or "",
            database=database,
            secure=_tls(given) if scheme == "rediss" else None,
        )
        return cls(redis, place, timeout)

    def read(self, commands: Sequence[tuple[str, ...]], deadline: float | None = None) -> list[Any]:
        """The reply to each command, all in one round trip.

        Raises:
            StoreError: Redis did not answer, or not by the deadline, or not in its protocol.
        """
        try:
            replies = self._redis.read(commands, deadline, fits=_fit)
        except NoAdmission as error:
            raise (refused_login if error.command == "AUTH" else refused)(_words(error)) from error
        except MalformedReply as error:
            raise unanswered(f"its reply makes no sense, {error} ({self._place})") from error
        except OSError as error:
            raise unanswered(f"{error.strerror or error} ({self._place})") from error
        return [self._refusal(reply) if type(reply) is Refusal else reply for reply in replies]

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def _refusal(self, reply: Refusal) -> StoreError:
        """The error in the place of a reply.

        Raises:
            StoreError: Nothing else would be answered either.
        """
        code = str(reply).partition(" ")[0]
        if code == "NOAUTH":
            raise refused_login(_words(reply)) from reply
        if code in _NOT_NOW:
            raise unanswered(f"{_words(reply)} ({self._place})") from reply
        error = refused(_words(reply) + OF_A_CLUSTER * (code in ("MOVED", "ASK")))
        error.__cause__ = reply
        return error


def unusable() -> ConfigurationError:
    """The error for a URL that cannot be read; nothing of it is quoted, since it may be part of a password."""
    return ConfigurationError(
        "the Redis URL cannot be used: check host and port, and that the database is a number, as in "
        "redis://localhost:6379?db=0; special characters of a password are percent-encoded, such as %2F for / "
        "and %40 for @"
    )


def unanswered(reason: str) -> StoreError:
    """The error for a Redis that did not answer."""
    return StoreError(f"Redis did not answer: {no_arguments(reason)}; is it running, and is the store URL right?")


def refused_login(reason: str) -> StoreError:
    """The error for a user or password that is wrong or lacks."""
    return StoreError(f"Redis refused the user name or password: {no_arguments(reason)}")


def refused(reason: str) -> StoreError:
    """The error for what Redis will not do, though it answers."""
    error = StoreError(f"Redis refused to read: {no_arguments(reason)}")
    error.answered = True
    return error


def _client(
    base: str, in_url: dict[str, str], timeout: float, options: dict[str, Any], client: str | None
) -> ReadsRedis:
    """The seam over the client that was chosen, or over the first that serves what was asked for."""
    if client is not None and client not in CLIENTS:
        # Not shown unless it is a name: the application's own client goes to `RedisRequester`.
        raise unknown("client for Redis", client if isinstance(client, str) else type(client).__name__, CLIENTS)
    if any("@" in name for name in in_url):  # a question mark in a password, and the host after it
        raise unusable()
    scheme, found, rest = base.partition("://")
    base = scheme.lower() + found + rest
    known = {*_WIRE_OPTIONS, *(_TLS_OPTIONS if scheme.lower() == "rediss" else ())}
    strange = next((name for name in (*in_url, *options) if name not in known), None)
    beyond = _beyond_the_wire(scheme, strange, options)
    if beyond and client == WIRE:
        raise ConfigurationError(f"the client 'wire' does not serve {beyond}; leave client out for one that may")
    if not beyond and client != REDIS_PY:
        return Wire.from_url(base, in_url, timeout, options)
    from .redis_py import RedisPy

    try:
        return RedisPy.from_url(base, in_url, timeout, options)
    except MissingDependency as error:
        if strange is None or client == REDIS_PY or "+" in scheme:
            raise
        doubt = unknown("option for Redis", strange, known | OWN_OPTIONS)
        raise MissingDependency(f"{doubt} If it is one of redis-py: {error}") from error


def _beyond_the_wire(scheme: str, strange: str | None, options: Mapping[str, Any]) -> str:
    """What only the package redis serves; nothing when the wire does."""
    if "+" in scheme:
        return f"{scheme}://"
    if strange is not None:
        return f"the option {strange!r}"
    texts = ("username", "password", "ssl_cert_reqs")
    return next((f"such a {name}" for name in texts if not isinstance(options.get(name), (str, type(None)))), "")


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = host_and_port(address, 6379)
    bare = unquote(host[1:-1] if host[0] + host[-1] == "[]" else host)
    if set(bare) & set("[]:" if bare == host else "[] ") or not bare.isprintable() or not 0 < port < 65536:
        raise ValueError
    return bare, port


def _tls(given: Mapping[str, Any]) -> Callable[[], Any]:
    """What makes the TLS context; the options mean what they mean to the package."""
    verifies = given.get("ssl_cert_reqs", "required")
    verifies = "none" if verifies is None else verifies
    checks_host = str(given.get("ssl_check_hostname", True)).upper() not in ("0", "F", "FALSE", "N", "NO")
    authorities = given.get("ssl_ca_certs")
    certificate, key = given.get("ssl_certfile"), given.get("ssl_keyfile")
    if verifies not in ("required", "optional", "none"):
        raise ConfigurationError(f"ssl_cert_reqs must be required, optional or none, not {verifies!r}")
    if key and not certificate:
        raise ConfigurationError("ssl_keyfile is of no use without ssl_certfile")

    def context() -> Any:
        import ssl

        made = ssl.create_default_context()
        made.check_hostname = checks_host and verifies != "none"
        made.verify_mode = ssl.VerifyMode[f"CERT_{verifies.upper()}"]
        try:
            if certificate:
                made.load_cert_chain(certificate, key, password="")  # without one it would ask on the terminal
            if authorities:
                made.load_verify_locations(authorities)
        except OSError as error:
            files = ", ".join(str(file) for file in (certificate, key, authorities) if file)
            raise OSError(f"the certificates cannot be used: {error.strerror or error}: {files}") from error
        return made

    return context


def _fit(commands: Sequence[tuple[str, ...]], replies: list[Any]) -> bool:
    """Whether they are replies to such commands."""
    for command, reply in zip(commands, replies, strict=True):
        if type(reply) is bytes or reply is None:
            if command[0] not in ("HGET", "GET"):
                return False
        elif type(reply) is list:
            if command[0] not in ("HGETALL", "SMEMBERS") or not set(map(type, reply)) <= {bytes}:
                return False
            if command[0] == "HGETALL" and len(reply) % 2:
                return False
        elif not isinstance(reply, Refusal):
            return False
    return True


def _words(reply: Refusal) -> str:
    """What Redis said, without the codes that say nothing more."""
    text = " ".join(str(reply).split())
    code, _, words = text.partition(" ")
    return words if code in ("ERR", "NOAUTH", "WRONGPASS", "NOPERM", *_NOT_NOW) else text


def _pairs(reply: Any) -> Iterable[tuple[Any, Any]]:
    """The members of a hash, which comes as a mapping or flat."""
    if isinstance(reply, list):
        members = iter(reply)
        return zip(members, members, strict=True)
    items: Iterable[tuple[Any, Any]] = reply.items()
    return items


def _decoded(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "surrogateescape")
