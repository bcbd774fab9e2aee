"""Signature Version 4, by which AWS knows who asks, as far as DynamoDB needs it: for a POST to the path ``/``.

The HMAC is made here of SHA-256 alone. The public modules ``hmac`` and ``hashlib`` cost half as much as a bare
interpreter to import (0.48 of its instructions), the hash in C that `twins` picks 0.02.
"""

from __future__ import annotations

from ..twins import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ALGORITHM = "AWS4-HMAC-SHA256"
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))

_NO_KEY = (None, (b"", b""))
# Of the process, not of a reader: the key is the same for all of them, and making it is half of the signing.
_last_key: tuple[tuple[str, tuple[str, ...]] | None, tuple[bytes, bytes]] = _NO_KEY


def authorization(
    headers: Mapping[str, str], body: bytes, *, key_id: str, secret: str, region: str, service: str
) -> str:
    """The header ``Authorization`` of a request that has these headers, ``Host`` and ``X-Amz-Date`` among them.

    All of them are signed, so nothing on the way may change them.
    """
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    ordered = sorted(signed)
    names = ";".join(ordered)
    lines = [f"{name}:{signed[name]}" for name in ordered]
    request = "\n".join(("POST", "/", "", *lines, "", names, sha256(body).hex()))
    moment = signed["x-amz-date"]
    scope = (moment[:8], region, service, "aws4_request")
    to_sign = "\n".join((_ALGORITHM, moment, "/".join(scope), sha256(request.encode()).hex()))
    outer, inner = _key(secret, scope)
    signature = sha256(outer + sha256(inner + to_sign.encode())).hex()
    return f"{_ALGORITHM} Credential={key_id}/{'/'.join(scope)}, SignedHeaders={names}, Signature={signature}"


def _key(secret: str, scope: tuple[str, ...]) -> tuple[bytes, bytes]:
    """The key to sign with, as `hmac` mixes it into its two hashes; the same for a day."""
    global _last_key
    asked = (secret, scope)
    last, mixed = _last_key
    if last != asked:
        key = f"AWS4{secret}".encode()
        for part in scope:
            key = hmac(key, part.encode())
        mixed = _mixed(key)
        _last_key = (asked, mixed)  # at once, because threads share it
    return mixed


def forget() -> None:
    """Forgets the key to sign with, and the secret that it was made of."""
    global _last_key
    _last_key = _NO_KEY


def hmac(key: bytes, message: bytes) -> bytes:
    """The HMAC-SHA256 of a message (RFC 2104)."""
    outer, inner = _mixed(key)
    return sha256(outer + sha256(inner + message))


def _mixed(key: bytes) -> tuple[bytes, bytes]:
    if len(key) > _BLOCK:
        key = sha256(key)
    key = key.ljust(_BLOCK, b"\0")
    return key.translate(_OUTER), key.translate(_INNER)
