"""Redis over ldreader's own client: what it says, what it understands, and what it makes of all the rest."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ldreader import FlagReader, RedisRequester, StoreError
from ldreader.requesters import open_requester
from ldreader.wire.connection import MalformedReply
from ldreader.wire.resp import NoAdmission, Refusal, Resp
from tests.redis_fixtures import Certificates, answering_port, full_port, silent_port
from tests.servers import RedisServer, free_port

BOUND = 0.4
MARGIN = 0.3
ONE = [("features", "a")]
SECRET = "s3same"
USER = {"kind": "user", "key": "ada"}


def command(*words: str) -> bytes:
    """A command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)


class Scripted:
    """A server that says the next of its replies for each question, and then nothing more."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)
        self.asked: list[bytes] = []
        self.peers: set[Any] = set()

    def __call__(self, connection: socket.socket, asked: bytes, over: threading.Event) -> None:
        self.peers.add(connection.getpeername())
        self.asked.append(asked)
        if self.replies:
            connection.sendall(self.replies.pop(0))


@contextmanager
def scripted(*replies: bytes, **options: Any) -> Iterator[tuple[RedisRequester, Scripted]]:
    """A requester that reads from a server with these replies."""
    server = Scripted(*replies)
    with answering_port(server) as port:
        requester = RedisRequester.from_url(f"redis://127.0.0.1:{port}?prefix=p&client=wire", **options)
        yield requester, server
        requester.close()


def failure(read: Callable[[], object]) -> StoreError:
    """The error of a read, which is one line."""
    with pytest.raises(StoreError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return caught.value


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("options", "greeting"),
        [
            ({}, b""),
            ({"password": "p\r\nß"}, command("AUTH", "p\r\nß")),
            ({"username": "me", "password": "word"}, command("AUTH", "me", "word")),
            ({"username": "me"}, command("AUTH", "me", "")),
            ({"db": 3}, command("SELECT", "3")),
            ({"password": "word", "db": "3"}, command("AUTH", "word") + command("SELECT", "3")),
            ({"db": 0}, b""),
        ],
    )
    def test_a_new_connection_says_who_it_is_and_what_it_wants_in_one_write(
        self, options: dict[str, Any], greeting: bytes
    ) -> None:
        with scripted(b"+OK\r\n" * greeting.count(b"*") + b"$-1\r\n", b"$-1\r\n", **options) as (requester, server):
            requester.get_many(ONE)
            requester.get_many(ONE)
            asks = command("HGET", "p:features", "a")
            assert server.asked == [greeting + asks, asks]
            assert len(server.peers) == 1

    def test_a_blank_database_in_the_url_is_as_if_it_was_not_there(self) -> None:
        server = Scripted(b"+OK\r\n$-1\r\n")
        with answering_port(server) as port:
            requester = open_requester(f"redis://127.0.0.1:{port}/3?db=&prefix=p&client=wire")
            requester.get_many(ONE)
            requester.close()
        assert server.asked == [command("SELECT", "3") + command("HGET", "p:features", "a")]

    def test_everything_is_asked_for_in_one_write(self) -> None:
        with scripted(b"*0\r\n*0\r\n") as (requester, server):
            assert requester.get_all() == {"features": {}, "segments": {}}
            assert server.asked == [command("HGETALL", "p:features") + command("HGETALL", "p:segments")]

    def test_nothing_is_asked_for_without_a_word(self) -> None:
        requester = RedisRequester.from_url(f"redis://127.0.0.1:{free_port()}?client=wire")
        assert requester.get_many([]) == {}

    def test_a_key_that_is_no_utf8_is_asked_for_as_it_was_given(self, redis_server: RedisServer) -> None:
        requester = RedisRequester.from_url(f"{redis_server.url}?client=wire", prefix="test-odd")
        with socket.create_connection(("127.0.0.1", redis_server.port)) as plain:
            plain.sendall(b"*4\r\n$4\r\nHSET\r\n$17\r\ntest-odd:features\r\n$1\r\n\xff\r\n$2\r\n{}\r\n")
            assert plain.recv(100).startswith(b":")
        (key,) = requester.get_all()["features"]
        assert requester.get_many([("features", key)]) == {("features", key): b"{}"}
        requester.close()


class TestWhatIsUnderstood:
    @pytest.mark.parametrize(
        ("reply", "meaning"),
        [
            (b"$-1\r\n", None),
            (b"$0\r\n\r\n", b""),
            (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
            (b"*-1\r\n", None),
            (b"*0\r\n", []),
            (b"*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", [b"a", None, 7]),
            (b"*2\r\n*1\r\n$1\r\na\r\n*0\r\n", [[b"a"], []]),
            (b":-7\r\n", -7),
            (b"+OK\r\n", "OK"),
        ],
    )
    def test_a_reply(self, reply: bytes, meaning: Any) -> None:
        with answering_port(Scripted(reply)) as port:
            redis = Resp(("127.0.0.1", port), timeout=BOUND)
            assert redis.read([("ANY",)]) == [meaning]
            redis.close()

    def test_a_refusal_is_in_its_place(self) -> None:
        with answering_port(Scripted(b"$1\r\na\r\n-WRONGTYPE of \xff\r\n$1\r\nb\r\n")) as port:
            redis = Resp(("127.0.0.1", port), timeout=BOUND)
            first, refusal, last = redis.read([("ANY",)] * 3)
            assert (first, last) == (b"a", b"b")
            assert isinstance(refusal, Refusal)
            assert str(refusal) == "WRONGTYPE of \N{REPLACEMENT CHARACTER}"
            redis.close()

    def test_a_refusal_of_the_greeting_ends_the_conversation(self) -> None:
        with answering_port(Scripted(b"-WRONGPASS no\r\n-NOAUTH no\r\n-NOAUTH no\r\n")) as port:
            redis = Resp(("127.0.0.1", port), timeout=BOUND, user="me", password="word", database=1)
            with pytest.raises(NoAdmission, match="WRONGPASS no") as caught:
                redis.read([("ANY",)])
            assert caught.value.command == "AUTH"
            assert redis._endpoint._idle == []


NONSENSE = {
    "of HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "of no known kind": b"?1\r\n",
    "that is an empty line": b"\r\n",
    "of RESP3": b"_\r\n",
    "with a length that is no number": b"$x\r\n",
    "with no length": b"$\r\n",
    "with a length below zero": b"$-2\r\n\r\n",
    "with a length in Python's spelling": b"$1_0\r\n0123456789\r\n",
    "with a length after a blank": b"$ 1\r\na\r\n",
    "with a length of many digits": b"$" + b"9" * 5000 + b"\r\n",
    "with a length that is too much": b"$99999999999\r\n",
    "with a text that is longer than it says": b"$1\r\nabc\r\n",
    "with a count that is no number": b"*x\r\n",
    "with a number that is none": b":1x\r\n",
    "with arrays in arrays": b"*1\r\n" * 100,
    "with a line without an end": b"+" + b"x" * 100_000,
}


class TestNonsense:
    """A reply that makes no sense is a Redis that did not answer, and its connection is not used again."""

    @pytest.mark.parametrize("reply", NONSENSE.values(), ids=NONSENSE)
    def test_a_reply(self, reply: bytes) -> None:
        with scripted(reply, b"$2\r\n{}\r\n", timeout=10) as (requester, server):
            error = failure(lambda: requester.get_many(ONE))
            assert "Redis did not answer: its reply makes no sense" in str(error)
            assert isinstance(error.__cause__, MalformedReply)
            assert not error.answered
            assert requester.get_many(ONE) == {ONE[0]: b"{}"}
            assert len(server.peers) == 2

    @pytest.mark.parametrize("reply", [b":5\r\n", b"+OK\r\n", b"*0\r\n", b"*1\r\n$1\r\na\r\n"])
    def test_a_reply_that_no_item_is(self, reply: bytes) -> None:
        with scripted(reply, b"$2\r\n{}\r\n", timeout=10) as (requester, server):
            assert "makes no sense, not what was asked for" in str(failure(lambda: requester.get_many(ONE)))
            # The next reply on that connection could be to another command.
            assert requester.get_many(ONE) == {ONE[0]: b"{}"}
            assert len(server.peers) == 2

    @pytest.mark.parametrize(
        "reply",
        [
            *(b"$2\r\n{}\r\n", b"$-1\r\n", b"*-1\r\n", b":0\r\n", b"+OK\r\n", b"*1\r\n$1\r\na\r\n"),
            *(b"*2\r\n$1\r\na\r\n$-1\r\n", b"*2\r\n$1\r\na\r\n:1\r\n", b"*2\r\n$1\r\na\r\n-ERR no\r\n"),
        ],
    )
    def test_a_reply_that_no_hash_is(self, reply: bytes) -> None:
        with scripted(reply + b"*0\r\n") as (requester, _):
            assert "makes no sense, not what was asked for" in str(failure(requester.get_all))

    @pytest.mark.parametrize("reply", [b"*1\r\n*0\r\n*0\r\n*0\r\n", b"$-1\r\n$-1\r\n*0\r\n", b":7\r\n*0\r\n*0\r\n"])
    def test_replies_that_no_big_segments_are(self, reply: bytes) -> None:
        with scripted(reply) as (requester, _):
            assert "makes no sense" in str(failure(lambda: requester.get_big_segments(["hash"])))

    def test_members_of_a_big_segment_may_be_odd_in_number(self) -> None:
        with scripted(b"$1\r\n7\r\n*1\r\n$4\r\nb.g1\r\n*0\r\n") as (requester, _):
            metadata, memberships = requester.get_big_segments(["hash"])
            assert (metadata.last_up_to_date, memberships) == (7, {"hash": {"b.g1": True}})

    @pytest.mark.parametrize("cut", [b"", b"$", b"$10\r\n", b"$10\r\nabc", b"$3\r\nabc\r"])
    def test_a_reply_that_is_cut_in_the_middle(self, cut: bytes) -> None:
        def cuts(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(cut)
            connection.shutdown(socket.SHUT_RDWR)

        with answering_port(cuts) as port:
            requester = open_requester(f"redis://127.0.0.1:{port}")
            error = failure(lambda: requester.get_many(ONE))
            assert "Redis did not answer: the server closed the connection" in str(error)

    def test_a_reply_that_stops_in_the_middle_costs_the_timeout(self) -> None:
        with scripted(b"$10\r\nabc", timeout=BOUND) as (requester, _):
            began = time.monotonic()
            assert "timed out" in str(failure(lambda: requester.get_many(ONE)))
            assert BOUND * 0.9 <= time.monotonic() - began <= BOUND + MARGIN


class TestWhatRedisRefuses:
    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("LOADING Redis is loading the dataset in memory", "Redis is loading the dataset in memory"),
            ("MASTERDOWN Link with MASTER is down", "Link with MASTER is down"),
            ("CLUSTERDOWN The cluster is down", "The cluster is down"),
        ],
    )
    def test_one_that_cannot_serve_now_does_not_answer(self, code: str, said: str) -> None:
        with scripted(f"-{code}\r\n$2\r\n{{}}\r\n".encode(), b"$-1\r\n") as (requester, server):
            error = failure(lambda: requester.get_many([*ONE, ("segments", "s")]))
            assert str(error).startswith(f"Redis did not answer: {said} (127.0.0.1:")
            assert not error.answered
            assert requester.get_many(ONE) == {}
            assert len(server.peers) == 1

    @pytest.mark.parametrize("code", ["MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381"])
    def test_a_node_of_a_cluster_is_an_error_that_says_which_url_to_use(self, code: str) -> None:
        with scripted(f"-{code}\r\n$2\r\n{{}}\r\n".encode()) as (requester, _):
            found = requester.get_many([*ONE, ("segments", "s")])
            assert found["segments", "s"] == b"{}"
            error = found["features", "a"]
            assert isinstance(error, StoreError)
            assert error.answered
            assert str(error).startswith(f"Redis refused to read: {code}; this is a node of a cluster")
            assert "redis+cluster://" in str(error)

    @pytest.mark.parametrize("greeting", ["", "me:word@"])
    @pytest.mark.parametrize("reason", ["max number of clients reached", "DENIED Redis is running in protected mode"])
    def test_one_that_says_why_it_hangs_up_is_quoted(self, greeting: str, reason: str) -> None:
        def hangs_up(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(b"-%b\r\n" % reason.encode())
            connection.shutdown(socket.SHUT_RDWR)

        with answering_port(hangs_up) as port:
            requester = open_requester(f"redis://{greeting}127.0.0.1:{port}")
            error = failure(lambda: requester.get_many([*ONE, ("segments", "s")]))
            assert str(error).startswith(f"Redis did not answer: {reason}")

    def test_a_server_that_quotes_the_password_is_not(self) -> None:
        with RedisServer("--rename-command", "AUTH", "LOGIN") as server:
            for options in ({"client": "wire"}, {"client": "redis-py", "protocol": 2}):
                requester = open_requester(f"redis://me:{SECRET}@127.0.0.1:{server.port}", **options)
                error = failure(requester.get_all)
                assert "unknown command" in str(error)
                assert SECRET not in "".join(traceback.format_exception(error))
                requester.close()

    def test_it_says_the_same_through_either_client(self, redis_server: RedisServer) -> None:
        redis_server.ask("ACL", "SETUSER", "some", "on", f">{SECRET}", "~test-same:*", "+hget", "+hgetall")
        redis_server.ask("SET", "test-same:segments", "no hash")
        host = f"127.0.0.1:{redis_server.port}"
        refs = [("features", "a"), ("segments", "s")]
        with RedisServer("--requirepass", SECRET) as locked:
            for url in (
                *(f"redis://some:{SECRET}@{host}?prefix=test-same", f"redis://some:{SECRET}@{host}?prefix=other"),
                *(f"redis://some:wr0ng@{host}", f"redis://nobody:{SECRET}@{host}", f"redis://:wr0ng@{host}"),
                *(f"redis://some:{SECRET}@{host}/1", f"redis://{host}/99"),
                *(f"redis://127.0.0.1:{locked.port}", f"redis://:wr0ng@127.0.0.1:{locked.port}"),
            ):
                outcomes = []
                # In the same protocol: in RESP3 the package gives a password to a server that asks for none.
                for options in ({"client": "wire"}, {"client": "redis-py", "protocol": 2}):
                    requester = open_requester(url, **options)
                    try:
                        found = requester.get_many(refs)
                        outcomes.append([(str(error), getattr(error, "answered", None)) for error in found.values()])
                    except StoreError as error:
                        outcomes.append([(str(error), error.answered)])
                    requester.close()
                assert outcomes[0] == outcomes[1], url
                assert outcomes[0], url
                assert not any(secret in str(outcomes) for secret in (SECRET, "wr0ng")), url


class TestARedisThatIsNotThere:
    def test_the_message_says_where_it_was_looked_for_and_what_to_do(self, tmp_path: Path) -> None:
        port = free_port()
        for url, said in (
            (f"redis://:{SECRET}@127.0.0.1:{port}", f"Connection refused (127.0.0.1:{port})"),
            (f"unix://:{SECRET}@{tmp_path}/redis.sock", f"No such file or directory ({tmp_path}/redis.sock)"),
            (f"unix:///{'x' * 200}", "AF_UNIX path too long (/xxx"),
            ("redis://nowhere.invalid", "(nowhere.invalid:6379)"),
            (f"redis://{'a' * 70}ö.invalid", "no host can have this name"),
        ):
            message = str(failure(open_requester(url, client="wire").get_all))
            assert message.startswith("Redis did not answer: ")
            assert said in message
            assert message.endswith("; is it running, and is the store URL right?")
            assert SECRET not in message

    @pytest.mark.parametrize("client", ["wire", "redis-py"])
    @pytest.mark.parametrize("opened", [silent_port, full_port, lambda: answering_port(trickles)])
    def test_a_deadline_bounds_the_wait_more_than_the_timeout_does(self, opened: Any, client: str) -> None:
        with opened() as port:
            requester = RedisRequester.from_url(f"redis://127.0.0.1:{port}?client={client}", timeout=10)
            reads: list[Callable[[float], object]] = [
                lambda end: requester.get_many(ONE, end),
                lambda end: requester.get_many([*ONE, ("segments", "s")], end),
                requester.get_all,
                lambda end: requester.get_big_segments(["hash"], end),
            ]
            for read in reads:
                began = time.monotonic()
                failure(lambda read=read, began=began: read(began + BOUND))  # type: ignore[misc]
                assert time.monotonic() - began <= BOUND + MARGIN
            requester.close()

    @pytest.mark.parametrize("client", ["wire", "redis-py"])
    def test_so_does_the_deadline_of_a_request(self, client: str) -> None:
        with (
            silent_port() as port,
            FlagReader.from_url(f"redis://127.0.0.1:{port}?client={client}", timeout=10) as reader,
        ):
            began = time.monotonic()
            assert reader.request(USER, timeout=BOUND).variation("a", "default") == "default"
            assert time.monotonic() - began <= BOUND + MARGIN

    @pytest.mark.parametrize("option", ["socket_timeout", "socket_connect_timeout"])
    @pytest.mark.parametrize("client", [None, "redis-py"])
    def test_a_timeout_in_code_wins_over_those_of_the_package_in_the_url(self, option: str, client: str | None) -> None:
        with silent_port() if option == "socket_timeout" else full_port() as port:
            requester = open_requester(f"redis://127.0.0.1:{port}?{option}=30", timeout=BOUND, client=client)
            began = time.monotonic()
            failure(lambda: requester.get_many(ONE))
            assert time.monotonic() - began <= BOUND + MARGIN
            requester.close()


def trickles(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
    connection.sendall(b"$100000\r\n")
    while not over.wait(0.02):
        connection.sendall(b"x")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def port(certificates: Certificates) -> Iterator[int]:
    """The port of a server with a password and with a certificate for 127.0.0.1, which asks for none."""
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificates.ca)]
    options += ["--tls-cert-file", str(certificates.certificate("server"))]
    options += ["--tls-key-file", str(certificates.key("server")), "--requirepass", SECRET]
    with RedisServer(*options):
        yield port


class TestTls:
    @pytest.fixture(params=["wire", "redis-py"])
    def client(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name

    def url(self, certificates: Certificates, port: int, host: str = "127.0.0.1", **options: str) -> str:
        given = {"ssl_ca_certs": str(certificates.ca)} | options
        query = "&".join(f"{name}={quote(value)}" for name, value in given.items() if value)
        return f"rediss://:{SECRET}@{host}:{port}?{query}"

    @pytest.mark.parametrize(
        ("host", "options"),
        [
            ("127.0.0.1", {}),
            ("localhost", {"ssl_check_hostname": "False"}),
            ("localhost", {"ssl_check_hostname": "no"}),
            ("localhost", {"ssl_cert_reqs": "none", "ssl_ca_certs": ""}),
            ("127.0.0.1", {"ssl_cert_reqs": "optional"}),
        ],
    )
    def test_a_certificate_is_believed_as_the_options_say(
        self, certificates: Certificates, port: int, client: str, host: str, options: dict[str, str]
    ) -> None:
        requester = open_requester(self.url(certificates, port, host, **options), client=client)
        for _ in range(3):
            assert requester.get_all() == {"features": {}, "segments": {}}
        requester.close()

    @pytest.mark.parametrize(
        ("host", "options", "said"),
        [
            ("127.0.0.1", {"ssl_ca_certs": ""}, "certificate verify failed"),
            ("localhost", {}, "certificate verify failed: hostname mismatch"),
            ("localhost", {"ssl_check_hostname": "yes"}, "certificate verify failed: hostname mismatch"),
            ("localhost", {"ssl_cert_reqs": "optional"}, "certificate verify failed: hostname mismatch"),
        ],
    )
    def test_another_is_a_store_that_does_not_answer(
        self, certificates: Certificates, port: int, client: str, host: str, options: dict[str, str], said: str
    ) -> None:
        requester = open_requester(self.url(certificates, port, host, **options), client=client)
        error = failure(requester.get_all)
        assert said in str(error).lower()
        assert SECRET not in str(error)

    def test_blank_options_of_the_url_are_as_if_they_were_not_there(
        self, certificates: Certificates, port: int, client: str
    ) -> None:
        url = self.url(certificates, port, "localhost") + "&ssl_cert_reqs=&ssl_check_hostname=&password="
        assert "hostname mismatch" in str(failure(open_requester(url, client=client).get_all)).lower()

    def test_certificates_that_cannot_be_read_are_named(self, certificates: Certificates, port: int) -> None:
        for options in (
            {"ssl_ca_certs": "/nowhere/ca.pem"},
            {"ssl_certfile": "/nowhere/client.pem"},
            {"ssl_certfile": str(certificates.ca), "ssl_keyfile": str(certificates.key("client"))},
        ):
            error = failure(open_requester(self.url(certificates, port, **options), client="wire").get_all)
            assert "the certificates cannot be used: " in str(error)
            assert all(file in str(error) for file in options.values())

    def test_a_kept_connection_is_looked_at_and_used_again(
        self, certificates: Certificates, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requester = RedisRequester.from_url(self.url(certificates, port), client="wire")
        requester.get_all()
        monkeypatch.setattr("ldreader.wire.connection.TRUSTED_FOR", -1)
        kept = self.sockets(requester)
        requester.get_all()
        assert self.sockets(requester) == kept
        requester.close()

    def sockets(self, requester: RedisRequester) -> list[Any]:
        redis: Any = requester._redis
        return [connection._socket for connection in redis._redis._endpoint._idle]
