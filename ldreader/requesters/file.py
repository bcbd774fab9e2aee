"""Flags in files of LaunchDarkly's file format: ``flags``, ``flagValues``, ``segments``; JSON or YAML.

The files are read anew for each look-up, so a change shows in the next request; meant for development, tests and
one-shot evaluations rather than for load.
"""

from __future__ import annotations

from ..errors import ConfigurationError, StoreError
from ..schema import FEATURES, SEGMENTS, dumps, loads
from . import client_package, seconds, split_query, unknown, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from typing import Any

    from ..schema import ItemRef


class FileRequester:
    """Flags and segments from one or more files; a key may stand in only one of them.

    A file named ``.yaml`` or ``.yml`` is YAML (extra ``yaml``), any other is JSON.
    """

    def __init__(self, *paths: str | PathLike[str]) -> None:
        if not paths:
            raise ConfigurationError("name at least one file of flags")
        import os

        self._paths = tuple(os.fsdecode(path) for path in paths)
        for path in self._paths:
            if _is_yaml(path):
                client_package("yaml", extra="yaml")

    @classmethod
    def from_url(cls, url: str, **options: Any) -> FileRequester:
        """The requester for ``file:PATH`` or ``file:///absolute/PATH``. Reads nothing yet.

        Raises:
            ConfigurationError: The URL names no path, or a host, or an option.
        """
        base, in_url = split_query(url[len("file:") :])
        url_timeout, timeout = in_url.pop("timeout", None), options.pop("timeout", None)
        timeout = url_timeout if timeout is None else timeout
        if timeout is not None:
            seconds(timeout)  # every store takes it; here nothing is waited for
        for name in (*in_url, *options):
            raise unknown("option for a file of flags", name, ("timeout",))
        if base.startswith("//"):
            host, slash, path = base[2:].partition("/")
            if host not in ("", "localhost"):
                raise ConfigurationError(f"{url!r} names a host; write file:PATH or file:///absolute/PATH")
            base = slash + unquote(path)
        if not base:
            raise ConfigurationError(f"{url!r} names no file; write file:PATH")
        return cls(base)

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, str]:
        """The items that exist.

        Raises:
            StoreError: A file cannot be read or is not in the format.
        """
        collections = self._read()
        return {(kind, key): dumps(collections[kind][key]) for kind, key in refs if key in collections[kind]}

    def get_all(self) -> dict[str, dict[str, str]]:
        """Everything in the files.

        Raises:
            StoreError: A file cannot be read or is not in the format.
        """
        return {
            kind: {key: dumps(item) for key, item in collection.items()} for kind, collection in self._read().items()
        }

    def close(self) -> None:
        """Does nothing: no file is kept open."""

    def _read(self) -> dict[str, dict[str, Any]]:
        collections: dict[str, dict[str, Any]] = {FEATURES: {}, SEGMENTS: {}}
        origins: dict[ItemRef, str] = {}
        for path in self._paths:
            content = _content(path)
            for section, kind in (("flags", FEATURES), ("flagValues", FEATURES), ("segments", SEGMENTS)):
                for key, item in _section(path, content, section).items():
                    if (kind, key) in origins:
                        raise StoreError(
                            f"{path}: {section}.{key} is defined twice, first in {origins[kind, key]}; remove one"
                        )
                    origins[kind, key] = f"{path} ({section})"
                    collections[kind][key] = _flag_of_value(key, item) if section == "flagValues" else _whole(key, item)
        return collections


def _is_yaml(path: str) -> bool:
    return path.lower().endswith((".yaml", ".yml"))


def _content(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"cannot read the flag file {path}: {reason}; check the path") from error
    if _is_yaml(path):
        from .yaml import load

        content = load(path, data)
    else:
        content = _json(path, data)
    if not isinstance(content, dict):
        raise StoreError(f"{path}: must hold an object with 'flags', 'flagValues' or 'segments'")
    return content


def _json(path: str, data: bytes) -> Any:
    try:
        return loads(data)
    except (ValueError, RecursionError) as error:
        where = getattr(error, "lineno", None), getattr(error, "colno", None)
        place = f"line {where[0]}, column {where[1]}: {getattr(error, 'msg', '')}" if where[0] else f"{error}"
        hint = "" if data.lstrip()[:1] in (b"{", b"\xef") else "; a YAML file must be named .yaml or .yml"
        raise StoreError(f"{path}: not JSON: {place}{hint}") from error


def _section(path: str, content: dict[str, Any], section: str) -> dict[str, Any]:
    members = content.get(section)
    if members is None:
        return {}
    if isinstance(members, dict):
        return members
    raise StoreError(f"{path}: {section} must be an object of items by key")


def _whole(key: str, item: Any) -> Any:
    # Hand-written items are short; what a store's writer would have put is filled in.
    return {"key": key, "version": 1, **item} if isinstance(item, dict) else item


def _flag_of_value(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "version": 1, "on": True, "variations": [value], "fallthrough": {"variation": 0}}
