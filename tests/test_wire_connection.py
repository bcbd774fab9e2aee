"""Connections of ldreader's own clients: kept, doubted when they have slept, and bounded in time and size.

The server here answers each line with the number of its connection and the line, unless a test says otherwise.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ldreader.wire import connection as wire
from ldreader.wire.connection import KEPT, KEPT_FOR, TRUSTED_FOR, Connection, Endpoint, MalformedReply
from tests.redis_fixtures import answering_port, full_port, silent_port
from tests.servers import RedisServer, free_port

PROJECT = Path(__file__).parent.parent
BOUND = 0.4
MARGIN = 0.3
PATIENCE = 10.0

Answer = Callable[[socket.socket, bytes, threading.Event], None]


def answers(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    connection.sendall(line)


def is_silent(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    pass


def hangs_up(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def answers_and_hangs_up(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    connection.sendall(line)
    connection.shutdown(socket.SHUT_RDWR)


def is_cut_short(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    connection.sendall(line[:2])
    connection.shutdown(socket.SHUT_RDWR)


def trickles(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    while not over.wait(0.02):
        connection.sendall(b"x")


def begins_in_time(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    over.wait(0.25 * BOUND)
    connection.sendall(line[:1])
    over.wait(0.5 * BOUND)
    connection.sendall(line[1:])


def answers_late(connection: socket.socket, line: bytes, over: threading.Event) -> None:
    over.wait(2 * BOUND)
    connection.sendall(line)


class Lines:
    """What the server does: its connections in order, and how those with a number of their own answer."""

    def __init__(self) -> None:
        self.peers: list[Any] = []
        self.how: dict[int, Answer] = {}
        self.port = 0

    def __call__(self, connection: socket.socket, asked: bytes, over: threading.Event) -> None:
        peer = connection.getpeername()
        if peer not in self.peers:
            self.peers.append(peer)
        number = self.peers.index(peer)
        self.how.get(number, answers)(connection, b"%d:%b" % (number, asked), over)

    def endpoint(self, timeout: float = PATIENCE) -> Endpoint:
        return Endpoint(("127.0.0.1", self.port), timeout=timeout)


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    with answering_port(lines) as lines.port:
        yield lines


class Clock:
    """The time as the client sees it, moved on by the test."""

    def __init__(self) -> None:
        self.slept = 0.0
        """How far both clocks went on."""
        self.frozen = 0.0
        """How far the wall clock went on alone."""
        self.set_back = 0.0
        """How far the monotonic clock went on alone."""

    def monotonic(self) -> float:
        return time.monotonic() + self.slept + self.set_back

    def time(self) -> float:
        return time.time() + self.slept + self.frozen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(wire, "time", clock)
    return clock


def ask(endpoint: Endpoint, text: str = "x", deadline: float | None = None) -> str:
    """The line that comes for a line."""

    def talk(connection: Connection) -> str:
        connection.send(f"{text}\r\n".encode())
        return connection.line().decode()

    return endpoint.ask(talk, deadline)


class TestAKeptConnection:
    def test_is_used_again(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        assert [ask(endpoint, text) for text in "abc"] == ["0:a", "0:b", "0:c"]
        endpoint.close()

    def test_is_not_opened_before_it_is_needed(self) -> None:
        Endpoint(("127.0.0.1", free_port()), timeout=BOUND).close()

    def test_is_closed_with_the_endpoint_which_opens_another_when_asked(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        endpoint.close()
        endpoint.close()
        assert ask(endpoint) == "1:x"
        endpoint.close()

    @pytest.mark.parametrize("slept", [0.0, TRUSTED_FOR + 1], ids=["just now", "a while ago"])
    def test_that_the_server_has_closed_is_replaced(self, lines: Lines, clock: Clock, slept: float) -> None:
        lines.how[0] = answers_and_hangs_up
        endpoint = lines.endpoint()
        assert ask(endpoint, "a") == "0:a"
        clock.slept = slept
        assert ask(endpoint, "b") == "1:b"
        endpoint.close()

    def test_that_is_closed_when_it_is_asked_is_replaced_once(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        lines.how = {0: hangs_up, 1: hangs_up}
        with pytest.raises(ConnectionError):
            ask(endpoint)
        assert len(lines.peers) == 2
        assert ask(endpoint) == "2:x"
        endpoint.close()

    def test_on_which_nobody_answers_any_more_is_replaced_within_the_time_for_one_reply(self, lines: Lines) -> None:
        endpoint = lines.endpoint(3 * BOUND)
        assert ask(endpoint) == "0:x"
        lines.how[0] = is_silent
        began = time.monotonic()
        assert ask(endpoint) == "1:x"
        assert time.monotonic() - began <= 3 * BOUND / 2 + MARGIN
        assert ask(endpoint) == "1:x"
        endpoint.close()

    def test_that_went_stale_takes_those_with_it_that_have_slept_as_long(self, lines: Lines) -> None:
        endpoint = lines.endpoint(3 * BOUND)
        self.several(endpoint, 3)
        lines.how = dict.fromkeys(range(3), is_silent)
        began = time.monotonic()
        assert ask(endpoint) == "3:x"
        assert len(endpoint._idle) == 1
        assert time.monotonic() - began <= 3 * BOUND / 2 + MARGIN
        endpoint.close()

    def test_does_so_when_a_deadline_ends_the_wait(self, lines: Lines) -> None:
        endpoint = lines.endpoint(PATIENCE)
        self.several(endpoint, 3)
        lines.how = dict.fromkeys(range(3), is_silent)
        with pytest.raises(TimeoutError):
            ask(endpoint, deadline=time.monotonic() + BOUND)
        assert ask(endpoint, deadline=time.monotonic() + PATIENCE / 2) == "3:x"
        endpoint.close()

    def test_whose_reply_has_begun_in_time_has_the_whole_time_to_finish(self, lines: Lines) -> None:
        endpoint = lines.endpoint(BOUND)
        assert ask(endpoint) == "0:x"
        lines.how[0] = begins_in_time
        assert ask(endpoint) == "0:x"
        endpoint.close()

    def test_that_has_not_slept_is_waited_for_although_the_deadline_is_near(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        lines.how[0] = answers_late
        assert ask(endpoint, deadline=time.monotonic() + 3 * BOUND) == "0:x"
        endpoint.close()

    def test_whose_reply_is_cut_short_is_not_asked_again(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        lines.how[0] = is_cut_short
        with pytest.raises(ConnectionError, match="the server closed the connection"):
            ask(endpoint)
        assert ask(endpoint) == "1:x"
        endpoint.close()

    def test_is_used_after_a_while_in_which_nothing_was_said(self, lines: Lines, clock: Clock) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        clock.slept = KEPT_FOR - 1
        assert ask(endpoint) == "0:x"
        endpoint.close()

    def test_on_which_something_was_said_unasked_is_replaced(self, lines: Lines, clock: Clock) -> None:
        said = threading.Event()

        def says_more(connection: socket.socket, line: bytes, over: threading.Event) -> None:
            connection.sendall(line)
            said.wait(PATIENCE)
            connection.sendall(b"0:more\r\n")
            said.clear()

        lines.how[0] = says_more
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        said.set()
        while said.is_set():
            time.sleep(0.001)
        clock.slept = TRUSTED_FOR + 1
        assert ask(endpoint) == "1:x"
        endpoint.close()

    def test_on_which_more_came_than_was_asked_for_is_not_kept(self, lines: Lines) -> None:
        lines.how[0] = lambda connection, line, over: connection.sendall(line + b"0:more\r\n")
        endpoint = lines.endpoint()
        assert [ask(endpoint), ask(endpoint)] == ["0:x", "1:x"]
        endpoint.close()

    def test_nor_is_one_on_which_more_came_with_the_end_of_a_large_reply(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(b"x" * 100_000 + b"more")
            connection = Connection(lambda: ours)
            connection.end = connection.prolonged = time.monotonic() + PATIENCE
            assert connection.exactly(100_000) == b"x" * 100_000
            assert not connection.rest()
            connection.close()

    @pytest.mark.parametrize("clock_that_goes_on", ["slept", "frozen", "set_back"])
    def test_is_not_trusted_for_ever_whichever_clock_tells(
        self, lines: Lines, clock: Clock, clock_that_goes_on: str
    ) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        setattr(clock, clock_that_goes_on, KEPT_FOR + 1)
        assert ask(endpoint) == "1:x"
        endpoint.close()

    def test_is_replaced_when_the_wall_clock_was_set_back(self, lines: Lines, clock: Clock) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        clock.frozen = -KEPT_FOR - 1
        assert ask(endpoint) == "1:x"
        endpoint.close()

    def test_whose_conversation_was_broken_off_is_not_used_again(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint, "a") == "0:a"

        def interrupted(connection: Connection) -> str:
            connection.send(b"b\r\n")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            endpoint.ask(interrupted)
        assert ask(endpoint, "c") == "1:c"
        endpoint.close()

    def test_is_one_of_a_few(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        self.several(endpoint, KEPT + 4)
        assert len(lines.peers) == KEPT + 4
        assert len(endpoint._idle) == KEPT
        endpoint.close()

    def test_that_is_forgotten_with_its_endpoint_is_closed_without_a_warning(self, lines: Lines) -> None:
        for _ in range(5):
            endpoint = lines.endpoint()
            ask(endpoint)
            ring: list[Any] = [endpoint]
            ring.append(ring)  # only the garbage collector ends this
            del endpoint, ring
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                gc.collect()  # pytest fails the test for a warning that cannot be raised

    def several(self, endpoint: Endpoint, count: int) -> None:
        """Makes so many connections at once."""
        together = threading.Barrier(count)

        def talk(connection: Connection) -> None:
            together.wait(PATIENCE)
            connection.send(b"x\r\n")
            connection.line()

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: endpoint.ask(talk), range(count)))


class TestTime:
    """All that one question costs is bounded, and a deadline bounds it more."""

    @pytest.mark.parametrize("how", [is_silent, trickles], ids=["is silent", "trickles"])
    def test_a_first_reply_may_take_the_timeout(self, lines: Lines, how: Answer) -> None:
        lines.how = dict.fromkeys(range(9), how)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            ask(lines.endpoint(BOUND))
        assert BOUND * 0.9 <= time.monotonic() - began <= BOUND + MARGIN

    @pytest.mark.parametrize("how", [is_silent, trickles], ids=["is silent", "trickles"])
    def test_the_reply_of_a_kept_connection_may_take_twice_the_timeout_with_all_that_is_tried(
        self, lines: Lines, how: Answer
    ) -> None:
        endpoint = lines.endpoint(BOUND)
        ask(endpoint)
        lines.how = dict.fromkeys(range(9), how)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(endpoint)
        assert time.monotonic() - began <= 2 * BOUND + MARGIN

    @pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
    @pytest.mark.parametrize("how", [is_silent, trickles], ids=["is silent", "trickles"])
    def test_a_deadline_is_kept(self, lines: Lines, how: Answer, kept: bool) -> None:
        endpoint = lines.endpoint(PATIENCE)
        if kept:
            ask(endpoint)
        lines.how = dict.fromkeys(range(9), how)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            ask(endpoint, deadline=began + BOUND)
        assert time.monotonic() - began <= BOUND + MARGIN

    def test_a_deadline_that_is_far_changes_nothing(self, lines: Lines) -> None:
        lines.how[0] = is_silent
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(lines.endpoint(BOUND), deadline=began + 3600)
        assert time.monotonic() - began <= BOUND + MARGIN

    def test_a_deadline_that_is_over_asks_nothing_and_costs_no_connection(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        with pytest.raises(TimeoutError):
            ask(endpoint, deadline=time.monotonic())
        assert ask(endpoint) == "0:x"
        endpoint.close()

    @pytest.mark.parametrize("deadline", [None, BOUND])
    def test_connecting_is_bounded_too(self, deadline: float | None) -> None:
        with full_port() as port:
            endpoint = Endpoint(("127.0.0.1", port), timeout=BOUND if deadline is None else PATIENCE)
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                ask(endpoint, deadline=deadline and began + deadline)
            assert time.monotonic() - began <= BOUND + MARGIN

    def test_shaking_hands_for_tls_is_bounded_too(self) -> None:
        import ssl

        with silent_port() as port:
            endpoint = Endpoint(("127.0.0.1", port), timeout=BOUND, secure=ssl.create_default_context)
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                ask(endpoint)
            assert time.monotonic() - began <= BOUND + MARGIN


class TestSize:
    def test_a_line_has_a_limit(self, lines: Lines) -> None:
        lines.how[0] = lambda connection, line, over: connection.sendall(b"x" * 200_000)
        with pytest.raises(MalformedReply, match="a line of more than 65536 bytes"):
            ask(lines.endpoint())

    def test_a_length_that_no_reply_has_is_not_waited_for(self, lines: Lines) -> None:
        lines.how[0] = is_silent

        def talk(connection: Connection) -> bytes:
            connection.send(b"x\r\n")
            return connection.exactly(10**12)

        with pytest.raises(MalformedReply, match="a reply of more than 536870912 bytes"):
            lines.endpoint().ask(talk)

    @pytest.mark.parametrize("read", ["lines", "pieces", "rest"])
    def test_all_that_comes_for_a_question_has_a_limit(
        self, lines: Lines, monkeypatch: pytest.MonkeyPatch, read: str
    ) -> None:
        monkeypatch.setattr(wire, "REPLY_LIMIT", 300_000)

        def floods(connection: socket.socket, line: bytes, over: threading.Event) -> None:
            while not over.is_set():
                connection.sendall(b"xx\r\n" * 1000)

        def talk(connection: Connection) -> None:
            connection.send(b"x\r\n")
            while True:
                if read == "lines":
                    connection.line()
                elif read == "pieces":
                    connection.exactly(1000)
                else:
                    connection.rest_of_all()

        lines.how[0] = floods
        with pytest.raises(MalformedReply, match="a reply of more than 300000 bytes"):
            lines.endpoint().ask(talk)

    def test_the_limit_is_for_each_question_anew(self, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wire, "REPLY_LIMIT", 10_000)
        endpoint = lines.endpoint()
        for _ in range(20):
            assert ask(endpoint, "x" * 1000) == f"0:{'x' * 1000}"
        endpoint.close()

    @pytest.mark.parametrize("sizes", [(1, 2, 3, 4), (65536, 1, 65535), (200_000, 5), (0, 7)])
    def test_bytes_and_lines_come_as_they_were_sent_however_they_are_cut(
        self, lines: Lines, sizes: tuple[int, ...]
    ) -> None:
        sent = [bytes([65 + index]) * size for index, size in enumerate(sizes)]

        def dribbles(connection: socket.socket, line: bytes, over: threading.Event) -> None:
            for data in sent:
                half = len(data) // 2
                for piece in (data[:half], data[half:] + b"\r", b"\nline", b"\r\n"):
                    connection.sendall(piece)
                    over.wait(0.005)

        def talk(connection: Connection) -> list[bytes]:
            connection.send(b"x\r\n")
            found = []
            for size in sizes:
                found.append(connection.exactly(size))
                assert connection.exactly(2) == b"\r\n"
                assert connection.line() == b"line"
            return found

        lines.how[0] = dribbles
        endpoint = lines.endpoint()
        assert endpoint.ask(talk) == sent
        endpoint.close()


class TestAddresses:
    def test_a_port_that_is_closed_is_an_error_at_once(self) -> None:
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            ask(Endpoint(("127.0.0.1", free_port()), timeout=PATIENCE))
        assert time.monotonic() - began <= MARGIN

    def test_a_server_that_accepts_and_closes_is_an_error_at_once(self, lines: Lines) -> None:
        lines.how = {0: hangs_up, 1: answers}
        with pytest.raises(ConnectionError):
            ask(lines.endpoint())
        assert len(lines.peers) == 1

    @pytest.mark.parametrize("host", ["nowhere.invalid", "no-löwhere.invalid", "a" * 300, f"{'a' * 70}ö", "\ud800"])
    def test_a_name_that_nobody_has_is_an_error(self, host: str) -> None:
        with pytest.raises(OSError, match="no host can have this name|not known|failure|resolve"):
            ask(Endpoint((host, 80), timeout=PATIENCE))

    def test_a_name_with_several_addresses_is_tried_in_order(
        self, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (free_port(), lines.port, 1)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: found)
        endpoint = lines.endpoint()
        assert ask(endpoint) == "0:x"
        endpoint.close()

    def test_one_that_is_silent_leaves_time_for_the_next(self, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        with full_port() as full:
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (full, lines.port)]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: found)
            endpoint = lines.endpoint(BOUND)
            began = time.monotonic()
            assert ask(endpoint) == "0:x"
            assert time.monotonic() - began <= BOUND / 2 + MARGIN
            endpoint.close()

    def test_small_questions_are_sent_at_once(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        ask(endpoint)
        assert endpoint._idle[0]._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        endpoint.close()


class TestThreads:
    def test_each_gets_the_reply_to_its_own_question(self, lines: Lines) -> None:
        endpoint = lines.endpoint()

        def asks(name: int) -> set[str]:
            return {ask(endpoint, f"{name}-{index}").partition(":")[2] for index in range(100)}

        with ThreadPoolExecutor(16) as pool:
            for name, found in enumerate(pool.map(asks, range(16))):
                assert found == {f"{name}-{index}" for index in range(100)}
        assert len(endpoint._idle) <= KEPT
        endpoint.close()

    def test_one_connection_serves_those_who_come_one_after_the_other(self, lines: Lines) -> None:
        endpoint = lines.endpoint()
        for _ in range(4):
            thread = threading.Thread(target=ask, args=[endpoint])
            thread.start()
            thread.join()
        assert len(lines.peers) == 1
        endpoint.close()


FORKS = """
import os, sys
sys.path.insert(0, sys.argv[2])
from ldreader import RedisRequester

def look(requester, who):
    for index in range(200):
        ref = ("features", f"{who}-{index}")
        assert requester.get_many([ref]) == {ref: f"{who}-{index}".encode()}, ref

requester = RedisRequester.from_url(sys.argv[1])
look(requester, "parent")
child = os.fork()
if not child:
    look(requester, "child")
    requester.close()
    os._exit(0)
look(requester, "parent")
assert os.waitpid(child, 0)[1] == 0
look(requester, "parent")
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork_parent_and_child_get_their_own_answers_on_a_connection_each() -> None:
    def connections() -> int:
        (line,) = [line for line in server.ask("INFO", "stats").splitlines() if "total_connections_received" in line]
        return int(line.partition(":")[2])

    with RedisServer() as server:
        for who in ("parent", "child"):
            items = [word for index in range(200) for word in (f"{who}-{index}", f"{who}-{index}")]
            server.ask("HSET", "launchdarkly:features", *items)
        before = connections()
        command = [sys.executable, "-W", "error", "-c", FORKS, f"{server.url}?client=wire", str(PROJECT)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("right\n", "")
        assert connections() - before == 2 + 1  # the last is that of this question


def test_closing_while_other_threads_take_connections_raises_nothing() -> None:
    endpoint = Endpoint(("127.0.0.1", 1), timeout=1)
    failed: list[BaseException] = []

    class Idle:
        def close(self) -> None:
            pass

    def busy() -> None:
        try:
            for _ in range(3000):
                endpoint._idle.append(Idle())  # type: ignore[arg-type]
                endpoint.close()
        except BaseException as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=busy) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert failed == []


def test_an_address_family_that_the_system_lacks_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        usual = socket.getaddrinfo("127.0.0.1", port, 0, socket.SOCK_STREAM)
        absent = [(12345, socket.SOCK_STREAM, 0, "", ("::1", port, 0, 0))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [*absent, *usual])
        Connection(lambda: Endpoint(("localhost", port), timeout=2)._open(time.monotonic() + 2)).close()
