"""Flags in Consul: ``<prefix>/features/<key>``, ``<prefix>/segments/<key>`` (spec: store schemas, section 4).

The requester knows the layout; the client behind it is reached through one method, ``http``.
"""

from __future__ import annotations

from ..errors import ConfigurationError, StoreError
from ..schema import FEATURES, SEGMENTS, dumps, loads
from . import DEFAULT_TIMEOUT, client_package, flag_of, host_and_port, seconds, split_query, unknown, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    from ..schema import ItemRef

    class SpeaksHttp(Protocol):
        """The seam: one HTTP exchange with the agent."""

        def http(
            self, method: str, path: str, parameters: Mapping[str, str], body: bytes | None
        ) -> tuple[int, bytes | str]:
            """The status and the body; `StoreError` where there was no answer. The path is not escaped yet."""
            ...

        def close(self) -> None:
            """Lets go of what was opened."""
            ...


DEFAULT_PREFIX = "launchdarkly"
DEFAULT_PORT = 8500

TRANSACTION_LIMIT = 64
"""Operations that one transaction may have."""

KEY_LIMIT = 1024
"""Bytes of a key that is asked for: 64 such fit a transaction, and LaunchDarkly's are far shorter."""


class ConsulRequester:
    """Flags and segments from Consul's KV store.

    ``consul`` is a client of the package python-consul or py-consul, made by the application; its timeouts are its
    own. ``datacenter`` is the client's, or the agent's own, by default.
    """

    def __init__(self, consul: Any, *, prefix: str = DEFAULT_PREFIX, datacenter: str = "") -> None:
        self._consul: SpeaksHttp = consul if callable(consul.http) else PythonConsul.over(consul)
        self._prefix = prefix or DEFAULT_PREFIX
        self._parameters = {"dc": datacenter} if datacenter else {}

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        token: str | None = None,
        datacenter: str | None = None,
        timeout: float | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        **options: Any,
    ) -> ConsulRequester:
        """The requester for ``consul://[:token@]host[:8500]`` or ``consul+https://…``. Connects when first asked.

        ``prefix``, ``datacenter``, ``timeout`` (seconds, for connecting and for each reply), ``verify`` (false, or a
        file of authorities) and ``cert`` (a file with certificate and key; in code also a pair of files) may also
        stand in the URL; the last two are for TLS. Of Consul's own environment variables only ``CONSUL_HTTP_TOKEN``
        is looked at, where no token is given.

        Raises:
            ConfigurationError: The URL or an option makes no sense.
            MissingDependency: Neither python-consul nor py-consul is installed.
        """
        base, in_url = split_query(url)
        given = {"prefix": prefix, "datacenter": datacenter, "timeout": timeout, "verify": verify, "cert": cert}
        for name in (*in_url, *options):
            if name not in given:
                raise unknown("option for Consul", name, [*given, "token"])
        settings: dict[str, Any] = {**in_url, **{name: value for name, value in given.items() if value is not None}}
        scheme, found, authority = base.partition("://")
        if not found:
            raise ConfigurationError(f"{scheme!r} has no host; write consul://HOST:{DEFAULT_PORT}")
        secret, _, address = authority.rstrip("/").rpartition("@")
        host, port = _address(address)
        if token is None:
            import os

            token = unquote(secret.removeprefix(":")) or os.environ.get("CONSUL_HTTP_TOKEN", "")
        client = PythonConsul.open(
            host,
            port,
            scheme="https" if scheme.lower() == "consul+https" else "http",
            token=token,
            timeout=seconds(settings.get("timeout", DEFAULT_TIMEOUT)),
            verify=_verify(settings.get("verify", True)),
            cert=settings.get("cert"),
        )
        return cls(client, prefix=settings.get("prefix", ""), datacenter=settings.get("datacenter", ""))

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, bytes | StoreError]:
        """The items that exist: one round trip for each 64, and one more where some of them do not exist.

        Raises:
            StoreError: Consul did not answer, or refused.
        """
        paths = {
            f"{self._prefix}/{kind}/{key}": (kind, key) for kind, key in refs if key and len(key.encode()) <= KEY_LIMIT
        }
        if len(paths) == 1:
            entries = self._entries(*paths, tree=False)
        else:
            wanted = list(paths)
            entries = []
            for start in range(0, len(wanted), TRANSACTION_LIMIT):
                entries += self._transaction(wanted[start : start + TRANSACTION_LIMIT])
        return {paths[entry["Key"]]: _value(entry) for entry in entries if entry["Key"] in paths}

    def get_all(self) -> dict[str, dict[str, bytes | StoreError]]:
        """Everything under the prefix, in one round trip; where nothing is, one more tells whether the token may look.

        Raises:
            StoreError: Consul did not answer, or refused.
        """
        collections: dict[str, dict[str, bytes | StoreError]] = {FEATURES: {}, SEGMENTS: {}}
        # The slash at the end keeps `env1` from reading `env10`.
        entries = self._entries(f"{self._prefix}/", tree=True)
        for entry in entries:
            kind, _, key = entry["Key"][len(self._prefix) + 1 :].partition("/")
            if kind in collections and key:
                collections[kind][key] = _value(entry)
        if not entries:
            # A token without the right to read a tree is told that the tree is empty; of a single key, the truth.
            self._entries(f"{self._prefix}/{FEATURES}", tree=False)
        return collections

    def close(self) -> None:
        """Closes the connections, if this requester opened them."""
        self._consul.close()

    def _entries(self, key: str, *, tree: bool) -> list[dict[str, Any]]:
        """The entry of this key, or those of all keys that begin with it, as far as they exist."""
        if _fits_a_url(key):
            parameters = {**self._parameters, "recurse": "true"} if tree else self._parameters
            status, body = self._consul.http("GET", f"/v1/kv/{key}", parameters, None)
            if status == 404 and not body.strip():
                return []
            if status == 200:
                return _entries(_json(body))
            if status != 400:  # the newest agents refuse some more keys in a URL, such as `a.json`
                raise _refused(status, body)
        return self._transaction([key], "get-tree" if tree else "get")

    def _transaction(self, keys: list[str], verb: str = "get") -> list[dict[str, Any]]:
        """The entries that exist. One that does not makes the whole transaction fail, and is named in the reply."""
        for _ in range(2):
            if not keys:
                return []
            body = dumps([{"KV": {"Verb": verb, "Key": key}} for key in keys]).encode()
            status, reply = self._consul.http("PUT", "/v1/txn", self._parameters, body)
            if status == 200:
                entries = _entries([result.get("KV") for result in _objects(reply, "Results")])
                if verb == "get":
                    # What exists and the token may not read is left out without a word.
                    withheld = set(keys) - {entry["Key"] for entry in entries}
                    entries += [{"Key": key, "Value": _withheld(key)} for key in withheld]
                return entries
            if status != 409:
                break
            missing = {
                error.get("OpIndex", -1)
                for error in _objects(reply, "Errors")
                if "doesn't exist" in str(error.get("What"))
            }
            if not missing:
                break
            keys = [key for index, key in enumerate(keys) if index not in missing]
        raise _refused(status, reply)


class PythonConsul:
    """The seam over the package python-consul, or py-consul, which is called the same."""

    def __init__(self, connect: Callable[[], Any] | None, client: Any = None) -> None:
        self._connect = connect
        self._client = client
        self._http: Any = None if client is None else client.http
        self._process = 0

    @classmethod
    def over(cls, client: Any) -> PythonConsul:
        """The seam over a client that the application has, with its token, datacenter and consistency."""
        return cls(None, client)

    @classmethod
    def open(
        cls,
        host: str,
        port: int,
        *,
        scheme: str,
        token: str,
        timeout: float,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> PythonConsul:
        """A client of its own that waits no longer than the timeout.

        Raises:
            MissingDependency: Neither package is installed.
        """
        if not token.isprintable():  # the package would quote it
            raise ConfigurationError("the Consul token holds a character that no token has, such as a line break")
        std = client_package("consul", extra="consul").std

        def connect() -> Any:
            # Not `consul.Consul`: there the environment would win over what is given here.
            http = std.HTTPClient(host, port, scheme, verify, cert)
            _bound(http.session, timeout)
            if token:
                http.session.headers["X-Consul-Token"] = token
            # A proxy or a password file in the environment is not meant for the agent, nor its token for others.
            http.session.trust_env = False
            http.session.max_redirects = 0
            return http

        return cls(connect)

    def http(
        self, method: str, path: str, parameters: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes | str]:
        """The status and the body of one exchange.

        Raises:
            StoreError: There was no answer.
        """
        import os

        import requests

        options: dict[str, Any] = {}
        if self._connect is None:
            parameters, options = _as_the_client_would(self._client, parameters)
        elif self._process != os.getpid():
            # Two processes that share a connection would read each other's answers.
            self._http, self._process = self._connect(), os.getpid()
        try:
            if method == "GET":
                status, text = self._http.get(_answer, path, parameters, **options)
            else:
                status, text = self._http.put(_answer, path, parameters, body, **options)
        except (requests.RequestException, OSError) as error:
            raise StoreError(
                f"Consul did not answer: {_cause(error)}; is the agent running, and is the URL right?"
            ) from error
        return status, text

    def close(self) -> None:
        """Closes the client if it was made here."""
        if self._connect is not None and self._http is not None:
            self._http.session.close()


def _bound(session: Any, timeout: float) -> None:
    """Makes all that the session sends wait no longer than this: python-consul has no timeout of its own."""
    import requests.adapters

    class Bounded(requests.adapters.HTTPAdapter):
        def send(self, *arguments: Any, **options: Any) -> Any:
            return super().send(*arguments, **{**options, "timeout": timeout})

    for scheme in ("http://", "https://"):
        session.mount(scheme, Bounded())


def _as_the_client_would(client: Any, parameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The parameters and further arguments for a request of the application's client."""
    parameters = dict(parameters)
    if client.dc:
        parameters.setdefault("dc", client.dc)
    if client.consistency != "default":
        parameters[client.consistency] = "1"
    if hasattr(client, "prepare_headers"):
        return parameters, {"headers": client.prepare_headers()}
    if client.token:  # python-consul, and py-consul before 1.6, cannot send headers
        parameters["token"] = client.token
    return parameters, {}


def _answer(response: Any) -> tuple[int, str]:
    return response.code, response.body


def _cause(error: BaseException) -> str:
    # requests wraps urllib3, which quotes the whole URL; the innermost says it best.
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error) or type(error).__name__


def _address(address: str) -> tuple[str, int]:
    if "/" in address:
        raise ConfigurationError("a Consul URL has no path; a prefix is given as consul://HOST?prefix=…")
    try:
        return host_and_port(address, DEFAULT_PORT)
    except ValueError as error:
        raise ConfigurationError(f"the Consul URL has {error}; write :TOKEN@ before a host") from None


def _verify(value: bool | str) -> bool | str:
    """A truth value, or a file of authorities."""
    if isinstance(value, str) and value.lower() not in ("true", "1", "yes", "false", "0", "no"):
        return value
    return flag_of("verify", value)


def _fits_a_url(key: str) -> bool:
    """Whether a URL gets this key to every agent: the newest refuse other characters, and none keeps `//` or `..`."""
    return (
        all(character.isascii() and (character.isalnum() or character in ",-_./") for character in key)
        and "../" not in key
        and all(step.strip(".") for step in key.removesuffix("/").split("/"))
    )


def _json(body: bytes | str) -> Any:
    try:
        return loads(body)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"Consul's answer cannot be read: {error}; is there another server at this URL?") from error


def _entries(entries: Any) -> list[dict[str, Any]]:
    if isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("Key"), str) for entry in entries
    ):
        return entries
    raise StoreError("Consul's answer is no list of entries; is there another server at this URL?")


def _objects(body: bytes | str, name: str) -> list[dict[str, Any]]:
    reply = _json(body)
    objects = (reply.get(name) or []) if isinstance(reply, dict) else None
    if isinstance(objects, list) and all(isinstance(member, dict) for member in objects):
        return objects
    raise StoreError("Consul's answer to a transaction cannot be read; is there another server at this URL?")


def _value(entry: dict[str, Any]) -> bytes | StoreError:
    import base64

    value = entry.get("Value")
    if isinstance(value, StoreError):
        return value
    try:
        return base64.b64decode(value or "", validate=True)
    except (ValueError, TypeError):
        return StoreError(f"Consul's value of {entry['Key']!r} is not base64")


def _withheld(key: str) -> StoreError:
    return StoreError(f"Consul left {key!r} out of its answer; {_ADVICE}")


_ADVICE = "the token needs key_prefix read on the prefix"


def _refused(status: int, body: bytes | str) -> StoreError:
    text = " ".join((body if isinstance(body, str) else body.decode("utf-8", "replace")).split())
    advice = f"; {_ADVICE}" if status == 403 or "ermission denied" in text else ""
    refusal = StoreError(f"Consul refused to read: {status} {text[:200]}{advice}")
    refusal.answered = True
    return refusal
