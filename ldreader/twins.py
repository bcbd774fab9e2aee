"""What an evaluation needs of ``socket``, ``json`` and ``hashlib``, at the price of their halves in C.

The public modules spend nearly all of their import on what no evaluation calls: in instructions, a bare interpreter
being 1, ``socket`` costs 0.95, ``json`` 0.87 and ``hashlib`` 0.33; ``_socket``, ``_json`` and ``_sha1`` hardly any.
A public module that is loaded already is used, so a process that patched it keeps its patches; one without the half
in C gets the public one, which gives the same results.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, NoReturn

# What was picked when first needed.
_sha1: Callable[[bytes], Any] | None = None
_sha256: Callable[[bytes], Any] | None = None
_scan: Callable[[str, int], tuple[Any, int]] | None = None
_encode: Callable[[Any, int], tuple[str, ...]] | None = None


def sockets() -> ModuleType:
    """The module to make sockets with, ``socket`` or ``_socket``: what both have is ``socket`` and ``getaddrinfo``."""
    if "socket" not in sys.modules:
        try:
            import _socket

            return _socket
        except ImportError:
            pass
    import socket

    return socket


def sha1(data: bytes) -> str:
    """The SHA-1 of the data, in hexadecimal."""
    digest: str = (_sha1 or _sha1_digest())(data).hexdigest()
    return digest


def sha256(data: bytes) -> bytes:
    """The SHA-256 of the data."""
    digest: bytes = (_sha256 or _sha256_digest())(data).digest()
    return digest


def json_loads(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON, though Python may take it for JSON, such as NaN.
        RecursionError: It is nested too deeply.
        TypeError: It is no text.
    """
    try:
        decoded: Any = text.decode() if type(text) is bytes else text
        value, end = (_scan or _scanner())(decoded, 0)
        if end == len(decoded) or not decoded[end:].strip(" \t\n\r"):
            return value
    except (StopIteration, ValueError, TypeError, SystemError):
        pass  # the last: some releases take the error's class from the public module, and fail while it is not loaded
    # What is wrong, begins with blanks or is written in another encoding is for the public module.
    import json

    return json.loads(text, parse_constant=_no_constant)


def json_dumps(value: Any) -> str:
    """The JSON text of a value.

    Raises:
        ValueError: It holds a number that JSON has no text for, or itself.
        TypeError: It holds something that JSON has no text for.
    """
    global _encode
    if "json" not in sys.modules:
        try:
            if _encode is None:
                from _json import encode_basestring_ascii, make_encoder

                # The same arguments that the public module gives it.
                _encode = make_encoder({}, _no_text, encode_basestring_ascii, None, ": ", ", ", False, False, False)
            return "".join(_encode(value, 0))
        except (ImportError, AttributeError, ValueError, TypeError):
            _encode = None  # its note of what it is inside of is not cleared by an error
    import json

    text = json.dumps(value)  # with another argument than the usual ones it would make an encoder each time
    return json.dumps(value, allow_nan=False) if "NaN" in text or "Infinity" in text else text


class _Decoding:
    """What the scanner in C asks a decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None  # newer releases ask for it
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        _no_constant(name)


def _sha1_digest() -> Callable[[bytes], Any]:
    global _sha1
    if "hashlib" not in sys.modules:
        try:
            from _sha1 import sha1

            _sha1 = sha1
            return sha1  # type: ignore[no-any-return]
        except ImportError:
            pass
    import hashlib

    def for_buckets(data: bytes) -> Any:
        return hashlib.sha1(data, usedforsecurity=False)

    _sha1 = for_buckets
    return for_buckets


def _sha256_digest() -> Callable[[bytes], Any]:
    global _sha256
    if "hashlib" not in sys.modules:
        try:
            if sys.version_info >= (3, 12):
                from _sha2 import sha256
            else:
                from _sha256 import sha256

            _sha256 = sha256
            return sha256  # type: ignore[no-any-return]
        except ImportError:
            pass
    from hashlib import sha256 as public

    _sha256 = public
    return public


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    global _scan
    if "json" not in sys.modules:
        try:
            from _json import make_scanner

            _scan = make_scanner(_Decoding())  # type: ignore[arg-type]
            return _scan
        except (ImportError, AttributeError, TypeError):  # a release that asks for something else
            pass
    import json

    _scan = json.JSONDecoder(parse_constant=_no_constant).scan_once  # type: ignore[attr-defined]
    return _scan


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _no_text(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} has no JSON text")
