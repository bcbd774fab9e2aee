"""Redis through the package redis: what is sent, what a bad day costs, and what `close` closes."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from ldreader import ConfigurationError, FlagReader, MissingDependency, RedisRequester, StoreError
from ldreader.requesters import open_requester
from tests.servers import RedisServer, free_port

USER = {"kind": "user", "key": "ada"}
FLAG = '{"on": true, "variations": ["off", "on"], "fallthrough": {"variation": 1}}'
BOTH = [("features", "a"), ("segments", "s")]
BOUND = 0.3
MARGIN = 2.0  # only an upper bound for a busy machine: without a timeout these would hang


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    client = redis.Redis.from_url(redis_server.url)
    yield client
    client.close()


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Relay:
    """Passes one connection on to a server, and keeps the pieces in which the client wrote."""

    def __init__(self, server_port: int) -> None:
        self.pieces: list[bytes] = []
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Relay:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join(MARGIN)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            other = {client: server, server: client}
            while True:
                for source in select.select(list(other), [], [])[0]:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    if source is client:
                        self.pieces.append(data)
                    other[source].sendall(data)


def commands_sent(client: Any, read: Any) -> list[str]:
    """The commands that the server saw while `read` ran, in order."""
    with client.monitor() as monitor:
        seen: list[str] = []
        read()
        client.echo("end of the reading")
        for entry in monitor.listen():
            name = entry["command"].split()[0]
            if name == "ECHO":
                return seen
            if name not in ("HELLO", "CLIENT"):  # the opening of a connection, here of the one that says ECHO
                seen.append(name)
    raise AssertionError("the monitor ended")


class TestWhatIsSent:
    def test_items_of_both_kinds_are_read_by_plain_hget(self, redis_server: RedisServer, client: Any) -> None:
        requester = open_requester(redis_server.url)
        requester.get_many(BOTH)  # opens the connection
        assert commands_sent(client, lambda: requester.get_many(BOTH)) == ["HGET", "HGET"]

    def test_everything_is_read_by_two_plain_hgetall(self, redis_server: RedisServer, client: Any) -> None:
        requester = open_requester(redis_server.url)
        requester.get_all()
        assert commands_sent(client, requester.get_all) == ["HGETALL", "HGETALL"]

    def test_all_commands_of_a_read_travel_together(self, redis_server: RedisServer) -> None:
        with Relay(redis_server.port) as relay:
            requester = open_requester(f"redis://127.0.0.1:{relay.port}")
            requester.get_many(BOTH)
            for read in (lambda: requester.get_many(BOTH), requester.get_all):
                relay.pieces.clear()
                read()
                assert len(relay.pieces) == 1
            requester.close()

    def test_opening_a_reader_contacts_nothing(self) -> None:
        with FlagReader.from_url(f"redis://127.0.0.1:{free_port()}") as reader:
            assert not reader.is_offline()


class TestPrefix:
    @pytest.mark.parametrize(
        ("query", "options", "used"),
        [
            ("", {}, "launchdarkly"),
            ("?prefix=", {}, "launchdarkly"),
            ("", {"prefix": ""}, "launchdarkly"),
            ("?prefix=env%20one", {}, "env one"),
            ("", {"prefix": "env1"}, "env1"),
            ("?prefix=env2", {"prefix": "env1"}, "env1"),
            ("?prefix=0", {}, "0"),
        ],
    )
    def test_code_wins_over_the_url_and_empty_is_the_default(
        self, redis_server: RedisServer, client: Any, query: str, options: dict[str, str], used: str
    ) -> None:
        key = uuid.uuid4().hex
        client.hset(f"{used}:features", key, FLAG)
        assert open_requester(redis_server.url + query, **options).get_many([("features", key)])
        client.hdel(f"{used}:features", key)


class TestOptions:
    def test_a_database_is_chosen_by_path_or_option(self, redis_server: RedisServer, prefix: str) -> None:
        with redis.Redis.from_url(f"{redis_server.url}/3") as third:
            third.hset(f"{prefix}:features", "a", FLAG)
        for url in (f"{redis_server.url}/3", f"{redis_server.url}?db=3", f"unix://{redis_server.socket_path}?db=3"):
            assert open_requester(url, prefix=prefix).get_many([("features", "a")])
        assert open_requester(redis_server.url, prefix=prefix).get_many([("features", "a")]) == {}

    def test_an_option_in_code_wins_over_the_url(self, redis_server: RedisServer, prefix: str) -> None:
        with redis.Redis.from_url(f"{redis_server.url}/3") as third:
            third.hset(f"{prefix}:features", "a", FLAG)
        assert open_requester(f"{redis_server.url}/2?prefix={prefix}", db=3).get_many([("features", "a")])

    @pytest.mark.parametrize("url", ["redis://localhost?prefx=a", "redis://localhost?socket_timout=1"])
    def test_an_unknown_option_in_the_url_names_the_nearest(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="did you mean '(prefix|socket_timeout)'"):
            open_requester(url)

    def test_an_unknown_option_in_code_names_the_nearest(self) -> None:
        with pytest.raises(ConfigurationError, match="did you mean 'username'"):
            open_requester("redis://localhost", usrname="me")

    def test_a_value_that_makes_no_sense_is_refused_when_opening(self) -> None:
        with pytest.raises(ConfigurationError, match="socket_timeout"):
            open_requester("redis://localhost?socket_timeout=soon")

    def test_the_missing_package_is_named_when_opening(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        with pytest.raises(MissingDependency, match=r"pip install 'ldreader\[redis\]'"):
            open_requester("redis://localhost")


class TestClose:
    def test_a_client_of_the_application_stays_open(self, client: Any) -> None:
        client.ping()
        connections = client.connection_pool
        RedisRequester(client).close()
        assert connections.get_connection().is_connected if hasattr(connections, "is_connected") else client.ping()

    def test_connections_of_its_own_are_closed(self, redis_server: RedisServer, client: Any) -> None:
        name = f"reader-{uuid.uuid4().hex}"
        requester = open_requester(f"{redis_server.url}?client_name={name}")
        requester.get_all()
        assert any(entry["name"] == name for entry in client.client_list())
        requester.close()
        deadline = time.monotonic() + MARGIN
        while any(entry["name"] == name for entry in client.client_list()):
            assert time.monotonic() < deadline

    def test_a_closed_requester_opens_again_when_asked(self, redis_server: RedisServer) -> None:
        requester = open_requester(redis_server.url)
        requester.close()
        assert requester.get_all().keys() == {"features", "segments"}


class TestBadDays:
    def test_an_item_that_cannot_be_had_spoils_nobody_else(
        self, redis_server: RedisServer, client: Any, prefix: str
    ) -> None:
        client.set(f"{prefix}:segments", "a string where a hash belongs")
        client.hset(f"{prefix}:features", "a", FLAG)
        found = open_requester(redis_server.url, prefix=prefix).get_many(BOTH)
        assert found["features", "a"] == FLAG.encode()
        assert isinstance(found["segments", "s"], StoreError)
        assert "WRONGTYPE" in str(found["segments", "s"])

    def test_a_single_item_that_cannot_be_had_is_an_error_in_its_place(
        self, redis_server: RedisServer, client: Any, prefix: str
    ) -> None:
        client.set(f"{prefix}:features", "a string where a hash belongs")
        requester = open_requester(redis_server.url, prefix=prefix)
        assert isinstance(requester.get_many([("features", "a")])["features", "a"], StoreError)
        with pytest.raises(StoreError, match="refused to read.*WRONGTYPE"):
            requester.get_all()

    @pytest.mark.parametrize("read", ["get_many", "get_all"])
    def test_a_closed_port_is_a_store_that_does_not_answer(self, read: str) -> None:
        requester = open_requester(f"redis://127.0.0.1:{free_port()}", timeout=BOUND)
        with pytest.raises(StoreError, match="is it running, and is the store URL right") as caught:
            requester.get_all() if read == "get_all" else requester.get_many(BOTH)
        assert isinstance(caught.value.__cause__, redis.RedisError)

    def test_a_silent_server_costs_a_request_one_timeout(self, silent_port: int) -> None:
        reader = FlagReader.from_url(f"redis://127.0.0.1:{silent_port}?timeout={BOUND}")
        start = time.monotonic()
        with reader.request(USER) as flags:
            details = [flags.variation_detail(key, "default") for key in ("a", "b", "c", "d", "e", "f", "g", "h", "i")]
        assert time.monotonic() - start < BOUND + MARGIN
        assert {(detail.value, detail.reason["errorKind"]) for detail in details} == {("default", "EXCEPTION")}

    def test_a_paused_server_costs_a_request_one_timeout(self) -> None:
        with RedisServer() as server:
            reader = FlagReader.from_url(f"{server.url}?timeout={BOUND}")
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "FLAG_NOT_FOUND"
            server.pause()
            start = time.monotonic()
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "EXCEPTION"
            assert time.monotonic() - start < BOUND + MARGIN
            server.resume()
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "FLAG_NOT_FOUND"

    def test_a_connection_that_the_server_closed_costs_a_reconnect_and_no_default(
        self, redis_server: RedisServer, client: Any, prefix: str
    ) -> None:
        client.hset(f"{prefix}:features", "a", FLAG)
        name = f"reader-{uuid.uuid4().hex}"
        reader = FlagReader.from_url(f"{redis_server.url}?prefix={prefix}&client_name={name}")
        for _ in range(3):
            assert reader.variation("a", USER, "default") == "on"
            (connection,) = [entry["id"] for entry in client.client_list() if entry["name"] == name]
            client.client_kill_filter(_id=connection)
        assert reader.variation("a", USER, "default") == "on"

    def test_a_server_that_came_back_is_used_again_by_the_same_reader(self) -> None:
        with RedisServer() as server:
            reader = FlagReader.from_url(f"{server.url}?timeout={BOUND}")
            assert reader.all_flags_state(USER).valid
            server.stop()
            assert not reader.all_flags_state(USER).valid
            server.start()
            assert reader.all_flags_state(USER).valid

    @pytest.mark.parametrize("given", ["url", "code"])
    def test_a_refused_password_is_not_shown(self, given: str, caplog: pytest.LogCaptureFixture) -> None:
        with RedisServer("--requirepass", "right") as server:
            address = f"127.0.0.1:{server.port}"
            reader = (
                FlagReader.from_url(f"redis://:wr0ng%2Fsecret@{address}")
                if given == "url"
                else FlagReader.from_url(f"redis://{address}", password="wr0ng/secret")
            )
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "EXCEPTION"
            assert len(caplog.records) == 1
            assert "password" in caplog.text
            assert "wr0ng" not in caplog.text
            opened = FlagReader.from_url(f"redis://:right@{address}")
            assert opened.variation_detail("a", USER, 1).reason["errorKind"] == "FLAG_NOT_FOUND"
