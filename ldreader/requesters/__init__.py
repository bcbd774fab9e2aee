"""Where flags come from: one module a store, each read through the same protocol."""

from __future__ import annotations

from ..errors import ConfigurationError, MissingDependency

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from .protocol import FeatureRequester

DEFAULT_TIMEOUT = 2.0
"""Seconds that connecting, and each reply, may take."""

_SCHEMES = {
    "consul": "consul",
    "consul+https": "consul",
    "dynamodb": "dynamodb",
    "file": "file",
    "redis": "redis",
    "redis+cluster": "redis",
    "redis+sentinel": "redis",
    "rediss": "redis",
    "rediss+cluster": "redis",
    "rediss+sentinel": "redis",
    "unix": "redis",
}
_EXAMPLES = "redis://localhost:6379, dynamodb://TABLE, consul://localhost:8500 or file:flags.json"


def open_requester(url: str, **options: Any) -> FeatureRequester:
    """The requester for a store URL. Contacts nothing yet.

    An option given here wins over the same one in the URL.

    Raises:
        ConfigurationError: The URL's scheme or an option is unknown, or a value makes no sense.
        MissingDependency: The store's client package is not installed.
    """
    scheme, found, _ = url.partition(":") if isinstance(url, str) else ("", "", "")
    scheme = scheme.lower()
    if not found:  # not shown: it may hold a password all the same
        raise ConfigurationError(f"that is no store URL; give one like {_EXAMPLES}")
    if scheme not in _SCHEMES:
        raise unknown("store URL scheme", scheme, _SCHEMES)
    url = scheme + url[len(scheme) :]
    # One import each: a reader of one store loads nothing of another's.
    if _SCHEMES[scheme] == "redis":
        from .redis import RedisRequester

        return RedisRequester.from_url(url, **options)
    if _SCHEMES[scheme] == "dynamodb":
        from .dynamodb import DynamoDBRequester

        return DynamoDBRequester.from_url(url, **options)
    if _SCHEMES[scheme] == "consul":
        from .consul import ConsulRequester

        return ConsulRequester.from_url(url, **options)
    from .file import FileRequester

    return FileRequester.from_url(url, **options)


def client_package(name: str, *, extra: str) -> ModuleType:
    """The client package of that name.

    Raises:
        MissingDependency: It is not installed; the message says how to install it.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(
            f"the package {name!r} is not installed; install it with: pip install 'ldreader[{extra}]'"
        ) from error


def split_query(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its query, and the query's options; the last of a repeated option counts."""
    base, _, query = url.partition("?")
    options = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            options[unquote(name)] = unquote(value.replace("+", " "))
    return base, options


def unquote(text: str) -> str:
    """The text with its %XX escapes resolved, as UTF-8; what only looks like one stays as it is."""
    if "%" not in text:
        return text
    from binascii import unhexlify  # and not urllib.parse, which costs more than an evaluation

    first, *others = text.split("%")
    data = first.encode("utf-8", "surrogateescape")
    for other in others:
        rest = other.encode("utf-8", "surrogateescape")
        try:
            data += unhexlify(rest[:2]) + rest[2:] if rest else b"%"
        except ValueError:
            data += b"%" + rest
    return data.decode("utf-8", "replace")


def host_and_port(address: str, default_port: int) -> tuple[str, int]:
    """The host, ``localhost`` where there is none, and the port of an address such as ``host:6379`` or ``[::1]``.

    Raises:
        ValueError: What stands after the last colon is no number.
    """
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = address, ""
    if port and not port.isdecimal():
        raise ValueError("no port number after the last colon")  # not shown: it may be a secret
    return host or "localhost", int(port or default_port)


def seconds(value: object) -> float:
    """A timeout given as a number or in a URL.

    Raises:
        ConfigurationError: It is not a positive, finite number.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number < 1e6 or isinstance(value, bool):
        raise ConfigurationError(f"timeout must be a number of seconds above 0, not {value!r}")
    return number


def flag_of(name: str, value: object) -> bool:
    """A truth value given in code or in a URL.

    Raises:
        ConfigurationError: It is neither true nor false.
    """
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1", "yes"):
        return True
    if str(value).lower() in ("false", "0", "no"):
        return False
    raise ConfigurationError(f"{name} must be true or false, not {value!r}")


def unknown(what: str, name: str, known: Iterable[str]) -> ConfigurationError:
    """The error for a name that nobody knows, with the nearest one that is known."""
    import difflib

    name = name.rpartition("@")[2]  # before an @ there may be a password
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, 1, 0.6)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names) or 'none'}"
    return ConfigurationError(f"unknown {what} {name!r}; {hint}")
