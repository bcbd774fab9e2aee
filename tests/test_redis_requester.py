"""Redis, through either client: what is sent, what a bad day costs, and what `close` closes."""

from __future__ import annotations

import select
import socket
import ssl
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

import pytest
import redis

from ldreader import ConfigurationError, FeatureRequester, FlagReader, MissingDependency, RedisRequester, StoreError
from ldreader.requesters import open_requester
from ldreader.wire.resp import Refusal
from tests.servers import RedisServer, free_port, until

USER = {"kind": "user", "key": "ada"}
FLAG = '{"on": true, "variations": ["off", "on"], "fallthrough": {"variation": 1}}'
BOTH = [("features", "a"), ("segments", "s")]
BOUND = 0.3
REFS = [("features", "a"), ("features", "nowhere"), ("segments", "s")]
SECRET = "s3same"
MARGIN = 2.0  # only an upper bound for a busy machine: without a timeout these would hang

Opens = Callable[..., Any]

EITHER = [{}, {"client": "redis-py"}]
"""Options that leave the choice of a client to ldreader, or make it."""

UNREACHED = {"wire": OSError, "redis-py": redis.ConnectionError}
LATE = {"wire": TimeoutError, "redis-py": redis.TimeoutError}
REFUSED = {"wire": Refusal, "redis-py": redis.ResponseError}
LOCKED_OUT = {"wire": Refusal, "redis-py": redis.AuthenticationError}
"""The causes of errors, by the client that meets them."""


@pytest.fixture(params=["wire", "redis-py"])
def via(request: pytest.FixtureRequest) -> str:
    """The client that reads."""
    name: str = request.param
    return name


@pytest.fixture
def opened(via: str) -> Opens:
    """Opens a requester that reads through that client."""
    return partial(open_requester, client=via)


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


class Proxy:
    """Stands between a requester and Redis, notes who speaks, and cuts the line when told to."""

    def __init__(self, port: int) -> None:
        self.turns: list[str] = []
        """Who spoke, in order; the same one several times in a row is one turn."""
        self.connections = 0
        self.to_cut = 0
        """How many of the next requests are answered by closing the connection."""
        self._redis = ("127.0.0.1", port)

    def __enter__(self) -> Proxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._listener)
        self._threads[0].join()
        for end in self._sockets:
            self._end(end)
        for thread in self._threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def round_trips(self) -> int:
        return self.turns.count("asked")

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(self._redis)
            self._sockets += [near, far]
            for names in ((near, far, "asked"), (far, near, "answered")):
                thread = threading.Thread(target=self._pass_on, args=names)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, turn: str) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                if turn == "asked" and self.to_cut:
                    self.to_cut -= 1
                    break
                if self.turns[-1:] != [turn]:
                    self.turns.append(turn)
                target.sendall(data)
        self._end(source)
        self._end(target)

    def _end(self, end: socket.socket) -> None:
        with suppress(OSError):  # ended already
            end.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is threading.main_thread():
            end.close()


@pytest.fixture
def filled(client: Any, prefix: str) -> str:
    """A prefix under which there are flag a and segment s."""
    client.hset(f"{prefix}:features", "a", '{"version": 1}')
    client.hset(f"{prefix}:segments", "s", '{"version": 2}')
    return prefix


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that the test may stop or change the settings of."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server whose connections are taken by the kernel and answered by nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def url_of(listener: socket.socket) -> str:
    return f"redis://127.0.0.1:{listener.getsockname()[1]}"


def connections_to(listener: socket.socket) -> int:
    """How often someone has connected."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def read_each_way(requester: FeatureRequester) -> list[StoreError]:
    """The errors of a look-up of one, of many and of everything."""
    errors = []
    for read in (
        lambda: requester.get_many(REFS[:1]),
        lambda: requester.get_many(REFS),
        lambda: requester.get_all(),
    ):
        with pytest.raises(StoreError) as caught:
            read()
        errors.append(caught.value)
    return errors


def connected(client: Any) -> set[str]:
    """The connections that the server has, by number."""
    return {entry["id"] for entry in client.client_list()}


def said(error: BaseException) -> str:
    """All that a traceback of the error shows, the causes too."""
    return "".join(traceback.format_exception(error))


class TestWhatIsSent:
    def test_items_of_both_kinds_are_read_by_plain_hget(
        self, opened: Opens, redis_server: RedisServer, client: Any
    ) -> None:
        requester = opened(redis_server.url)
        requester.get_many(BOTH)  # opens the connection
        assert commands_sent(client, lambda: requester.get_many(BOTH)) == ["HGET", "HGET"]

    def test_everything_is_read_by_two_plain_hgetall(
        self, opened: Opens, redis_server: RedisServer, client: Any
    ) -> None:
        requester = opened(redis_server.url)
        requester.get_all()
        assert commands_sent(client, requester.get_all) == ["HGETALL", "HGETALL"]

    def test_all_commands_of_a_read_travel_together(self, opened: Opens, redis_server: RedisServer) -> None:
        with Relay(redis_server.port) as relay:
            requester = opened(f"redis://127.0.0.1:{relay.port}")
            requester.get_many(BOTH)
            for read in (lambda: requester.get_many(BOTH), requester.get_all):
                relay.pieces.clear()
                read()
                assert len(relay.pieces) == 1
            requester.close()

    def test_opening_a_reader_contacts_nothing(self, via: str) -> None:
        with FlagReader.from_url(f"redis://127.0.0.1:{free_port()}", client=via) as reader:
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
        self, opened: Opens, redis_server: RedisServer, client: Any, query: str, options: dict[str, str], used: str
    ) -> None:
        key = uuid.uuid4().hex
        client.hset(f"{used}:features", key, FLAG)
        assert opened(redis_server.url + query, **options).get_many([("features", key)])
        client.hdel(f"{used}:features", key)


class TestOptions:
    def test_a_database_is_chosen_by_path_or_option(
        self, opened: Opens, redis_server: RedisServer, prefix: str
    ) -> None:
        with redis.Redis.from_url(f"{redis_server.url}/3") as third:
            third.hset(f"{prefix}:features", "a", FLAG)
        for url in (f"{redis_server.url}/3", f"{redis_server.url}?db=3", f"unix://{redis_server.socket_path}?db=3"):
            assert opened(url, prefix=prefix).get_many([("features", "a")])
        assert opened(redis_server.url, prefix=prefix).get_many([("features", "a")]) == {}

    def test_an_option_in_code_wins_over_the_url(self, opened: Opens, redis_server: RedisServer, prefix: str) -> None:
        with redis.Redis.from_url(f"{redis_server.url}/3") as third:
            third.hset(f"{prefix}:features", "a", FLAG)
        assert opened(f"{redis_server.url}/2?prefix={prefix}", db=3).get_many([("features", "a")])

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

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("redis://localhost", {"client": "redis-py"}),
            ("redis://localhost?client=redis-py", {}),
            ("redis://localhost", {"credential_provider": object()}),
            ("redis://localhost?protocol=3", {}),
            ("redis+sentinel://localhost/flags", {}),
            ("redis+cluster://localhost", {}),
        ],
    )
    def test_the_missing_package_is_named_when_opening_what_needs_it(
        self, monkeypatch: pytest.MonkeyPatch, url: str, options: dict[str, Any]
    ) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        with pytest.raises(MissingDependency, match=r"pip install 'ldreader\[redis\]'"):
            open_requester(url, **options)

    @pytest.mark.parametrize(("query", "options"), [("?prefx=a", {}), ("", {"prefx": "a"})])
    def test_without_the_package_an_unknown_option_still_names_the_nearest(
        self, monkeypatch: pytest.MonkeyPatch, query: str, options: dict[str, str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        with pytest.raises(MissingDependency) as caught:
            open_requester(f"redis://localhost{query}", **options)
        assert "unknown option for Redis 'prefx'; did you mean 'prefix'?" in str(caught.value)
        assert "pip install 'ldreader[redis]'" in str(caught.value)


class TestTheChoiceOfAClient:
    def client_of(self, url: str, **options: Any) -> str:
        requester = open_requester(url, **options)
        requester.close()
        assert isinstance(requester, RedisRequester)
        return type(requester._redis).__name__

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("redis://localhost", {}),
            ("redis://localhost?", {"prefix": "p", "timeout": 1}),
            ("redis://me:pass%20word@localhost:6380/2?prefix=p&timeout=1", {}),
            ("redis://localhost?username=me&password=word&db=2", {}),
            ("redis://localhost", {"username": "me", "password": "word", "db": 2}),
            ("redis://localhost", {"username": None, "password": None, "db": None}),
            ("redis://[::1]:6379", {}),
            ("rediss://localhost?ssl_ca_certs=a&ssl_cert_reqs=none&ssl_check_hostname=no", {}),
            ("rediss://localhost", {"ssl_certfile": "a", "ssl_keyfile": "b", "ssl_cert_reqs": None}),
            ("unix:///run/redis.sock?db=1", {}),
            ("unix://me:word@/run/redis.sock", {}),
            ("redis://localhost?socket_timeout=9", {"timeout": 1}),
        ],
    )
    def test_the_wire_serves_one_server_without_the_package(
        self, monkeypatch: pytest.MonkeyPatch, url: str, options: dict[str, Any]
    ) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        assert self.client_of(url, **options) == "Wire"
        assert self.client_of(url, **options, client="wire") == "Wire"

    @pytest.mark.parametrize(
        ("url", "options", "said"),
        [
            ("redis+sentinel://localhost/flags", {}, "redis+sentinel://"),
            ("redis+cluster://localhost", {}, "redis+cluster://"),
            ("redis://localhost?protocol=3", {}, "the option 'protocol'"),
            ("redis://localhost?socket_timeout=1", {}, "the option 'socket_timeout'"),
            ("redis://localhost", {"max_connections": 1}, "the option 'max_connections'"),
            (
                "redis://localhost",
                {"credential_provider": redis.CredentialProvider()},
                "the option",
            ),
            ("redis://localhost", {"password": b"word"}, "such a password"),
            ("rediss://localhost", {"ssl_cert_reqs": ssl.CERT_NONE}, "such a ssl_cert_reqs"),
            ("rediss://localhost", {"ssl_ca_data": "x"}, "the option 'ssl_ca_data'"),
        ],
    )
    def test_the_package_serves_the_rest(self, url: str, options: dict[str, Any], said: str) -> None:
        assert self.client_of(url, **options) == "RedisPy"
        with pytest.raises(ConfigurationError) as caught:
            open_requester(url, **options, client="wire")
        assert str(caught.value).startswith(f"the client 'wire' does not serve {said}")
        assert "leave client out" in str(caught.value)

    @pytest.mark.parametrize(("query", "options"), [("?client=redis-py", {}), ("", {"client": "redis-py"})])
    def test_the_package_can_be_asked_for(self, query: str, options: dict[str, str]) -> None:
        assert self.client_of(f"redis://localhost{query}", **options) == "RedisPy"

    def test_code_wins_over_the_url(self) -> None:
        assert self.client_of("redis://localhost?client=redis-py", client="wire") == "Wire"

    @pytest.mark.parametrize(
        ("client", "said"),
        [
            ("redis_py", "unknown client for Redis 'redis_py'; did you mean 'redis-py'?"),
            ("", "unknown client for Redis ''; known: redis-py, wire"),
            (object(), "unknown client for Redis 'object'; known: redis-py, wire"),
        ],
    )
    def test_an_unknown_one_names_the_known(self, client: Any, said: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_requester("redis://localhost", client=client)
        assert str(caught.value) == said

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"ssl_cert_reqs": ""}, "ssl_cert_reqs must be required, optional or none, not ''"),
            ({"ssl_cert_reqs": "requird"}, "ssl_cert_reqs must be required, optional or none, not 'requird'"),
            ({"ssl_keyfile": "key.pem"}, "ssl_keyfile is of no use without ssl_certfile"),
        ],
    )
    def test_options_of_tls_that_make_no_sense_are_refused_when_opening(
        self, options: dict[str, str], said: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_requester("rediss://localhost", **options)
        assert str(caught.value) == said


class TestClose:
    def test_a_client_of_the_application_stays_open(self, client: Any) -> None:
        client.ping()
        connections = client.connection_pool
        RedisRequester(client).close()
        assert connections.get_connection().is_connected if hasattr(connections, "is_connected") else client.ping()

    def test_connections_of_its_own_are_closed(self, opened: Opens, redis_server: RedisServer, client: Any) -> None:
        requester = opened(redis_server.url)
        before = connected(client)
        requester.get_all()
        (own,) = connected(client) - before
        requester.close()
        until(lambda: own not in connected(client), "the connection to be closed")

    def test_a_closed_requester_opens_again_when_asked(self, opened: Opens, redis_server: RedisServer) -> None:
        requester = opened(redis_server.url)
        requester.close()
        assert requester.get_all().keys() == {"features", "segments"}


class TestBadDays:
    def test_an_item_that_cannot_be_had_spoils_nobody_else(
        self, opened: Opens, redis_server: RedisServer, client: Any, prefix: str
    ) -> None:
        client.set(f"{prefix}:segments", "a string where a hash belongs")
        client.hset(f"{prefix}:features", "a", FLAG)
        found = opened(redis_server.url, prefix=prefix).get_many(BOTH)
        assert found["features", "a"] == FLAG.encode()
        assert isinstance(found["segments", "s"], StoreError)
        assert "WRONGTYPE" in str(found["segments", "s"])

    def test_a_single_item_that_cannot_be_had_is_an_error_in_its_place(
        self, opened: Opens, redis_server: RedisServer, client: Any, prefix: str
    ) -> None:
        client.set(f"{prefix}:features", "a string where a hash belongs")
        requester = opened(redis_server.url, prefix=prefix)
        assert isinstance(requester.get_many([("features", "a")])["features", "a"], StoreError)
        with pytest.raises(StoreError, match="refused to read.*WRONGTYPE"):
            requester.get_all()

    @pytest.mark.parametrize("read", ["get_many", "get_all"])
    def test_a_closed_port_is_a_store_that_does_not_answer(self, opened: Opens, via: str, read: str) -> None:
        requester = opened(f"redis://127.0.0.1:{free_port()}", timeout=BOUND)
        with pytest.raises(StoreError, match="is it running, and is the store URL right") as caught:
            requester.get_all() if read == "get_all" else requester.get_many(BOTH)
        assert isinstance(caught.value.__cause__, UNREACHED[via])

    def test_a_silent_server_costs_a_request_one_timeout(self, via: str, silent_port: int) -> None:
        reader = FlagReader.from_url(f"redis://127.0.0.1:{silent_port}?timeout={BOUND}", client=via)
        start = time.monotonic()
        with reader.request(USER) as flags:
            details = [flags.variation_detail(key, "default") for key in ("a", "b", "c", "d", "e", "f", "g", "h", "i")]
        assert time.monotonic() - start < BOUND + MARGIN
        assert {(detail.value, detail.reason["errorKind"]) for detail in details} == {("default", "EXCEPTION")}

    def test_a_paused_server_costs_a_request_one_timeout(self, via: str) -> None:
        with RedisServer() as server:
            reader = FlagReader.from_url(f"{server.url}?timeout={BOUND}", client=via)
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "FLAG_NOT_FOUND"
            server.pause()
            start = time.monotonic()
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "EXCEPTION"
            assert time.monotonic() - start < BOUND + MARGIN
            server.resume()
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "FLAG_NOT_FOUND"

    def test_a_connection_that_the_server_closed_costs_a_reconnect_and_no_default(
        self, via: str, redis_server: RedisServer, client: Any, prefix: str
    ) -> None:
        client.hset(f"{prefix}:features", "a", FLAG)
        reader = FlagReader.from_url(f"{redis_server.url}?prefix={prefix}", client=via)
        for _ in range(3):
            before = connected(client)
            assert reader.variation("a", USER, "default") == "on"
            (connection,) = connected(client) - before
            client.client_kill_filter(_id=connection)
        assert reader.variation("a", USER, "default") == "on"
        reader.close()

    def test_a_server_that_came_back_is_used_again_by_the_same_reader(self, via: str) -> None:
        with RedisServer() as server:
            reader = FlagReader.from_url(f"{server.url}?timeout={BOUND}", client=via)
            assert reader.all_flags_state(USER).valid
            server.stop()
            assert not reader.all_flags_state(USER).valid
            server.start()
            assert reader.all_flags_state(USER).valid

    @pytest.mark.parametrize("given", ["url", "code"])
    def test_a_refused_password_is_not_shown(self, via: str, given: str, caplog: pytest.LogCaptureFixture) -> None:
        with RedisServer("--requirepass", "right") as server:
            address = f"127.0.0.1:{server.port}"
            reader = (
                FlagReader.from_url(f"redis://:wr0ng%2Fsecret@{address}", client=via)
                if given == "url"
                else FlagReader.from_url(f"redis://{address}", password="wr0ng/secret", client=via)
            )
            assert reader.variation_detail("a", USER, 1).reason["errorKind"] == "EXCEPTION"
            assert len(caplog.records) == 1
            assert "password" in caplog.text
            assert "wr0ng" not in caplog.text
            opened = FlagReader.from_url(f"redis://:right@{address}", client=via)
            assert opened.variation_detail("a", USER, 1).reason["errorKind"] == "FLAG_NOT_FOUND"


class TestTheCommands:
    def commands(self, client: Any, filled: str, requester: FeatureRequester, *refs: Any) -> list[str]:
        """The commands that Redis saw: from a look-up of these references, or of everything when there are none."""
        with redis.client.Monitor(client.connection_pool) as monitor:  # type: ignore[no-untyped-call]
            if refs:
                requester.get_many(refs)
            else:
                requester.get_all()
            client.echo(filled)
            seen = []
            for entry in monitor.listen():
                command = str(entry["command"])
                if command.startswith("ECHO"):
                    break
                seen.append(command)
        requester.close()
        return [command for command in seen if command.split()[0] not in ("HELLO", "CLIENT")]

    def test_a_look_up_is_one_hget_an_item(
        self, opened: Opens, redis_server: RedisServer, client: Any, filled: str
    ) -> None:
        requester = opened(redis_server.url, prefix=filled)
        wanted = [f"HGET {filled}:features a", f"HGET {filled}:features nowhere", f"HGET {filled}:segments s"]
        assert self.commands(client, filled, requester, *REFS) == wanted
        assert self.commands(client, filled, requester, REFS[0]) == wanted[:1]

    def test_everything_is_two_hgetall(
        self, opened: Opens, redis_server: RedisServer, client: Any, filled: str
    ) -> None:
        requester = opened(redis_server.url, prefix=filled)
        wanted = [f"HGETALL {filled}:features", f"HGETALL {filled}:segments"]
        assert self.commands(client, filled, requester) == wanted

    def test_the_applications_client_sends_the_same(self, redis_server: RedisServer, client: Any, filled: str) -> None:
        with redis.Redis.from_url(redis_server.url) as given:
            requester = RedisRequester(given, prefix=filled)
            assert self.commands(client, filled, requester, *REFS[:2]) == [
                f"HGET {filled}:features a",
                f"HGET {filled}:features nowhere",
            ]
            assert self.commands(client, filled, requester) == [
                f"HGETALL {filled}:features",
                f"HGETALL {filled}:segments",
            ]

    def test_a_user_who_may_only_read_the_prefix_is_enough(self, opened: Opens, own_server: RedisServer) -> None:
        with redis.Redis.from_url(own_server.url) as client:
            client.hset("mine:features", "a", '{"version": 1}')
            rights = ["resetkeys", "~mine:*", "resetchannels", "-@all", "+hget", "+hgetall", "+get", "+smembers"]
            client.execute_command("ACL", "SETUSER", "reader", "on", f">{SECRET}", *rights, "+exists")
        url = own_server.url.replace("//", f"//reader:{SECRET}@")
        requester = opened(url, prefix="mine")
        assert requester.get_many(REFS) == {("features", "a"): b'{"version": 1}'}
        assert requester.get_all() == {"features": {"a": b'{"version": 1}'}, "segments": {}}
        requester.close()
        other = opened(url, prefix="theirs")
        refused = other.get_many(REFS)
        assert list(refused) == REFS
        assert all(isinstance(error, StoreError) and "permission" in str(error) for error in refused.values())
        with pytest.raises(StoreError, match="permission"):
            other.get_all()
        other.close()


class TestRoundTrips:
    @pytest.fixture
    def requester(self, opened: Opens, proxy: Proxy, filled: str) -> Iterator[FeatureRequester]:
        """A requester that is connected, with the round trips of that forgotten."""
        requester = opened(proxy.url, prefix=filled)
        requester.get_many(REFS[:1])
        proxy.turns.clear()
        yield requester
        requester.close()

    def test_one_item_is_one_round_trip(self, proxy: Proxy, requester: FeatureRequester) -> None:
        assert len(requester.get_many(REFS[:1])) == 1
        assert proxy.round_trips == 1

    def test_many_items_of_both_kinds_are_one_round_trip(self, proxy: Proxy, requester: FeatureRequester) -> None:
        refs = [*REFS, *[("features", f"nowhere-{index}") for index in range(50)]]
        assert requester.get_many(refs) == {REFS[0]: b'{"version": 1}', REFS[2]: b'{"version": 2}'}
        assert proxy.round_trips == 1

    def test_everything_is_one_round_trip(self, proxy: Proxy, requester: FeatureRequester) -> None:
        assert {kind: len(items) for kind, items in requester.get_all().items()} == {"features": 1, "segments": 1}
        assert proxy.round_trips == 1

    def test_nothing_is_no_round_trip(self, proxy: Proxy, requester: FeatureRequester) -> None:
        assert requester.get_many([]) == {}
        assert proxy.round_trips == 0

    def test_a_new_connection_of_the_wire_is_none_besides(
        self, redis_server: RedisServer, proxy: Proxy, filled: str
    ) -> None:
        redis_server.ask("ACL", "SETUSER", "newcomer", "on", f">{SECRET}", "~*", "+hget", "+select")
        url = proxy.url.replace("://", f"://newcomer:{SECRET}@")
        requester = open_requester(f"{url}/1?client=wire", prefix=filled)
        assert requester.get_many(REFS) == {}
        assert (proxy.round_trips, proxy.connections) == (1, 1)
        requester.close()

    def test_each_read_is_a_round_trip_of_its_own_on_the_same_connection(
        self, proxy: Proxy, requester: FeatureRequester
    ) -> None:
        for _ in range(3):
            requester.get_many(REFS)
        assert proxy.round_trips == 3
        assert proxy.connections == 1


class TestARefusal:
    def test_an_item_of_another_type_is_an_error_in_its_place(
        self, opened: Opens, via: str, redis_server: RedisServer, client: Any, filled: str
    ) -> None:
        client.delete(f"{filled}:segments")
        client.set(f"{filled}:segments", "a string")
        requester = opened(redis_server.url, prefix=filled)
        found = requester.get_many(REFS)
        assert found[REFS[0]] == b'{"version": 1}'
        assert REFS[1] not in found
        assert isinstance(found[REFS[2]], StoreError)
        assert "WRONGTYPE" in str(found[REFS[2]])
        (alone,) = requester.get_many(REFS[2:]).values()
        assert isinstance(alone, StoreError)
        assert isinstance(alone.__cause__, REFUSED[via])
        requester.close()

    def test_a_kind_of_another_type_fails_the_read_of_everything(
        self, opened: Opens, redis_server: RedisServer, client: Any, filled: str
    ) -> None:
        client.delete(f"{filled}:segments")
        client.set(f"{filled}:segments", "a string")
        requester = opened(redis_server.url, prefix=filled)
        with pytest.raises(StoreError, match="WRONGTYPE"):
            requester.get_all()
        assert requester.get_many(REFS[:1]) == {REFS[0]: b'{"version": 1}'}
        requester.close()

    def test_a_database_that_is_not_there_is_a_store_error(
        self, opened: Opens, via: str, redis_server: RedisServer
    ) -> None:
        requester = opened(f"{redis_server.url}/99")
        if via == "wire":
            with pytest.raises(StoreError, match="Redis refused to read: DB index is out of range"):
                requester.get_many(REFS[:1])
        else:
            # Selecting it is part of connecting, so a single command is refused in its place and several as a whole.
            assert "out of range" in str(requester.get_many(REFS[:1])[REFS[0]])
        with pytest.raises(StoreError, match="out of range") as caught:
            requester.get_many(REFS)
        assert caught.value.answered
        with pytest.raises(StoreError, match="out of range"):
            requester.get_all()
        requester.close()

    def test_bytes_that_are_no_text_are_given_as_they_are(
        self, opened: Opens, redis_server: RedisServer, client: Any, filled: str
    ) -> None:
        client.hset(f"{filled}:features", "bad", b"\xff")
        requester = opened(redis_server.url, prefix=filled)
        assert requester.get_all()["features"] == {"a": b'{"version": 1}', "bad": b"\xff"}
        reader = FlagReader(requester)
        assert reader.variation_detail("bad", USER, 1).reason["errorKind"] == "MALFORMED_FLAG"
        requester.close()

    def test_bytes_that_a_decoding_client_cannot_read_spoil_nobody(
        self, redis_server: RedisServer, client: Any, filled: str
    ) -> None:
        client.hset(f"{filled}:features", "nowhere", b"\xff")
        with redis.Redis.from_url(redis_server.url, decode_responses=True) as given:
            requester = RedisRequester(given, prefix=filled)
            assert requester.get_all()["features"]["nowhere"] == b"\xff"
            assert requester.get_many([*REFS, ("features", "nowhere")])["features", "nowhere"] == b"\xff"
            assert requester.get_many(REFS[:1]) == {REFS[0]: b'{"version": 1}'}


class TestARedisThatDoesNotAnswer:
    def test_nothing_is_contacted_on_opening(self, opened: Opens, via: str, silent: socket.socket) -> None:
        opened(url_of(silent)).close()
        FlagReader.from_url(url_of(silent), client=via)
        assert connections_to(silent) == 0

    def test_a_closed_port_is_no_error_before_the_first_read(self, opened: Opens, via: str) -> None:
        requester = opened(f"redis://127.0.0.1:{free_port()}", timeout=BOUND)
        assert requester.get_many([]) == {}
        started = time.monotonic()
        for error in read_each_way(requester):
            assert "Redis did not answer" in str(error)
            assert "is it running" in str(error)
            assert isinstance(error.__cause__, UNREACHED[via])
        assert time.monotonic() - started < 3 * BOUND + MARGIN

    @pytest.mark.parametrize("refs", [REFS[:1], REFS, None], ids=["one", "many", "all"])
    def test_a_silent_server_is_waited_for_once_and_no_longer_than_the_timeout(
        self, opened: Opens, via: str, silent: socket.socket, refs: list[tuple[str, str]] | None
    ) -> None:
        requester = opened(url_of(silent), timeout=BOUND)
        started = time.monotonic()
        with pytest.raises(StoreError, match="Redis did not answer") as caught:
            requester.get_many(refs) if refs else requester.get_all()
        elapsed = time.monotonic() - started
        assert BOUND * 0.9 < elapsed < BOUND + MARGIN
        assert isinstance(caught.value.__cause__, LATE[via])
        assert connections_to(silent) == 1

    def test_a_late_answer_is_not_taken_for_the_next_one(self, opened: Opens, own_server: RedisServer) -> None:
        with redis.Redis.from_url(own_server.url) as client:
            client.hset("launchdarkly:features", mapping={"a": "first", "b": "second"})
        requester = opened(own_server.url, timeout=BOUND)
        assert requester.get_many([("features", "a")]) == {("features", "a"): b"first"}
        own_server.pause()
        with pytest.raises(StoreError):
            requester.get_many([("features", "a")])
        own_server.resume()
        assert requester.get_many([("features", "b")]) == {("features", "b"): b"second"}
        requester.close()

    def test_a_server_that_hangs_up_each_time_is_asked_twice(self, opened: Opens, proxy: Proxy, filled: str) -> None:
        requester = opened(proxy.url, prefix=filled)
        requester.get_all()
        proxy.to_cut = 1_000_000
        with pytest.raises(StoreError, match="Redis did not answer"):
            requester.get_all()
        assert proxy.connections <= 1 + 2  # a second try of the read may itself be a second try to connect
        proxy.to_cut = 0
        assert requester.get_many(REFS[:1]) == {REFS[0]: b'{"version": 1}'}
        requester.close()

    def test_a_flag_gives_its_default_with_the_reason_exception(self, via: str) -> None:
        reader = FlagReader.from_url(f"redis://127.0.0.1:{free_port()}", timeout=BOUND, client=via)
        detail = reader.variation_detail("a", USER, "default")
        assert detail.value == "default"
        assert detail.reason == {"kind": "ERROR", "errorKind": "EXCEPTION"}


class TestALostConnection:
    @pytest.mark.parametrize("refs", [REFS[:1], REFS, None], ids=["one", "many", "all"])
    def test_one_that_redis_has_ended_costs_one_reconnect_and_no_error(
        self, opened: Opens, own_server: RedisServer, refs: list[tuple[str, str]] | None
    ) -> None:
        requester = opened(own_server.url)
        requester.get_all()
        with redis.Redis.from_url(own_server.url) as client:
            before = client.info("stats")["total_connections_received"]
            assert client.client_kill_filter(_type="normal", skipme=True) == 1
            assert (requester.get_all() if refs is None else requester.get_many(refs)) is not None
            requester.get_all()
            assert client.info("stats")["total_connections_received"] == before + 1
        requester.close()

    @pytest.mark.parametrize("refs", [REFS[:1], REFS, None], ids=["one", "many", "all"])
    def test_one_that_ends_before_the_answer_is_asked_again(
        self, opened: Opens, proxy: Proxy, filled: str, refs: list[tuple[str, str]] | None
    ) -> None:
        requester = opened(proxy.url, prefix=filled)
        expected = opened(proxy.url, prefix=filled).get_many(REFS)
        everything = requester.get_all()
        before = proxy.connections
        proxy.to_cut = 1
        if refs is None:
            assert requester.get_all() == everything
        else:
            assert requester.get_many(refs) == {ref: expected[ref] for ref in refs if ref in expected}
        assert proxy.connections == before + 1
        assert proxy.to_cut == 0
        requester.close()


class TestTheApplicationsClient:
    def test_it_leaves_the_applications_client_connected(
        self, redis_server: RedisServer, client: Any, prefix: str
    ) -> None:
        with redis.Redis.from_url(redis_server.url) as given:
            requester = RedisRequester(given, prefix=prefix)
            requester.get_all()
            connection = given.client_id()
            requester.close()
            assert given.client_id() == connection


class TestUrl:
    def test_a_database_and_a_unix_socket_can_be_named(self, opened: Opens, own_server: RedisServer) -> None:
        with redis.Redis.from_url(own_server.url, db=3) as client:
            client.hset("launchdarkly:features", "third", "{}")
        host = own_server.url.removeprefix("redis")
        for url, keys in (
            (f"redis{host}", set()),
            (f"redis{host}/3", {"third"}),
            (f"REDIS{host}/3", {"third"}),
            (f"redis{host}?db=3", {"third"}),
            (f"unix://{own_server.socket_path}", set()),
            (f"unix://{own_server.socket_path}?db=3&timeout=1", {"third"}),
        ):
            requester = opened(url)
            assert requester.get_all()["features"].keys() == keys
            requester.close()

    @pytest.mark.parametrize(
        ("in_url", "in_code"),
        [("", {}), ("&client=redis-py", {}), ("&client=redis-py&max_connections=1", {"max_connections": 2})],
    )
    def test_an_option_in_code_wins_over_the_url(
        self, own_server: RedisServer, in_url: str, in_code: dict[str, Any]
    ) -> None:
        with redis.Redis.from_url(own_server.url, db=3) as client:
            client.hset("launchdarkly:features", "third", "{}")
        requester = open_requester(f"{own_server.url}/1?db=2{in_url}", db=3, **in_code)
        assert requester.get_all()["features"].keys() == {"third"}
        requester.close()

    @pytest.mark.parametrize(
        ("query", "options"), [("?max_connections=1", {}), ("?max_connections=9", {"max_connections": 1})]
    )
    def test_connections_can_be_limited_in_url_and_code(
        self, silent: socket.socket, query: str, options: dict[str, Any]
    ) -> None:
        requester = open_requester(url_of(silent) + query, timeout=10 * MARGIN, **options)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(requester.get_all)
            assert select.select([silent], [], [], MARGIN)[0]  # it has connected, and waits for an answer
            with pytest.raises(StoreError, match="Too many connections|Maximum"):
                requester.get_all()
            silent.close()  # what nobody has accepted is reset
            assert isinstance(first.exception(), StoreError)

    def test_a_timeout_in_code_wins_over_the_url(self, opened: Opens, silent: socket.socket) -> None:
        started = time.monotonic()
        with pytest.raises(StoreError):
            opened(f"{url_of(silent)}?timeout=1000", timeout=BOUND).get_all()
        assert time.monotonic() - started < BOUND + MARGIN

    def test_a_timeout_of_the_url_counts(self, opened: Opens, silent: socket.socket) -> None:
        started = time.monotonic()
        with pytest.raises(StoreError):
            opened(f"{url_of(silent)}?timeout={BOUND}").get_all()
        assert BOUND * 0.9 < time.monotonic() - started < BOUND + MARGIN

    @pytest.mark.parametrize("query", ["?prefx=a", "?prefx=", "?prefx"])
    def test_an_unknown_option_of_the_url_names_the_nearest(self, query: str) -> None:
        with pytest.raises(ConfigurationError, match="unknown option for Redis 'prefx'; did you mean 'prefix'"):
            open_requester(f"redis://localhost{query}")

    def test_an_option_of_tls_is_known_where_there_is_tls(self) -> None:
        open_requester("rediss://localhost?ssl_ca_certs=ca.pem", ssl_cert_reqs="required")
        with pytest.raises(ConfigurationError, match="unknown option for Redis 'ssl_ca_certs'"):
            open_requester("redis://localhost?ssl_ca_certs=ca.pem")

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("redis:localhost", "redis://"),
            ("redis://localhost:port", "check host and port"),
            ("redis://localhost:99999", "check host and port"),
            ("redis://[::1", "check host and port"),
            ("redis://localhost?db=x", "db"),
            ("redis://localhost?max_connections=x", "max_connections"),
        ],
    )
    @pytest.mark.parametrize("options", EITHER)
    def test_one_that_cannot_be_used_is_refused_when_opening(
        self, url: str, said: str, options: dict[str, str]
    ) -> None:
        with pytest.raises(ConfigurationError, match="Redis URL cannot be used") as caught:
            open_requester(url, **options)
        assert said in str(caught.value)


class TestPasswords:
    @pytest.fixture
    def locked(self, own_server: RedisServer) -> RedisServer:
        """A server that asks for a password."""
        with redis.Redis.from_url(own_server.url) as client:
            client.config_set("requirepass", SECRET)
        return own_server

    def test_the_right_one_opens_from_url_and_code(self, opened: Opens, locked: RedisServer) -> None:
        for url, options in (
            (locked.url.replace("//", f"//:{SECRET}@"), {}),
            (f"{locked.url}?password={SECRET}", {}),
            (locked.url, {"password": SECRET}),
            (locked.url.replace("//", "//:wrong@"), {"password": SECRET}),
        ):
            requester = opened(url, **options)
            assert requester.get_all() == {"features": {}, "segments": {}}
            requester.close()

    @pytest.mark.parametrize(("query", "options"), [("", {}), ("?password=wr0ng", {}), ("", {"password": "wr0ng"})])
    def test_a_wrong_one_is_a_store_error_that_does_not_show_it(
        self,
        opened: Opens,
        via: str,
        locked: RedisServer,
        query: str,
        options: dict[str, Any],
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        url = locked.url.replace("//", "//someone:0ther-wr0ng@") + query
        for error in read_each_way(opened(url, **options)):
            assert "wr0ng" not in said(error)
            assert isinstance(error.__cause__, LOCKED_OUT[via])
        assert FlagReader.from_url(url, **options, client=via).variation("a", USER, 1) == 1
        out, err = capfd.readouterr()
        shown = caplog.text + out + err
        assert "refused the user name or password" in shown
        assert "wr0ng" not in shown

    def test_none_where_one_is_asked_for_is_a_store_error(self, opened: Opens, locked: RedisServer) -> None:
        for error in read_each_way(opened(locked.url)):
            assert "authenticat" in str(error).lower()

    def test_a_server_that_is_not_there_does_not_show_one(self, opened: Opens) -> None:
        requester = opened(f"redis://someone:{SECRET}@127.0.0.1:{free_port()}?password={SECRET}")
        for error in read_each_way(requester):
            assert SECRET not in said(error)

    @pytest.mark.parametrize(
        "url",
        [
            f"redis://:{SECRET}/{SECRET}@localhost",
            f"redis://:{SECRET}#{SECRET}@localhost",
            f"redis://:{SECRET}?{SECRET}@localhost",
            f"redis://:{SECRET}?{SECRET}=1@localhost",
            f"redis://someone:1?{SECRET}@localhost:6379",
            f"redis://:{SECRET}\u2100@localhost",
            f"redis://:{SECRET}@localhost:port",
            f"redis://:{SECRET}@[::1",
            f"redis://:{SECRET}@localhost?db=x",
            f"redis://:{SECRET}@localhost?prefx=x",
            f"redis://:{SECRET}@localhost?timeout=x",
            f"redis:{SECRET}@localhost",
            f"redsi://:{SECRET}@localhost",
            f"{SECRET}@localhost:6379",
        ],
    )
    @pytest.mark.parametrize("options", EITHER)
    def test_a_url_that_is_refused_does_not_show_one(self, url: str, options: dict[str, str]) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_requester(url, **options)
        shown = "".join(traceback.format_exception_only(caught.value))
        assert SECRET not in shown
        assert caught.value.__cause__ is None or SECRET not in str(caught.value.__cause__)

    def test_a_refused_option_does_not_show_its_value(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_requester("redis://localhost", passwort=SECRET)
        assert SECRET not in str(caught.value)
