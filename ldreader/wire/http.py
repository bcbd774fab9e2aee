"""HTTP/1.1 with kept connections, as far as reading from Consul and DynamoDB needs it (RFC 9112)."""

from __future__ import annotations

from .connection import Endpoint, MalformedReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .connection import Connection

HEADERS_LIMIT = 200
"""Lines that the head of a response may have, its interim responses included."""

_HEXADECIMAL = b"0123456789abcdefABCDEF"
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/"


class Http:
    """One server's HTTP, as `Endpoint` keeps its connections."""

    def __init__(
        self, host: str, port: int, *, timeout: float, secure: Callable[[], Any] | None = None, default_port: int = 0
    ) -> None:
        self._endpoint = Endpoint((host, port), timeout=timeout, secure=secure)
        name = f"[{host}]" if ":" in host else host
        self.host = name if port == default_port else f"{name}:{port}"
        """What the header ``Host`` says."""

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, the headers by their names in lower case, and the body of the response.

        The target is escaped already, and the headers hold no line break.

        Raises:
            OSError: There was no response, or none in time.
            MalformedReply: The response is no HTTP.
        """
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        # In one write with the body, so that it is one packet where it fits.
        question = "\r\n".join((*lines, "\r\n")).encode() + (body or b"")

        def talk(connection: Connection) -> tuple[int, dict[str, str], bytes]:
            connection.send(question)
            return _response(connection)

        return self._endpoint.ask(talk, deadline)

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._endpoint.close()


def escaped(text: str) -> str:
    """The text as it stands in the path or the query of a URL: all is escaped but letters, digits and ``-._~/``."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


def split_url(url: str) -> tuple[bool, str, int, str]:
    """Whether it asks for TLS, the host, the port and the target of an ``http://`` or ``https://`` URL.

    Raises:
        ValueError: It is none, or it has a user or a character that must be escaped. The message does not show it.
    """
    scheme, _, rest = url.partition("://")
    secure = scheme.lower() == "https"
    address, _, path = rest.partition("/")
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = address, ""
    bare = host[1:-1] if host[:1] + host[-1:] == "[]" else host
    allowed = ".-_" if bare == host else ":"
    number = int(port) if port.isdigit() else (443 if secure else 80)
    if (
        not (secure or scheme.lower() == "http")
        or not (url.isascii() and url.isprintable())
        or " " in url
        or "#" in url
        or not all(letter.isalnum() or letter in allowed for letter in bare or "?")
        or (port and not port.isdigit())
        or number > 65535
    ):
        raise ValueError("no plain http:// or https:// URL")
    return secure, bare, number, f"/{path}"


def _response(connection: Connection) -> tuple[int, dict[str, str], bytes]:
    left = HEADERS_LIMIT
    status = 100
    while status < 200:  # the interim ones only say that the real one is to come
        version, _, rest = connection.line().partition(b" ")
        code = rest.partition(b" ")[0]
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(code) != 3 or not code.isdigit() or code < b"100":
            raise MalformedReply("no HTTP response")
        status = int(code)
        fields = connection.lines(left - 1)
        left -= 1 + len(fields)
        headers: dict[str, str] = {}
        for line in fields:
            field, colon, content = line.partition(":")
            if not colon or field != field.strip():
                raise MalformedReply("no HTTP headers")
            name, value = field.lower(), content.strip()
            # Two lengths that contradict each other make none.
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    tokens = headers.get("connection", "").lower()
    if "close" in tokens or (version == b"HTTP/1.0" and "keep-alive" not in tokens):
        connection.reusable = False
    return status, headers, _body(connection, status, headers)


def _body(connection: Connection, status: int, headers: dict[str, str]) -> bytes:
    if status in (204, 304):
        return b""
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise MalformedReply(f"a transfer coding {coding!r:.40}")
        return _chunks(connection)
    length = headers.get("content-length")
    if length is None:
        return connection.rest_of_all()
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise MalformedReply("a content length that is no number")
    return connection.exactly(int(length))


def _chunks(connection: Connection) -> bytes:
    pieces = []
    while True:
        digits = connection.line().partition(b";")[0].strip()
        if not digits or digits.strip(_HEXADECIMAL):
            raise MalformedReply("a chunk whose size is no number")
        size = int(digits, 16)
        if size == 0:
            break
        pieces.append(connection.text(size))
    while connection.line():
        pass  # trailers
    return b"".join(pieces)
