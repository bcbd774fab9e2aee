"""What an evaluation needs of ``socket``, ``json`` and ``hashlib``, at the price of their halves in C.

The public modules spend nearly all of their import on what no evaluation calls: in instructions, a bare interpreter
being 1, ``socket`` costs 0.95, ``json`` 0.87 and ``hashlib`` 0.33; ``_socket``, ``_json`` and ``_sha1`` next to nothing.
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

_BLANK = " \t\n\r"

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
    if "hashlib" not in sys.modules:
        try:
            from _sha1 import sha1 as digest

            hexadecimal: str = digest(data).hexdigest()
            return hexadecimal
        except ImportError:
            pass
    import hashlib

    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> bytes:
    """The SHA-256 of the data."""
    if "hashlib" not in sys.modules:
        try:
            try:
                from _sha2 import sha256 as digest
            except ImportError:  # before Python 3.12
                from _sha256 import sha256 as digest
            binary: bytes = digest(data).digest()
            return binary
        except ImportError:
            pass
    import hashlib

    return hashlib.sha256(data).digest()


def json_loads(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON, though Python may take it for JSON, such as NaN.
        RecursionError: It is nested too deeply.
        TypeError: It is no text.
    """
    scan = _scan or _scanner()
    decoded = text
    if type(decoded) is bytes and b"\0" not in decoded[:4]:
        decoded = decoded.decode("utf-8", "surrogatepass")
    if type(decoded) is str and decoded[:1] != "\ufeff":
        start = 0 if decoded[:1] == "{" else len(decoded) - len(decoded.lstrip(_BLANK))
        try:
            value, end = scan(decoded, start)
            if end == len(decoded) or not decoded[end:].strip(_BLANK):
                return value
        except (StopIteration, ValueError):
            pass
    # What is wrong, or written in another encoding, is for the public module to say.
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
        except (ImportError, ValueError, TypeError):
            _encode = None  # its note of what it is inside of is not cleared by an error
    import json

    return json.dumps(value, allow_nan=False)


class _Decoding:
    """What the scanner in C asks a decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        _no_constant(name)


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    global _scan
    if "json" not in sys.modules:
        try:
            from _json import make_scanner

            _scan = make_scanner(_Decoding())  # type: ignore[arg-type]
            return _scan
        except ImportError:
            pass
    import json

    _scan = json.JSONDecoder(parse_constant=_no_constant).scan_once  # type: ignore[attr-defined]
    return _scan


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _no_text(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} has no JSON text")
