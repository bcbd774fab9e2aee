"""Redis as people run it: TLS, ACL users, Unix sockets, Sentinel, Cluster; and Redis on its bad days."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import redis.sentinel

from ldreader import ConfigurationError, FeatureRequester, FlagReader, RedisRequester, StoreError
from ldreader.requesters import open_requester
from ldreader.testing import RequesterBehaviour
from tests.redis_fixtures import Certificates, answering_port, full_port, silent_port
from tests.servers import RedisCluster, RedisSentinel, RedisServer, free_port, lacking, until

OLDEST = "5.0.8"
USER, PASSWORD = "re@der/1", "p@ss/w:rd#?%41&é"
LEAST = "resetkeys %R~{}* resetchannels -@all +hget +hgetall +get +smembers +exists"
BOTH_ODD = [("features", "a"), ("features", "odd"), ("segments", "s")]
CONTEXT = {"kind": "user", "key": "ada"}
SPREAD = "books"  # a prefix under which flags and segments are on two nodes of the cluster


def flag(value: str, **members: Any) -> str:
    """A flag that serves one value."""
    return json.dumps({"key": "a", "version": 1, "on": True, "variations": [value, "no"], "offVariation": 1} | members)


SERVES = flag("yes", fallthrough={"variation": 0})
IN_SEGMENT = flag(
    "yes",
    fallthrough={"variation": 1},
    rules=[{"id": "r", "variation": 0, "clauses": [{"op": "segmentMatch", "values": ["s"]}]}],
)
SEGMENT = '{"key": "s", "version": 1, "included": ["ada"]}'


class RedisStore:
    """A topology: its address, its servers, and an administrator's client that fills it by plain commands."""

    has_prefixes = True
    holds_any_text = True

    def __init__(self, admin: Any, servers: list[RedisServer], url: str, **options: Any) -> None:
        self.admin = admin
        self.servers = servers
        self.url = url
        self.options = options
        self.opened: list[FeatureRequester] = []
        self.questions = 0

    def requester(self, prefix: str, **options: Any) -> RedisRequester:
        requester = open_requester(self.url, prefix=prefix, **self.options, **options)
        assert isinstance(requester, RedisRequester)
        self.opened.append(requester)
        return requester

    def put(self, prefix: str, kind: str, key: str, text: str | bytes) -> None:
        self.admin.hset(f"{prefix}:{kind}", key, text)

    def connections(self) -> int:
        """How many connections were made to all servers so far, not counting those that this question takes."""
        self.questions += len(self.servers)
        return sum(int(figure(server, "stats", "total_connections_received")) for server in self.servers) - (
            self.questions
        )

    def close(self) -> None:
        for requester in self.opened:
            requester.close()
        self.admin.close()


def figure(server: RedisServer, section: str, name: str) -> str:
    """One figure of what the server tells about itself."""
    lines = server.ask("INFO", section).splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:"))


def clients_of(server: RedisServer) -> list[str]:
    """What the server tells about each of its connections."""
    return [line for line in server.ask("CLIENT", "LIST").splitlines() if line.startswith("id=")]


def admin_of(server: RedisServer, **options: Any) -> Any:
    return redis.Redis(unix_socket_path=str(server.socket_path), **options)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_options(certificates: Certificates) -> dict[str, str]:
    """What a client needs for the TLS server."""
    return {
        "ssl_ca_certs": str(certificates.ca),
        "ssl_certfile": str(certificates.certificate("client")),
        "ssl_keyfile": str(certificates.key("client")),
    }


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[tuple[RedisServer, int]]:
    """A server with TLS that demands a certificate of the client and has a user who may read; with its TLS port."""
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "yes", "--tls-ca-cert-file", str(certificates.ca)]
    options += ["--tls-cert-file", str(certificates.certificate("server"))]
    options += ["--tls-key-file", str(certificates.key("server"))]
    with RedisServer(*options) as server:
        server.ask("ACL", "SETUSER", USER, "on", f">{PASSWORD}", *LEAST.format("test-").split())
        yield server, port


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster("--cluster-require-full-coverage", "no") as running:
        yield running


@contextmanager
def watched_pair(*lines: str) -> Iterator[tuple[RedisServer, RedisServer, RedisSentinel]]:
    """A master, its replica and the Sentinel that knows both."""
    with ExitStack() as running:
        master = running.enter_context(RedisServer("--repl-diskless-sync-delay", "0"))
        replica = running.enter_context(RedisServer("--replicaof", "127.0.0.1", str(master.port)))
        until(lambda: figure(replica, "replication", "master_link_status") == "up", "the replica")
        sentinel = RedisSentinel(master, *lines)
        running.enter_context(sentinel)
        if not lines:
            until(lambda: "slaves=1" in sentinel.ask("INFO", "sentinel"), "the Sentinel to know the replica")
        yield master, replica, sentinel


@pytest.fixture(scope="module")
def sentinel_pair() -> Iterator[tuple[RedisServer, RedisServer, RedisSentinel]]:
    with watched_pair() as pair:
        yield pair


@pytest.fixture
def tcp_store(redis_server: RedisServer) -> RedisStore:
    return RedisStore(admin_of(redis_server), [redis_server], redis_server.url)


@pytest.fixture
def tls_store(tls_server: tuple[RedisServer, int], tls_options: dict[str, str]) -> RedisStore:
    server, port = tls_server
    url = f"rediss://{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
    return RedisStore(admin_of(server), [server], url, **tls_options)


@pytest.fixture
def unix_store(redis_server: RedisServer) -> RedisStore:
    return RedisStore(admin_of(redis_server, db=1), [redis_server], f"unix://{redis_server.socket_path}?db=1")


@pytest.fixture
def sentinel_store(sentinel_pair: tuple[RedisServer, RedisServer, RedisSentinel]) -> RedisStore:
    master, _, sentinel = sentinel_pair
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/{sentinel.service}/2"
    return RedisStore(admin_of(master, db=2), [master, sentinel], url)


@pytest.fixture
def cluster_store(cluster: RedisCluster) -> RedisStore:
    admin = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    return RedisStore(admin, cluster.nodes, cluster.url)


ONE_SERVER = ["tcp", "tls", "unix"]
TOPOLOGIES = [*ONE_SERVER, "sentinel", "cluster"]
EVERY_WAY = [(topology, "wire") for topology in ONE_SERVER] + [(topology, "redis-py") for topology in TOPOLOGIES]
"""Each topology with each client that serves it."""


@pytest.fixture(params=["wire", "redis-py"])
def via(request: pytest.FixtureRequest) -> str:
    """The client that reads."""
    name: str = request.param
    return name


class TestEveryTopology(RequesterBehaviour):
    """What holds however Redis is reached."""

    @pytest.fixture(params=EVERY_WAY, ids="-".join)
    def store(self, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        topology, client = request.param
        store: RedisStore = request.getfixturevalue(f"{topology}_store")
        store.options["client"] = client
        yield store
        store.close()

    def test_opening_contacts_nothing(self, store: RedisStore, prefix: str) -> None:
        before = store.connections()
        store.requester(prefix)
        assert store.connections() == before

    def test_a_connection_that_was_closed_while_idle_costs_one_new_one_and_no_default(
        self, store: RedisStore, prefix: str
    ) -> None:
        store.put(prefix, "features", "a", SERVES)
        requester = store.requester(prefix)
        requester.get_many([("features", "a")])
        for server in store.servers:
            server.ask("CLIENT", "KILL", "TYPE", "normal")
        before = store.connections()
        assert requester.get_many([("features", "a")]) == {("features", "a"): SERVES.encode()}
        # One to a Sentinel, or one that asks a cluster for its slots, may come with it; the Sentinel was cut off too.
        assert 1 <= store.connections() - before <= len(store.servers) + ("sentinel" in store.url)

    def test_closing_lets_go_of_every_connection(self, store: RedisStore, prefix: str) -> None:
        requester = store.requester(prefix)

        def connected() -> set[tuple[int, str]]:
            clients = [(server.port, line) for server in store.servers for line in clients_of(server)]
            return {
                (port, line.split()[0])
                for port, line in clients
                if "cmd=client|list" not in line and "name=sentinel" not in line
            }

        before = connected()
        requester.get_all()
        requester.get_big_segments(["a", "b", "c"])
        opened = connected() - before
        assert opened
        requester.close()
        until(lambda: not opened & connected(), "the connections to go away")

    def test_big_segments_come_from_the_same_store(self, store: RedisStore, prefix: str) -> None:
        store.admin.set(f"{prefix}:big_segments_synchronized_on", "1700000000123")
        store.admin.sadd(f"{prefix}:big_segment_include:H/a+s=", "both.g1", "in.g2")
        store.admin.sadd(f"{prefix}:big_segment_exclude:H/a+s=", "both.g1", "out.g3")
        metadata, memberships = store.requester(prefix).get_big_segments(["H/a+s=", "nobody"])
        assert metadata.last_up_to_date == 1700000000123
        assert memberships == {"H/a+s=": {"both.g1": True, "in.g2": True, "out.g3": False}, "nobody": None}

    def test_an_item_of_which_the_store_holds_another_type_spoils_its_own_kind_only(
        self, store: RedisStore, prefix: str
    ) -> None:
        store.admin.set(f"{prefix}:features", "no hash")
        store.put(prefix, "segments", "s", SEGMENT)
        found = store.requester(prefix).get_many([("features", "a"), ("segments", "s"), ("features", "b")])
        assert isinstance(found["features", "a"], StoreError)
        assert isinstance(found["features", "b"], StoreError)
        assert found["segments", "s"] == SEGMENT.encode()

    def test_a_deadline_that_is_over_is_a_store_error_and_costs_no_connection(
        self, store: RedisStore, prefix: str
    ) -> None:
        store.put(prefix, "features", "a", SERVES)
        requester = store.requester(prefix)
        assert requester.get_many([("features", "a")], time.monotonic() + 5) == {("features", "a"): SERVES.encode()}
        before = store.connections()
        for read in (lambda end: requester.get_many([("features", "a")], end), requester.get_all):
            with pytest.raises(StoreError, match="did not answer: timed out"):
                read(time.monotonic())
        with pytest.raises(StoreError, match="did not answer: timed out"):
            requester.get_big_segments(["a"], time.monotonic())
        assert requester.get_all(time.monotonic() + 5)["features"] == {"a": SERVES.encode()}
        # In a cluster and behind a Sentinel it is the first read of another node.
        assert store.connections() - before <= len(store.servers) - 1


class TestEitherProtocol:
    @pytest.fixture(params=TOPOLOGIES)
    def store(self, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        store: RedisStore = request.getfixturevalue(f"{request.param}_store")
        yield store
        store.close()

    @pytest.mark.parametrize("protocol", [2, 3])
    def test_it_gives_the_items_own_bytes(self, store: RedisStore, protocol: int) -> None:
        store.options |= {"protocol": protocol, "decode_responses": True}
        store.put("test-protocol", "features", "a", SERVES)
        store.put("test-protocol", "features", "odd", b"\xff")
        store.put("test-protocol", "segments", "s", SEGMENT)
        requester = store.requester("test-protocol")
        assert list(requester.get_many(BOTH_ODD).values()) == [SERVES.encode(), b"\xff", SEGMENT.encode()]
        assert requester.get_all()["features"] == {"a": SERVES.encode(), "odd": b"\xff"}


class TestTheApplicationsClient:
    """A client that the application has already serves as well."""

    @pytest.fixture(params=TOPOLOGIES)
    def store(self, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        store: RedisStore = request.getfixturevalue(f"{request.param}_store")
        yield store
        store.close()

    @pytest.mark.parametrize("decodes", [False, True], ids=["bytes", "decode_responses"])
    def test_it_gives_the_items_own_bytes_and_stays_open(self, store: RedisStore, decodes: bool) -> None:
        client = self.client(store, decode_responses=decodes)
        store.put("test-client", "features", "a", SERVES)
        store.put("test-client", "features", "odd", b"\xff")
        store.put("test-client", "segments", "s", SEGMENT)
        requester = RedisRequester(client, prefix="test-client")
        for _ in range(2):
            assert list(requester.get_many(BOTH_ODD).values()) == [SERVES.encode(), b"\xff", SEGMENT.encode()]
            everything = requester.get_all()
            assert everything["features"] == {"a": SERVES.encode(), "odd": b"\xff"}
            assert requester.get_many([("features", "odd")]) == {("features", "odd"): b"\xff"}
            before = store.connections()
            requester.close()
            assert client.hget("test-client:segments", "s") in (SEGMENT, SEGMENT.encode())
            assert store.connections() == before
        client.close()

    def client(self, store: RedisStore, **options: Any) -> Any:
        port = store.servers[0].port
        if len(store.servers) == 3:
            return redis.RedisCluster(host="127.0.0.1", port=port, **options)
        if len(store.servers) == 2:
            manager = redis.sentinel.Sentinel([("127.0.0.1", store.servers[1].port)])  # type: ignore[no-untyped-call]
            return manager.master_for("flags", db=2, **options)  # type: ignore[no-untyped-call]
        return redis.Redis.from_url(store.url, **store.options, **options)


def refusal(url: str, **options: Any) -> str:
    """The message of the error that a read meets."""
    requester = open_requester(url, **options)
    with pytest.raises(StoreError) as caught:
        requester.get_many([("features", "a"), ("segments", "b")])
    requester.close()
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    assert quote(PASSWORD, safe="") not in message
    return message


class TestWhatIsRefused:
    """One clear line each, and never a password."""

    def test_a_wrong_password(self, via: str, tls_store: RedisStore) -> None:
        url = tls_store.url.replace("%25", "wrong")
        assert "refused the user name or password" in refusal(url, **tls_store.options, client=via)
        assert "wrong" not in refusal(url, **tls_store.options, client=via)

    def test_a_server_of_another_authority(self, via: str, tls_store: RedisStore, tmp_path: Path) -> None:
        options = tls_store.options | {"ssl_ca_certs": str(Certificates(tmp_path).ca)}
        assert "certificate verify failed" in refusal(tls_store.url, **options, client=via).lower()

    def test_no_client_certificate(self, via: str, tls_store: RedisStore) -> None:
        assert "did not answer" in refusal(tls_store.url, ssl_ca_certs=tls_store.options["ssl_ca_certs"], client=via)

    def test_tls_where_there_is_none(self, via: str, redis_server: RedisServer) -> None:
        assert "did not answer" in refusal(f"rediss://127.0.0.1:{redis_server.port}", timeout=0.5, client=via)

    def test_another_prefix_than_the_user_may_read(self, via: str, tls_store: RedisStore) -> None:
        found = tls_store.requester("other", client=via).get_many([("features", "a"), ("segments", "b")])
        for error in found.values():
            assert isinstance(error, StoreError)
            assert "refused to read" in str(error)

    def test_a_database_that_the_user_may_not_select(self, via: str, tls_store: RedisStore) -> None:
        assert "select" in refusal(f"{tls_store.url}/1", **tls_store.options, client=via)

    def test_a_name_that_does_not_resolve(self, via: str) -> None:
        assert "nowhere.invalid" in refusal("redis://nowhere.invalid", client=via)

    def test_an_unknown_sentinel_service(self, sentinel_store: RedisStore) -> None:
        assert "'other'" in refusal(sentinel_store.url.replace("/flags", "/other"))

    @pytest.mark.parametrize(
        ("url", "options", "says"),
        [
            ("redis://127.0.0.1/flags", {"client": "redis-py"}, "database is a number"),
            ("redis://127.0.0.1/flags", {}, "database is a number"),
            ("redis://127.0.0.1:port", {}, "percent-encoded"),
            ("redis://:pass/word@127.0.0.1", {}, "percent-encoded"),
            ("redis://:pass?word@127.0.0.1", {}, "percent-encoded"),
            ("redis://:pass#word@127.0.0.1", {}, "percent-encoded"),
            ("redis://:pass[word@127.0.0.1", {}, "percent-encoded"),
            ("redis://127.0.0.1?protocol=4", {}, "protocol"),
            ("redis://127.0.0.1?sentinel_password=x", {}, "sentinel_password"),
            ("redis://127.0.0.1?ssl_ca_certs=x", {}, "ssl_ca_certs"),
            ("redis://:secret@127.0.0.1", {"credential_provider": object()}, "credential_provider"),
            ("rediss://127.0.0.1", {"ssl_ca_cert": "x"}, "did you mean 'ssl_ca_certs'?"),
            ("redis+sentinel://127.0.0.1:1", {}, "redis+sentinel://HOST/SERVICE"),
            ("redis+sentinel://127.0.0.1/flags?sentinel_passwort=x", {}, "did you mean 'sentinel_password'?"),
            ("redis+cluster://127.0.0.1/1", {}, "database 0"),
        ],
    )
    def test_an_address_or_option_that_makes_no_sense_when_opening(
        self, url: str, options: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_requester(url, **options)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        if "secret" in url or ":pass" in url:
            assert "secret" not in str(caught.value)
            assert ":pass" not in url or "pass" not in str(caught.value).replace("password", "")
            assert "word@" not in str(caught.value)


class TestCredentials:
    def test_a_database_is_named_by_the_path_or_by_an_option(self, redis_server: RedisServer, via: str) -> None:
        for database in (0, 3):
            with admin_of(redis_server, db=database) as admin:
                admin.hset("test-databases:features", "a", flag(f"from {database}"))
        for url, expected in [
            (redis_server.url, 0),
            (f"{redis_server.url}/3", 3),
            (f"{redis_server.url}?db=3", 3),
            (f"{redis_server.url}/0?db=3", 3),
            (f"unix://{redis_server.socket_path}", 0),
            (f"unix://{redis_server.socket_path}?db=3", 3),
        ]:
            requester = open_requester(url, prefix="test-databases", client=via)
            assert requester.get_many([("features", "a")]) == {("features", "a"): flag(f"from {expected}").encode()}
            requester.close()

    def test_short_lived_credentials_are_asked_for_at_each_connection(self, redis_server: RedisServer) -> None:
        class Rotating(redis.CredentialProvider):
            """Gives the password of the day."""

            asked = 0

            def get_credentials(self) -> tuple[str, str]:
                self.asked += 1
                return "rotating", password

        provider = Rotating()
        url = f"redis://127.0.0.1:{redis_server.port}"
        requester = open_requester(url, prefix="test-rotating", credential_provider=provider)
        for day in range(3):
            password = f"of day {day}"
            redis_server.ask("ACL", "SETUSER", "rotating", "on", "resetpass", f">{password}", *LEAST.format("").split())
            redis_server.ask("CLIENT", "KILL", "TYPE", "normal")
            assert requester.get_all() == {"features": {}, "segments": {}}
            assert requester.get_all() == {"features": {}, "segments": {}}
            assert provider.asked == day + 1
        redis_server.ask("ACL", "SETUSER", "rotating", "off")
        redis_server.ask("CLIENT", "KILL", "TYPE", "normal")
        with pytest.raises(StoreError, match="refused the user name or password"):
            requester.get_all()
        requester.close()

    def test_sentinels_have_a_user_and_password_of_their_own(self) -> None:
        with watched_pair(f"user watcher on >{PASSWORD} ~* &* +@all", "user default off") as (master, _, sentinel):
            with admin_of(master) as admin:
                admin.hset("p:features", "a", SERVES)
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/flags?prefix=p"
            options = {"sentinel_username": "watcher", "sentinel_password": PASSWORD}
            in_url = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
            for requester in (open_requester(url, **options), open_requester(f"{url}&{in_url}")):
                assert requester.get_many([("features", "a")]) == {("features", "a"): SERVES.encode()}
                requester.close()
            assert "'flags'" in refusal(url, sentinel_username="other", sentinel_password=PASSWORD)


def as_sent(words: list[str]) -> str:
    """A command in Redis's protocol."""
    return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)


def commands_seen(server: RedisServer, work: Callable[[], None]) -> list[str]:
    """The commands that a server gets over the network while something is done, as MONITOR tells them."""
    with admin_of(server) as admin, admin.monitor() as monitor:
        work()
        admin.echo("the end")
        seen: list[str] = []
        while not (entry := monitor.next_command())["command"].startswith("ECHO"):
            if entry["client_type"] != "unix":  # the administrator's
                seen.append(entry["command"])
    return seen


class TestLeastPrivilege:
    def test_a_new_connection_introduces_itself_and_no_more(self) -> None:
        """What MONITOR does not show, since Redis 7.0 does not know it, counts as well."""
        sent: list[str] = []

        def records(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            for command in asked.decode().split("*")[1:]:
                sent.append(" ".join(command.split("\r\n")[2::2]).strip())
                connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n" if sent[-1].startswith("HELLO") else b"+OK\r\n")

        with answering_port(records) as port:
            requester = open_requester(f"redis://127.0.0.1:{port}?prefix=p&protocol=3")
            requester.get_many([("features", "a")])
            requester.close()
        assert [command for command in sent if not command.startswith("CLIENT SETINFO")] == [
            "HELLO 3",
            "HGET p:features a",
        ]

    def everything(self, url: str, **options: Any) -> Callable[[], None]:
        def work() -> None:
            with FlagReader.from_url(url, prefix="test-least", **options) as reader:
                with reader.request(CONTEXT) as flags:
                    assert flags.variation_detail("a", "default").value == "yes"
                    assert flags.variation_detail("b", "default").value == "yes"
                    assert flags.variation_detail("big", "default").reason["bigSegmentsStatus"] == "STALE"
                    assert flags.all_flags_state().valid
                assert reader.big_segment_store_status().available

        return work

    def fill(self, store: RedisStore) -> None:
        store.put("test-least", "features", "a", SERVES)
        store.put("test-least", "features", "b", IN_SEGMENT)
        store.put("test-least", "features", "big", IN_SEGMENT.replace('"s"', '"big"'))
        store.put("test-least", "segments", "s", SEGMENT)
        store.put("test-least", "segments", "big", '{"key": "big", "version": 1, "unbounded": true, "generation": 1}')

    def test_a_new_connection_of_the_wire_does_not_even_introduce_itself(self) -> None:
        sent: list[bytes] = []

        def records(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            sent.append(asked)
            connection.sendall(b"+OK\r\n" * 2 + b"$-1\r\n")

        with answering_port(records) as port:
            requester = open_requester(f"redis://me:word@127.0.0.1:{port}/3?prefix=p")
            assert requester.get_many([("features", "a")]) == {}
            requester.close()
        commands = [["AUTH", "me", "word"], ["SELECT", "3"], ["HGET", "p:features", "a"]]
        assert sent == ["".join(map(as_sent, commands)).encode()]

    @pytest.mark.parametrize("protocol", [{"client": "wire"}, {"protocol": 2}, {"protocol": 3}])
    def test_a_user_who_may_only_read_the_prefix_reads_everything_and_nothing_else_is_sent(
        self, tls_store: RedisStore, protocol: dict[str, Any]
    ) -> None:
        self.fill(tls_store)
        (server,) = tls_store.servers
        server.ask("ACL", "LOG", "RESET")
        seen = commands_seen(server, self.everything(tls_store.url, **protocol, **tls_store.options))
        tls_store.close()
        via_wire = protocol == {"client": "wire"}
        by_name = {command.split()[0] for command in seen}
        reads = {"HGET", "HGETALL", "GET", "SMEMBERS"}
        assert reads <= by_name <= reads | ({"AUTH"} if via_wire else {"HELLO", "AUTH"})
        assert all(command.split()[1].startswith("test-least:") for command in seen if command[:2] not in ("HE", "AU"))

    def test_a_cluster_asks_for_its_slots_besides(self, cluster_store: RedisStore) -> None:
        self.fill(cluster_store)
        for server in cluster_store.servers:
            grants = [*LEAST.format("test-least:").split(), "+cluster|slots", "+command", "+info"]
            server.ask("ACL", "SETUSER", "reader", "on", ">secret", *grants)
        self.everything(cluster_store.url.replace("://", "://reader:secret@"))()
        cluster_store.close()


BOUND = 0.4  # seconds for connecting, and for a reply
MARGIN = 0.35  # less than waiting once more


def cost(url: str, **options: Any) -> float:
    """The seconds that a whole request takes in which every flag gets its default."""
    with FlagReader.from_url(url, timeout=BOUND, **options) as reader, reader.request(CONTEXT) as flags:
        started = time.monotonic()
        for index in range(5):
            detail = flags.variation_detail(f"flag-{index}", "default")
            assert (detail.value, detail.reason) == ("default", {"kind": "ERROR", "errorKind": "EXCEPTION"})
        assert not flags.all_flags_state().valid
        return time.monotonic() - started


def hangs_up(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def answers_late(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
    over.wait(0.8 * BOUND)
    connection.sendall(b"+OK\r\n")


def trickles(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
    connection.sendall(b"$100000\r\n")
    while not over.wait(0.05):
        connection.sendall(b"x")


def trickles_flags(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
    if b"HGET" in asked:
        trickles(connection, asked, over)
    connection.sendall(b"+OK\r\n" * asked.count(b"*"))


class TestBoundedWaits:
    """A store that is dead, silent, slow or refusing costs a request no more than connecting and one reply may take."""

    @pytest.mark.parametrize(
        ("opened", "bounds"),
        [
            (silent_port, 1),
            (full_port, 1),
            (lambda: answering_port(hangs_up), 0),
            (lambda: answering_port(answers_late), 2),
            (lambda: answering_port(trickles), 1),
            (lambda: answering_port(trickles_flags), 1),
        ],
        ids=["is silent", "cannot be connected to", "hangs up", "answers late", "trickles", "trickles later"],
    )
    @pytest.mark.parametrize("query", ["client=wire", "protocol=2"])
    def test_a_store_that(self, opened: Callable[[], AbstractContextManager[int]], bounds: int, query: str) -> None:
        with opened() as port:
            assert cost(f"redis://127.0.0.1:{port}?{query}") <= bounds * BOUND + MARGIN

    @pytest.mark.parametrize(
        ("opened", "bounds"),
        [(silent_port, 1), (lambda: answering_port(hangs_up), 0), (lambda: answering_port(trickles), 1)],
        ids=["is silent", "hangs up", "trickles"],
    )
    def test_a_store_with_tls_that(
        self, opened: Callable[[], AbstractContextManager[int]], bounds: int, via: str
    ) -> None:
        with opened() as port:
            assert cost(f"rediss://127.0.0.1:{port}", client=via) <= bounds * BOUND + MARGIN

    @pytest.mark.parametrize("scheme", ["redis+sentinel", "redis+cluster"])
    @pytest.mark.parametrize(
        "opened",
        [silent_port, full_port, lambda: answering_port(trickles)],
        ids=["are silent", "cannot be connected to", "trickle"],
    )
    def test_three_addresses_that(self, opened: Callable[[], AbstractContextManager[int]], scheme: str) -> None:
        with ExitStack() as ports:
            hosts = ",".join(f"127.0.0.1:{ports.enter_context(opened())}" for _ in range(3))
            # Each gets its chance, within the time for connecting and a reply.
            assert cost(f"{scheme}://{hosts}/{'flags' * ('sentinel' in scheme)}") <= 2 * BOUND + MARGIN

    @pytest.mark.parametrize("opened", [silent_port, full_port])
    def test_two_sentinels_that_are_dead_leave_time_for_the_third(
        self, opened: Callable[[], AbstractContextManager[int]], sentinel_store: RedisStore
    ) -> None:
        sentinel_store.put("test-third", "features", "a", SERVES)
        with opened() as one, opened() as two:
            url = f"redis+sentinel://127.0.0.1:{one},127.0.0.1:{two},127.0.0.1:{sentinel_store.servers[1].port}/flags/2"
            with FlagReader.from_url(url, prefix="test-third", timeout=BOUND) as reader:
                started = time.monotonic()
                assert reader.variation("a", CONTEXT, "default") == "yes"
                assert time.monotonic() - started <= BOUND + MARGIN
        sentinel_store.close()

    @pytest.mark.parametrize(
        ("scheme", "client"),
        [
            *[(scheme, client) for scheme in ("redis", "rediss") for client in ("wire", "redis-py")],
            *[(scheme, "redis-py") for scheme in ("redis+sentinel", "redis+cluster")],
        ],
    )
    def test_a_closed_port_costs_nothing(self, scheme: str, client: str) -> None:
        service = "/flags" if "sentinel" in scheme else ""
        assert cost(f"{scheme}://127.0.0.1:{free_port()}{service}", client=client) <= MARGIN

    def test_a_socket_that_is_not_there_costs_nothing(self, tmp_path: Path, via: str) -> None:
        assert cost(f"unix://{tmp_path / 'redis.sock'}", client=via) <= MARGIN

    @pytest.mark.parametrize(("topology", "client"), EVERY_WAY)
    def test_a_server_that_stands_still_is_waited_for_once_and_then_read_again(
        self, topology: str, client: str, request: pytest.FixtureRequest
    ) -> None:
        store: RedisStore = request.getfixturevalue(f"{topology}_store")
        store.put("test-paused", "features", "a", SERVES)
        options = store.options | {"prefix": "test-paused", "client": client}
        with FlagReader.from_url(store.url, timeout=BOUND, **options) as reader:
            assert reader.variation("a", CONTEXT, "default") == "yes"
            paused = [server for server in store.servers if not isinstance(server, RedisSentinel)]
            for server in paused:
                server.pause()
            try:
                with reader.request(CONTEXT) as flags:
                    started = time.monotonic()
                    assert [flags.variation("a", "default") for _ in range(5)] == ["default"] * 5
                    assert not flags.all_flags_state().valid
                    elapsed = time.monotonic() - started
                # A cluster tells which node to ask instead, if one answers.
                assert elapsed <= (2 if topology == "cluster" else 1) * BOUND + MARGIN
            finally:
                for server in paused:
                    server.resume()
            until(lambda: reader.variation("a", CONTEXT, "default") == "yes", "the right value")
        store.close()

    def test_a_big_reply_may_come_in_many_pieces(self, tcp_store: RedisStore, via: str) -> None:
        text = flag("yes", salt="x" * 5_000_000)
        tcp_store.put("test-big", "features", "a", text)
        requester = tcp_store.requester("test-big", client=via)
        assert requester.get_many([("features", "a")]) == {("features", "a"): text.encode()}
        assert requester.get_all()["features"] == {"a": text.encode()}
        tcp_store.close()
        with admin_of(tcp_store.servers[0]) as admin:
            admin.delete("test-big:features")


class TestStaleConnections:
    """A connection that the server closed costs a new one, and never a default."""

    @pytest.mark.parametrize("topology", ["tcp", "unix"])
    def test_after_a_restart_of_the_server(self, topology: str, via: str) -> None:
        with RedisServer() as server:
            url = server.url if topology == "tcp" else f"unix://{server.socket_path}"
            with FlagReader.from_url(url, prefix="p", strict=True, client=via) as reader:
                for value in ("before", "after"):
                    with admin_of(server) as admin:
                        admin.hset("p:features", "a", flag(value, fallthrough={"variation": 0}))
                    assert reader.variation("a", CONTEXT, "default") == value
                    server.stop()
                    server.start()

    def test_after_the_servers_own_timeout(self, via: str) -> None:
        with RedisServer("--timeout", "1") as server, admin_of(server) as admin:
            admin.hset("p:features", "a", SERVES)
            with FlagReader.from_url(server.url, prefix="p", strict=True, client=via) as reader:
                assert reader.variation("a", CONTEXT, "default") == "yes"
                until(lambda: "laddr=127.0.0.1" not in server.ask("CLIENT", "LIST"), "the server to close it")
                assert reader.variation("a", CONTEXT, "default") == "yes"

    @pytest.mark.parametrize(
        ("query", "cut"), [("client=redis-py&protocol=2", 1), ("client=redis-py&protocol=2", 2), ("client=wire", 2)]
    )
    def test_while_it_reads(self, query: str, cut: int) -> None:
        asked_for_it = 0

        def answers_the_second(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            nonlocal asked_for_it
            if b"HGET" not in asked:
                connection.sendall(b"+OK\r\n" * asked.count(b"*"))
                return
            asked_for_it += 1
            if asked_for_it == cut:
                connection.shutdown(socket.SHUT_RDWR)
            else:
                connection.sendall(b"$2\r\n{}\r\n")

        with answering_port(answers_the_second) as port:
            requester = open_requester(f"redis://127.0.0.1:{port}?{query}")
            for _ in range(2):
                assert requester.get_many([("features", "a")]) == {("features", "a"): b"{}"}
            requester.close()


class TestFailover:
    @pytest.mark.parametrize("how", ["the master dies", "SENTINEL FAILOVER"])
    def test_the_same_reader_goes_on_with_the_new_master_and_is_never_wrong(self, how: str) -> None:
        with watched_pair() as (master, replica, sentinel), ExitStack() as clients:
            old, new = (clients.enter_context(admin_of(server)) for server in (master, replica))
            old.hset("p:features", "a", SERVES)
            until(lambda: new.hget("p:features", "a"), "the replica to have it")
            reader = FlagReader.from_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/flags", prefix="p", timeout=BOUND)
            seen = {self.look(reader)}
            if how == "the master dies":
                master.stop()
            else:
                watcher = clients.enter_context(admin_of(sentinel))

                def is_accepted() -> bool:
                    try:
                        return bool(watcher.execute_command("SENTINEL FAILOVER", "flags"))
                    except redis.ResponseError:  # the Sentinel has not looked at the replica yet
                        return False

                until(is_accepted, "the Sentinel to be ready")

            def is_master() -> bool:
                seen.add(self.look(reader))
                return figure(replica, "replication", "role") == "master"

            until(is_master, "the failover")
            if how == "SENTINEL FAILOVER":
                until(
                    lambda: str(replica.port) in sentinel.ask("SENTINEL", "MASTERS"),
                    "the Sentinel to name the new master",
                )
                # It demotes the old master ten seconds later, and then cuts off all who still read there.
                master.ask("CLIENT", "KILL", "TYPE", "normal")
            new.hset("p:features", "a", flag("new", fallthrough={"variation": 0}))

            def is_new() -> bool:
                seen.add(found := self.look(reader))
                return found == ("new", "FALLTHROUGH")

            until(is_new, "what the new master holds")
            assert seen <= {("yes", "FALLTHROUGH"), ("new", "FALLTHROUGH"), ("default", "EXCEPTION")}
            assert self.look(reader) == ("new", "FALLTHROUGH")
            reader.close()

    def look(self, reader: FlagReader) -> tuple[Any, Any]:
        detail = reader.variation_detail("a", CONTEXT, "default")
        return detail.value, detail.reason.get("errorKind", detail.reason["kind"])


class TestCluster:
    @pytest.fixture
    def store(self, cluster_store: RedisStore) -> Iterator[RedisStore]:
        cluster_store.put(SPREAD, "features", "a", SERVES)
        cluster_store.put(SPREAD, "features", "b", IN_SEGMENT)
        cluster_store.put(SPREAD, "segments", "s", SEGMENT)
        yield cluster_store
        cluster_store.close()

    def node(self, store: RedisStore, key: str) -> RedisServer:
        """The node that has a key."""
        port = store.admin.get_node_from_key(key).port
        return next(server for server in store.servers if server.port == port)

    def test_a_call_takes_one_round_trip_a_node_at_most(self, store: RedisStore) -> None:
        refs = [(kind, f"{kind}-{index}") for kind in ("features", "segments") for index in range(50)]
        requester = store.requester(SPREAD)
        requester.get_many(refs)

        with ExitStack() as clients:
            admins = [clients.enter_context(admin_of(server)) for server in store.servers]

            def round_trips() -> list[int]:
                return [admin.info("stats")["total_reads_processed"] for admin in admins]

            works: list[Callable[[], object]] = [lambda: requester.get_many(refs), requester.get_all]
            for work in works:
                round_trips()
                before = round_trips()
                work()
                took = [after - earlier - 1 for earlier, after in zip(before, round_trips(), strict=True)]
                assert sorted(took) == [0, 1, 1]

    def test_a_prefix_in_braces_has_all_its_keys_on_one_node(self, store: RedisStore) -> None:
        for kind in ("features", "segments"):
            store.put("{env1}", kind, "a", f'{{"kind": "{kind}"}}')
        everything = store.requester("{env1}").get_all()
        assert everything == {kind: {"a": f'{{"kind": "{kind}"}}'.encode()} for kind in ("features", "segments")}
        assert self.node(store, "{env1}:features") is self.node(store, "{env1}:segments")

    @pytest.mark.parametrize("opened_before", [True, False], ids=["an open reader", "a new reader"])
    def test_a_node_that_is_down_spoils_its_own_items_only(self, store: RedisStore, opened_before: bool) -> None:
        requester = store.requester(SPREAD)
        refs = [("features", "a"), ("segments", "s"), ("features", "b")]
        if opened_before:
            requester.get_many(refs)
        down = self.node(store, f"{SPREAD}:segments")
        assert down is not self.node(store, f"{SPREAD}:features")
        down.stop()
        try:
            found = requester.get_many(refs)
            assert (found["features", "a"], found["features", "b"]) == (SERVES.encode(), IN_SEGMENT.encode())
            assert isinstance(found["segments", "s"], StoreError)
            with pytest.raises(StoreError):
                requester.get_many([("segments", "s")])
            with FlagReader(requester).request(CONTEXT) as flags:
                assert flags.variation("a", "default") == "yes"
                detail = flags.variation_detail("b", "default")
                assert (detail.value, detail.reason["errorKind"]) == ("default", "EXCEPTION")
        finally:
            down.start()
            self.whole(store)
        store.put(SPREAD, "segments", "s", SEGMENT)
        assert FlagReader(requester).variation("b", CONTEXT, "default") == "yes"

    def test_a_node_that_stands_still_is_waited_for_once(self, store: RedisStore) -> None:
        down = self.node(store, f"{SPREAD}:segments")
        requester, both = store.requester(SPREAD, timeout=BOUND), [("features", "a"), ("segments", "s")]
        assert len(requester.get_many(both)) == 2
        with FlagReader.from_url(store.url, prefix=SPREAD, timeout=BOUND) as reader:
            assert reader.variation("b", CONTEXT, "default") == "yes"
            down.pause()
            try:
                started = time.monotonic()
                with reader.request(CONTEXT) as flags:
                    assert flags.variation("a", "default") == "yes"
                    assert [flags.variation("b", "default") for _ in range(5)] == ["default"] * 5
                    assert not flags.all_flags_state().valid
                assert time.monotonic() - started <= 2 * BOUND + MARGIN
                # As a whole, or the request would ask for the next segment and wait again.
                with pytest.raises(StoreError):
                    requester.get_many(both)
            finally:
                down.resume()
                self.whole(store)
            until(lambda: reader.variation("b", CONTEXT, "default") == "yes", "the right value")

    def test_slots_that_moved_are_followed(self, store: RedisStore) -> None:
        key = f"{SPREAD}:features"
        requester = store.requester(SPREAD)
        requester.get_all()
        slot = str(store.admin.keyslot(key))
        source = self.node(store, key)
        target = next(server for server in store.servers if server is not source)
        names = {server: server.ask("CLUSTER", "MYID").split()[1] for server in (source, target)}
        for one, other in ((source, target), (target, source)):  # there, and back again
            other.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[one])
            one.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[other])
            assert requester.get_many([("features", "a")]) == {("features", "a"): SERVES.encode()}
            one.ask("MIGRATE", "127.0.0.1", str(other.port), key, "0", "5000")
            assert requester.get_many([("features", "a"), ("segments", "s")]).keys() == {
                ("features", "a"),
                ("segments", "s"),
            }
            for server in (other, one):
                server.ask("CLUSTER", "SETSLOT", slot, "NODE", names[other])
            assert requester.get_all()["features"].keys() == {"a", "b"}
        self.whole(store)

    def whole(self, store: RedisStore) -> None:
        def is_whole() -> bool:
            states = [server.ask("CLUSTER", "INFO") for server in store.servers]
            return all("cluster_state:ok" in state and "cluster_slots_ok:16384" in state for state in states)

        until(is_whole, "a whole cluster")


def test_the_oldest_redis_py_does_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Most of the other tests of this file once more, in a process with the oldest redis-py that is supported."""
    packages = tmp_path_factory.getbasetemp().parent / f"ldreader-redis-{OLDEST}"  # kept for the next run
    if not (packages / "redis").is_dir():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        fetched = subprocess.run(
            [*install, "--target", str(packages), f"redis=={OLDEST}"], capture_output=True, text=True, check=False
        )
        if fetched.returncode:
            lacking(f"redis-py {OLDEST} cannot be installed: {fetched.stderr[-300:]}", "LDREADER_REQUIRE_SERVERS")
    run = "import sys, pytest, redis; assert redis.__version__ == sys.argv[1]; sys.exit(pytest.main(sys.argv[2:]))"
    left_out = "oldest_redis_py or WhatIsRefused or StaleConnections or a_store_ or three_addresses or Failover"
    options = ["-q", "-x", "-p", "no:cacheprovider", __file__, "-k", f"not ({left_out})"]
    # That release leaves a socket that could not be connected to the garbage collector.
    options += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", run, OLDEST, *options], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
