"""HTTP of ldreader's own clients: what is said, what is understood, and what is taken for nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import pytest

from ldreader.testing import ODD_KEYS
from ldreader.wire.connection import LINE_LIMIT, REPLY_LIMIT, MalformedReply
from ldreader.wire.http import HEADERS_LIMIT, Http, escaped
from tests.redis_fixtures import answering_port

PATIENCE = 10.0

Response = tuple[int, dict[str, str], bytes]


class Scripted:
    """A server that answers each question with the next of the replies, the last one again and again."""

    def __init__(self, *replies: bytes, hangs_up: bool = False, piece: int = 65536) -> None:
        self.asked: list[bytes] = []
        self.peers: set[Any] = set()
        self._replies = list(replies)
        self._hangs_up = hangs_up
        self._piece = piece

    def __call__(self, connection: socket.socket, asked: bytes, over: threading.Event) -> None:
        self.asked.append(asked)
        self.peers.add(connection.getpeername())
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        for start in range(0, len(reply), self._piece):
            connection.sendall(reply[start : start + self._piece])
        if self._hangs_up:
            connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def client(self, **options: Any) -> Iterator[Http]:
        """A client of this server."""
        with answering_port(self) as port:
            http = Http("127.0.0.1", port, timeout=PATIENCE, **options)
            yield http
            http.close()


def get(http: Http) -> Response:
    return http.exchange("GET", "/", {})


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SAYS_OK = (200, {"content-length": "2"}, b"ok")


class TestWhatIsSaid:
    def test_a_question_without_a_body(self) -> None:
        server = Scripted(OK)
        with server.client() as http:
            http.exchange("GET", "/v1/kv/a?raw=true", {"X-Consul-Token": "t"})
            host = http.host
        assert server.asked == [f"GET /v1/kv/a?raw=true HTTP/1.1\r\nHost: {host}\r\nX-Consul-Token: t\r\n\r\n".encode()]

    @pytest.mark.parametrize("body", [b"", b"[]", b"\xff\r\n"])
    def test_a_question_with_a_body_is_one_write(self, body: bytes) -> None:
        server = Scripted(OK)
        with server.client() as http:
            http.exchange("PUT", "/v1/txn", {}, body)
            host = http.host
        head = f"PUT /v1/txn HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        assert server.asked == [head.encode() + body]

    @pytest.mark.parametrize(
        ("host", "port", "default", "said"),
        [
            ("localhost", 8500, 80, "localhost:8500"),
            ("localhost", 80, 80, "localhost"),
            ("localhost", 443, 80, "localhost:443"),
            ("::1", 443, 443, "[::1]"),
            ("::1", 8500, 443, "[::1]:8500"),
        ],
    )
    def test_the_host_is_named_with_its_port_unless_that_is_the_default(
        self, host: str, port: int, default: int, said: str
    ) -> None:
        assert Http(host, port, timeout=PATIENCE, default_port=default).host == said

    @pytest.mark.parametrize(
        "text", [*ODD_KEYS, "", "..", "a/./b", "a,b", "~-._", "+&=?#%", "\x00\x7f\r\n", "\U0001f600"]
    )
    def test_all_but_plain_characters_is_escaped(self, text: str) -> None:
        assert escaped(text) == quote(text, safe="/~")
        assert unquote(escaped(text)) == text
        assert escaped(text).isascii()


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

UNDERSTOOD: dict[str, tuple[bytes, int, bytes]] = {
    "length": (OK, 200, b"ok"),
    "nothing": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b""),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "blank reason": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "no blank in a header": (b"HTTP/1.1 200 OK\r\ncontent-LENGTH:2\r\n\r\nok", 200, b"ok"),
    "line ends in the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n", 200, b"\r\n" * 4),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK, 200, b"ok"),
    "chunks": (CHUNKS + b"2\r\nok\r\n3\r\n \r\n\r\n0\r\n\r\n", 200, b"ok \r\n"),
    "no chunks": (CHUNKS + b"0\r\n\r\n", 200, b""),
    "chunks with all that there may be": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: A\r\n\r\n"
        b'00a;name="value"\r\n0123456789\r\nB \r\nabcdefghijk\r\n000\r\nA: b\r\nC: d\r\n\r\n',
        200,
        b"0123456789abcdefghijk",
    ),
    "chunks in spite of a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        b"ok",
    ),
    "old, kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
}

ENDS = {
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "close among others": b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
    "close on its own": b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\nContent-Length:2\r\n\r\nok",
}


class TestWhatIsUnderstood:
    @pytest.mark.parametrize("kind", UNDERSTOOD)
    @pytest.mark.parametrize("piece", [1, 65536], ids=["byte by byte", "at once"])
    def test_a_response_and_the_next_on_the_same_connection(self, kind: str, piece: int) -> None:
        reply, status, body = UNDERSTOOD[kind]
        server = Scripted(reply, OK, piece=piece)
        with server.client() as http:
            found = get(http)
            assert (found[0], found[2]) == (status, body)
            assert get(http) == SAYS_OK
        assert len(server.peers) == 1

    @pytest.mark.parametrize("kind", ENDS)
    def test_after_a_response_that_is_the_last_another_connection_is_opened(self, kind: str) -> None:
        server = Scripted(ENDS[kind], OK)
        with server.client() as http:
            assert get(http)[2] == b"ok"
            assert get(http) == SAYS_OK
        assert len(server.peers) == 2

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_a_body_without_a_length_ends_with_the_connection(self, version: str) -> None:
        server = Scripted(f"HTTP/{version} 200 OK\r\n\r\n".encode() + b"ok" * 100_000, hangs_up=True)
        with server.client() as http:
            for _ in range(2):
                assert get(http)[2] == b"ok" * 100_000
        assert len(server.peers) == 2

    def test_headers_have_lower_case_names_and_those_that_repeat_are_joined(self) -> None:
        reply = b"HTTP/1.1 200 OK\r\nX-Consul-Index:  7 \r\nVARY: a\r\nVary: b\r\nBlank:\r\nContent-Length: 0\r\n\r\n"
        with Scripted(reply).client() as http:
            assert get(http)[1] == {"x-consul-index": "7", "vary": "a, b", "blank": "", "content-length": "0"}

    def test_a_large_body_in_chunks_comes_whole(self) -> None:
        body = bytes(range(256)) * 8000
        pieces = [body[start : start + 30_000] for start in range(0, len(body), 30_000)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        with Scripted(CHUNKS + chunks + b"0\r\n\r\n").client() as http:
            assert get(http)[2] == body

    def test_a_head_may_be_long(self) -> None:
        lines = b"".join(b"H-%d: v\r\n" % index for index in range(HEADERS_LIMIT - 3))
        reply = b"HTTP/1.1 200 OK\r\nLong: %b\r\n%bContent-Length: 2\r\n\r\nok" % (b"x" * (LINE_LIMIT - 100), lines)
        with Scripted(reply).client() as http:
            assert get(http)[2] == b"ok"


HEAD = b"HTTP/1.1 200 OK\r\n"

NONSENSE = {
    "another protocol": b"-ERR unknown command\r\n",
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a blank line first": b"\r\n" + OK,
    "no status": b"HTTP/1.1\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 OK 200\r\n\r\n",
    "a status too short": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status too long": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "a status too low": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "a signed status": b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
    "a header without a colon": HEAD + b"Content-Length\r\n\r\n",
    "a header on two lines": HEAD + b"Content-Length: 1\r\n 0\r\n\r\n0123456789",
    "a blank before a colon": HEAD + b"Content-Length : 2\r\n\r\nok",
    "too many headers": HEAD + b"A: b\r\n" * (HEADERS_LIMIT + 1) + b"\r\n",
    "too many interim responses": b"HTTP/1.1 100 Continue\r\n\r\n" * (HEADERS_LIMIT + 1),
    "an endless line": HEAD + b"A: " + b"x" * 2 * LINE_LIMIT,
    "an endless status": b"HTTP/1.1 200 " + b"x" * 2 * LINE_LIMIT,
    "a length that is no number": HEAD + b"Content-Length: two\r\n\r\nok",
    "a length below nothing": HEAD + b"Content-Length: -2\r\n\r\nok",
    "a blank length": HEAD + b"Content-Length:\r\n\r\nok",
    "a length in other digits": HEAD + "Content-Length: \u00b2\r\n\r\nok".encode("latin-1"),
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok.",
    "a length that no reply has": HEAD + b"Content-Length: %d\r\n\r\n" % (REPLY_LIMIT + 1),
    "a length that no number has": HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "another coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "another coding in a line of its own": HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a chunk without a size": CHUNKS + b"\r\nok\r\n",
    "a chunk whose size is no number": CHUNKS + b"ok\r\nok\r\n",
    "a chunk below nothing": CHUNKS + b"-2\r\nok\r\n",
    "a chunk whose size is as in a program": CHUNKS + b"0x2\r\nok\r\n0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKS + b"1\r\nok\r\n0\r\n\r\n",
    "a chunk that is as long as no reply": CHUNKS + b"f" * 5000 + b"\r\n",
}


class TestNonsense:
    @pytest.mark.parametrize("kind", NONSENSE)
    @pytest.mark.parametrize("hangs_up", [False, True], ids=["", "then hangs up"])
    def test_a_response(self, kind: str, hangs_up: bool) -> None:
        server = Scripted(NONSENSE[kind], hangs_up=hangs_up)
        with server.client() as http, pytest.raises(MalformedReply) as caught:
            get(http)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 100
        assert len(server.asked) == 1

    def test_is_not_mixed_up_with_the_next_response(self) -> None:
        server = Scripted(CHUNKS + b"1\r\nok\r\n", OK)
        with server.client() as http:
            with pytest.raises(MalformedReply):
                get(http)
            assert get(http) == SAYS_OK

    @pytest.mark.parametrize("reply", [OK, CHUNKS + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
    def test_a_response_that_is_cut_anywhere_is_none(self, reply: bytes) -> None:
        for cut in range(len(reply)):
            with Scripted(reply[:cut], hangs_up=True).client() as http, pytest.raises(OSError, match="closed"):
                get(http)

    def test_what_comes_after_a_response_is_not_taken_for_the_next(self) -> None:
        server = Scripted(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", OK)
        with server.client() as http:
            assert get(http) == SAYS_OK
            assert get(http) == SAYS_OK
        assert len(server.peers) == 2
