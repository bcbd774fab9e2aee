"""Flags in Consul: ``<prefix>/features/<key>``, ``<prefix>/segments/<key>`` (spec: store schemas, section 4).

The requester knows the layout; the client behind it is reached through one method, ``http``.
"""

from __future__ import annotations

import os

from ..errors import ConfigurationError, StoreError
from ..schema import FEATURES, SEGMENTS, dumps, loads
from ..wire.connection import MalformedReply
from ..wire.http import Http, escaped
from . import DEFAULT_TIMEOUT, flag_of, host_and_port, seconds, split_query, unknown, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    from ..schema import ItemRef

    class SpeaksHttp(Protocol):
        """The seam: one HTTP exchange with the agent."""

        exact: bool
        """The body is what the agent sent, to the byte, and with the parameter ``raw`` it is known to be an agent's."""

        timeout: float | None
        """Seconds that connecting, and each reply, may take; None where that is not known."""

        def http(
            self,
            method: str,
            path: str,
            parameters: Mapping[str, str],
            body: bytes | None,
            deadline: float | None = None,
        ) -> tuple[int, bytes | str]:
            """The status and the body; `StoreError` where there was no answer. The path is not escaped yet."""
            ...

        def close(self) -> None:
            """Lets go of what was opened."""
            ...


DEFAULT_PREFIX = "launchdarkly"
DEFAULT_PORT = 8500
WIRE, PYTHON_CONSUL = CLIENTS = ("wire", "python-consul")

TRANSACTION_LIMIT = 64
"""Operations that one transaction may have."""

KEY_LIMIT = 1024
"""Bytes of a key that is asked for: 64 such fit a transaction, and LaunchDarkly's are far shorter."""


class ConsulRequester:
    """Flags and segments from Consul's KV store.

    ``consul`` is a client of the package python-consul or py-consul, made by the application; its timeouts are its
    own, and a deadline only keeps it from being asked too late. ``datacenter`` is the client's, or the agent's own, by
    default.
    """

    keeps_deadlines = True
    reconnects = True
    guess_limit = 65536

    def __init__(self, consul: Any, *, prefix: str = DEFAULT_PREFIX, datacenter: str = "") -> None:
        if not callable(consul.http):
            from .python_consul import PythonConsul

            consul = PythonConsul.over(consul)
        self._consul: SpeaksHttp = consul
        self.timeout: float | None = getattr(consul, "timeout", None)
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
        client: str | None = None,
        **options: Any,
    ) -> ConsulRequester:
        """The requester for ``consul://[:token@]host[:8500]`` or ``consul+https://…``. Connects when first asked.

        ``prefix``, ``datacenter``, ``timeout`` (seconds, for connecting and for each reply), ``verify`` (false, or a
        file of authorities), ``cert`` (a file with certificate and key; in code also a pair of files) and ``client``
        may also stand in the URL; ``verify`` and ``cert`` are for TLS. ``client`` is ``"wire"``, which needs no
        package and serves all of these, or ``"python-consul"`` for that package or py-consul. Of Consul's own
        environment variables only ``CONSUL_HTTP_TOKEN`` is looked at, where no token is given.

        Raises:
            ConfigurationError: The URL or an option makes no sense.
            MissingDependency: The package was asked for, and neither of the two is installed.
        """
        base, in_url = split_query(url)
        given = {"prefix": prefix, "datacenter": datacenter, "timeout": timeout, "verify": verify, "cert": cert}
        given["client"] = client
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
            token = unquote(secret.removeprefix(":")) or os.environ.get("CONSUL_HTTP_TOKEN", "")
        if not token.isprintable():  # it would end the header, or be quoted in a message
            raise ConfigurationError("the Consul token holds a character that no token has, such as a line break")
        opened = _opener(settings.get("client", WIRE))(
            host,
            port,
            secure=scheme.lower() == "consul+https",
            token=token,
            timeout=seconds(settings.get("timeout", DEFAULT_TIMEOUT)),
            verify=_verify(settings.get("verify", True)),
            cert=settings.get("cert"),
        )
        return cls(opened, prefix=settings.get("prefix", ""), datacenter=settings.get("datacenter", ""))

    def get_many(self, refs: Sequence[ItemRef], deadline: float | None = None) -> dict[ItemRef, bytes | StoreError]:
        """The items that exist: one round trip for each 64, and one more where some of them do not exist.

        Raises:
            StoreError: Consul did not answer, or not by the deadline, or refused.
        """
        paths = {
            f"{self._prefix}/{kind}/{key}": (kind, key) for kind, key in refs if key and len(key.encode()) <= KEY_LIMIT
        }
        wanted = list(paths)
        if len(wanted) == 1:
            entries = self._entries(wanted[0], deadline, tree=False)
        else:
            entries = []
            for start in range(0, len(wanted), TRANSACTION_LIMIT):
                entries += self._transaction(wanted[start : start + TRANSACTION_LIMIT], deadline)
        return {paths[entry["Key"]]: _value(entry) for entry in entries if entry["Key"] in paths}

    def get_all(self, deadline: float | None = None) -> dict[str, dict[str, bytes | StoreError]]:
        """Everything under the prefix, in one round trip; where nothing is, one more tells whether the token may look.

        Raises:
            StoreError: Consul did not answer, or not by the deadline, or refused.
        """
        collections: dict[str, dict[str, bytes | StoreError]] = {FEATURES: {}, SEGMENTS: {}}
        # The slash at the end keeps `env1` from reading `env10`.
        entries = self._entries(f"{self._prefix}/", deadline, tree=True)
        for entry in entries:
            kind, _, key = entry["Key"][len(self._prefix) + 1 :].partition("/")
            if kind in collections and key:
                collections[kind][key] = _value(entry)
        if not entries:
            # A token without the right to read a tree is told that the tree is empty; of a single key, the truth.
            self._entries(f"{self._prefix}/{FEATURES}", deadline, tree=False)
        return collections

    def close(self) -> None:
        """Closes the connections, if this requester opened them."""
        self._consul.close()

    def _entries(self, key: str, deadline: float | None, *, tree: bool) -> list[dict[str, Any]]:
        """The entry of this key, or those of all keys that begin with it, as far as they exist."""
        if _fits_a_url(key):
            is_raw = not tree and self._consul.exact  # the value alone, without base64 and JSON around it
            parameters = {"recurse": "true"} if tree else {"raw": "true"} if is_raw else {}
            status, body = self._http("GET", f"/v1/kv/{key}", parameters, None, deadline)
            if status == 404 and not body.strip():
                return []
            if status == 200:
                return [{"Key": key, "Value": body}] if is_raw else _entries(_json(body))
            if status != 400:  # the newest agents refuse some more keys in a URL, such as `a.json`
                raise _refused(status, body)
        return self._transaction([key], deadline, "get-tree" if tree else "get")

    def _transaction(self, keys: list[str], deadline: float | None, verb: str = "get") -> list[dict[str, Any]]:
        """The entries that exist. One that does not makes the whole transaction fail, and is named in the reply."""
        for _ in range(2):
            if not keys:
                return []
            body = dumps([{"KV": {"Verb": verb, "Key": key}} for key in keys]).encode()
            status, reply = self._http("PUT", "/v1/txn", {}, body, deadline)
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

    def _http(
        self, method: str, path: str, parameters: dict[str, str], body: bytes | None, deadline: float | None
    ) -> tuple[int, bytes | str]:
        parameters = {**self._parameters, **parameters}
        if deadline is None:
            return self._consul.http(method, path, parameters, body)
        return self._consul.http(method, path, parameters, body, deadline)


class Wire:
    """The seam over ldreader's own client."""

    exact = True

    def __init__(self, http: Http, token: str, timeout: float) -> None:
        self.timeout: float | None = timeout
        self._http = http
        self._headers = {"X-Consul-Token": token} if token else {}

    @classmethod
    def open(
        cls,
        host: str,
        port: int,
        *,
        secure: bool,
        token: str,
        timeout: float,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> Wire:
        """A client for one agent, that is connected when it is first asked."""
        context = _tls(verify, cert) if secure else None
        http = Http(host, port, timeout=timeout, secure=context, default_port=443 if secure else 80)
        return cls(http, token, timeout)

    def http(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        body: bytes | None,
        deadline: float | None = None,
    ) -> tuple[int, bytes]:
        """The status and the body of one exchange.

        Raises:
            StoreError: There was no answer, or none by the deadline, or it makes no sense.
        """
        query = "&".join(f"{name}={escaped(value)}" for name, value in parameters.items())
        target = f"{escaped(path)}?{query}" if query else escaped(path)
        try:
            status, headers, data = self._http.exchange(method, target, self._headers, body, deadline)
        except MalformedReply as error:
            raise unanswered(f"its reply makes no sense, {error} ({self._http.host})") from error
        except OSError as error:
            raise unanswered(f"{error.strerror or error} ({self._http.host})") from error
        if status == 200 and "raw" in parameters and "x-consul-index" not in headers:
            raise _not_consuls("is no agent's")
        return status, data

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


def unanswered(reason: str) -> StoreError:
    """The error for an agent that did not answer; the reason may quote what came instead."""
    return StoreError(f"Consul did not answer: {_line(reason)[:200]}; is the agent running, and is the URL right?")


def _opener(client: object) -> Callable[..., SpeaksHttp]:
    """What opens the client of this name."""
    if client == WIRE:
        return Wire.open
    if client != PYTHON_CONSUL:
        # Not shown unless it is a name: the application's own client goes to `ConsulRequester`.
        raise unknown("client for Consul", client if isinstance(client, str) else type(client).__name__, CLIENTS)
    from .python_consul import PythonConsul

    return PythonConsul.open


def _tls(verify: bool | str, cert: str | tuple[str, str] | None) -> Callable[[], Any]:
    """What makes the TLS context."""

    def context() -> Any:
        import ssl

        what = verify if isinstance(verify, str) else "the system's authorities"
        try:
            if not isinstance(verify, str):
                made = ssl.create_default_context()
            elif os.path.isdir(verify):
                made = ssl.create_default_context(capath=verify)
            else:
                made = ssl.create_default_context(cafile=verify)
            if verify is False:
                made.check_hostname = False
                made.verify_mode = ssl.CERT_NONE
            if cert:
                file, key = (cert, None) if isinstance(cert, str) else cert
                what = file
                # Without a password, OpenSSL would ask for that of a key on the terminal.
                made.load_cert_chain(file, key, "")
        except OSError as error:
            raise OSError(f"{what} cannot be used for TLS, {error.strerror or error}") from error
        return made

    return context


def _address(address: str) -> tuple[str, int]:
    if "/" in address:
        raise ConfigurationError("a Consul URL has no path; a prefix is given as consul://HOST?prefix=…")
    try:
        host, port = host_and_port(address, DEFAULT_PORT)
    except ValueError as error:
        raise ConfigurationError(f"the Consul URL has {error}; write :TOKEN@ before a host") from None
    bare = host[1:-1] if host[0] + host[-1] == "[]" else host
    allowed = ".-_" if bare == host else ":."
    if not all(letter.isalnum() or letter in allowed for letter in bare or "?") or not 0 < port < 65536:
        # Not shown: it may be part of a token.
        raise ConfigurationError("the Consul URL has no host and port as in consul://localhost:8500")
    try:
        return bare if bare.isascii() else bare.encode("idna").decode(), port
    except UnicodeError:
        raise ConfigurationError("the Consul URL has a host name that no host can have") from None


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
        raise _not_consuls(f"cannot be read: {error}") from error


def _entries(entries: Any) -> list[dict[str, Any]]:
    if isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("Key"), str) for entry in entries
    ):
        return entries
    raise _not_consuls("is no list of entries")


def _objects(body: bytes | str, name: str) -> list[dict[str, Any]]:
    reply = _json(body)
    objects = (reply.get(name) or []) if isinstance(reply, dict) else None
    if isinstance(objects, list) and all(isinstance(member, dict) for member in objects):
        return objects
    raise _not_consuls("to a transaction cannot be read")


def _not_consuls(what: str) -> StoreError:
    return StoreError(f"Consul's answer {what}; is there another server at this URL?")


def _value(entry: dict[str, Any]) -> bytes | StoreError:
    value = entry.get("Value") or b""
    if isinstance(value, (bytes, StoreError)):
        return value
    import binascii

    try:
        data = binascii.a2b_base64(value)
        if binascii.b2a_base64(data, newline=False) == value.encode():  # else something was skipped
            return data
    except (ValueError, TypeError, AttributeError):
        pass
    return StoreError(f"Consul's value of {entry['Key']!r} is not base64")


def _withheld(key: str) -> StoreError:
    return StoreError(f"Consul left {key!r} out of its answer; {_ADVICE}")


_ADVICE = "the token needs key_prefix read on the prefix"


def _line(text: str) -> str:
    return " ".join(text.split())


def _refused(status: int, body: bytes | str) -> StoreError:
    text = _line(body if isinstance(body, str) else body.decode("utf-8", "replace"))
    advice = f"; {_ADVICE}" if status == 403 or "ermission denied" in text else ""
    refusal = StoreError(f"Consul refused to read: {status} {text[:200]}{advice}")
    refusal.answered = True
    return refusal
