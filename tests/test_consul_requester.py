"""Consul: flags read from real agents, by ldreader's own client, through python-consul and through py-consul."""

from __future__ import annotations

import base64
import http.server
import importlib
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs

import pytest

from ldreader import FeatureRequester, FlagReader
from ldreader.errors import ConfigurationError, MissingDependency, StoreError
from ldreader.requesters import open_requester
from ldreader.requesters.consul import ConsulRequester
from ldreader.testing import ODD_KEYS, RequesterBehaviour
from ldreader.wire.http import Http
from tests.consul_agent import SERVERS, ConsulAgent
from tests.proxy import Answer, Proxy, Sent
from tests.redis_fixtures import Certificates, answering_port, full_port, silent_port
from tests.servers import free_port, lacking, until
from tests.test_imports import DEAR

PROJECT = Path(__file__).parent.parent

USER = {"kind": "user", "key": "u"}

WAIT = 0.8  # the timeout where one is waited for
MARGIN = 0.7  # what else a bounded wait may take, on a busy machine; less than another timeout
PY_CONSUL = "1.8.0"


def modules_of_consul() -> dict[str, ModuleType]:
    """What is loaded of the package that is called consul."""
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "consul"}


@pytest.fixture(scope="session")
def py_consul() -> dict[str, ModuleType]:
    """The package py-consul, which has the same name as python-consul and so a folder of its own."""
    folder = SERVERS / f"py-consul-{PY_CONSUL}"
    if not (folder / "consul").is_dir():
        options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--target", str(folder)]
        command = [sys.executable, "-m", "pip", "install", *options, f"py-consul=={PY_CONSUL}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lacking(f"py-consul cannot be installed: {done.stderr.strip()[-200:]}", "LDREADER_REQUIRE_SERVERS")
    before = modules_of_consul()
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module("consul")
        found = modules_of_consul()
        assert hasattr(found["consul.base"], "Txn")
    finally:
        sys.path.remove(str(folder))
        for name in modules_of_consul():
            del sys.modules[name]
        sys.modules.update(before)
    return found


@contextmanager
def installed(package: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Makes this the package that is installed; with "wire", neither is."""
    if package == "wire":
        modules: dict[str, Any] = {"consul": None}
    elif package == "py-consul":
        modules = request.getfixturevalue("py_consul")
    else:
        pytest.importorskip("consul", reason="python-consul is not installed: pip install python-consul")
        modules = modules_of_consul()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in modules_of_consul():
            monkeypatch.delitem(sys.modules, name)
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        yield


@pytest.fixture(params=["python-consul", "py-consul"])
def package(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of the two packages, as the one that is installed."""
    with installed(request.param, request):
        yield request.param


@pytest.fixture(params=["wire", "python-consul", "py-consul"])
def client(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each way to an agent: ldreader's own, where no package is installed, and each of the packages."""
    with installed(request.param, request):
        yield request.param


def option(client: str) -> str:
    """What the option is given to have this client."""
    return "wire" if client == "wire" else "python-consul"


Opens = Callable[..., ConsulRequester]


@pytest.fixture
def opened(client: str) -> Opens:
    """Opens a URL with the client of the test."""
    return lambda url, **options: ConsulRequester.from_url(url, client=option(client), **options)


@pytest.fixture(scope="session")
def guarded() -> Iterator[ConsulAgent]:
    """An agent that asks for a token, listens for TLS too, and knows nobody else's data centre."""
    with ConsulAgent(acl=True, tls=True) as agent:
        yield agent


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


class Tree:
    """Consul's keys, written by the agent's own interface."""

    has_prefixes = True
    holds_any_text = True

    def __init__(self, agent: ConsulAgent, requester: Callable[[str], FeatureRequester]) -> None:
        self.agent = agent
        self.requester = requester

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        self.agent.put(f"{prefix}/{kind}/{key}", text.encode())


@pytest.fixture
def tree(consul_server: ConsulAgent, opened: Opens) -> Tree:
    return Tree(consul_server, lambda prefix: opened(consul_server.url, prefix=prefix))


class TestConsulRequesterOfAUrl(RequesterBehaviour):
    @pytest.fixture
    def store(self, tree: Tree) -> Tree:
        return tree


class TestConsulRequesterOverTheApplicationsClient(RequesterBehaviour):
    @pytest.fixture
    def store(self, consul_server: ConsulAgent, package: str) -> Tree:
        client = applications(consul_server)
        return Tree(consul_server, lambda prefix: ConsulRequester(client, prefix=prefix))


class TestConsulRequesterThatMayOnlyReadItsPrefix(RequesterBehaviour):
    @pytest.fixture
    def store(self, guarded: ConsulAgent, opened: Opens) -> Tree:
        def requester(prefix: str) -> FeatureRequester:
            token = guarded.new_token(f'key_prefix "{prefix}/" {{ policy = "read" }}')
            return opened(guarded.url, prefix=prefix, token=token)

        return Tree(guarded, requester)


def applications(agent: ConsulAgent, **options: Any) -> Any:
    """A client as an application makes it."""
    return importlib.import_module("consul").Consul(host="127.0.0.1", **{"port": agent.port, **options})


@pytest.fixture
def proxy(consul_server: ConsulAgent) -> Iterator[Proxy]:
    """The same agent, where all that is sent is seen."""
    with Proxy(consul_server.port) as proxy:
        yield proxy


@pytest.fixture
def observed(proxy: Proxy, prefix: str, opened: Opens) -> Iterator[ConsulRequester]:
    """A requester whose requests go through the proxy."""
    requester = opened(f"consul://127.0.0.1:{proxy.port}?prefix={prefix}&timeout={WAIT}")
    yield requester
    requester.close()


@pytest.fixture
def nowhere() -> Iterator[Proxy]:
    """A server that answers as a test tells it to."""
    with Proxy(0) as proxy:
        yield proxy


@pytest.fixture
def lost(nowhere: Proxy, opened: Opens) -> Iterator[ConsulRequester]:
    """A requester of that server."""
    requester = opened(f"consul://127.0.0.1:{nowhere.port}", timeout=WAIT)
    yield requester
    requester.close()


def features(*keys: str) -> list[tuple[str, str]]:
    return [("features", key) for key in keys]


def requests_in(sent: list[Sent]) -> list[str]:
    """Each request's first line."""
    return [f"{request.method} {request.path}" for request in sent]


def reading(key: str, client: str) -> str:
    """The first line of the request for one key."""
    return f"GET /v1/kv/{key}{'?raw=true' if client == 'wire' else ''}"


def trouble(read: Callable[[], object]) -> str:
    """What a store error says, on one line."""
    with pytest.raises(StoreError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    return message


def answers(requester: ConsulRequester) -> bool:
    """Whether the agent answers."""
    try:
        return requester.get_many(features("nowhere")) == {}
    except StoreError:
        return False


def all_reads(requester: ConsulRequester) -> list[Callable[[], object]]:
    return [
        lambda: requester.get_many(features("a")),
        lambda: requester.get_many(features("a", "b")),
        requester.get_all,
    ]


class TestReading:
    def test_one_item_is_one_key(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester, client: str
    ) -> None:
        tree.put(prefix, "features", "a", "{}")
        assert observed.get_many(features("a")) == {("features", "a"): b"{}"}
        assert observed.get_many(features("nowhere")) == {}
        assert requests_in(proxy.sent) == [reading(f"{prefix}/features/{key}", client) for key in ("a", "nowhere")]

    def test_several_items_are_one_transaction(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester
    ) -> None:
        tree.put(prefix, "features", "a", "{}")
        tree.put(prefix, "segments", "s", "[]")
        found = observed.get_many([("features", "a"), ("segments", "s")])
        assert found == {("features", "a"): b"{}", ("segments", "s"): b"[]"}
        assert requests_in(proxy.sent) == ["PUT /v1/txn"]

    def test_missing_items_cost_one_more_round_trip(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester
    ) -> None:
        tree.put(prefix, "features", "a", "{}")
        missing = [f"nowhere-{index}" for index in range(20)]
        assert observed.get_many(features(*missing, "a")) == {("features", "a"): b"{}"}
        assert requests_in(proxy.sent) == ["PUT /v1/txn"] * 2

    def test_nothing_but_missing_items_is_one_round_trip(self, proxy: Proxy, observed: ConsulRequester) -> None:
        assert observed.get_many(features("x", "y", "z")) == {}
        assert requests_in(proxy.sent) == ["PUT /v1/txn"]

    def test_a_transaction_has_64_keys_at_most(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester
    ) -> None:
        keys = [f"key-{index}" for index in range(129)]
        for key in keys:
            tree.put(prefix, "features", key, "{}")
        assert observed.get_many(features(*keys)) == dict.fromkeys(features(*keys), b"{}")
        assert [len(json.loads(sent.body)) for sent in proxy.sent] == [64, 64, 1]

    def test_everything_is_one_round_trip(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester
    ) -> None:
        tree.put(prefix, "features", "a", "{}")
        tree.put(prefix, "segments", "s", "[]")
        tree.put(prefix, "other", "o", "[]")
        tree.agent.put(f"{prefix}/$inited", b"")
        tree.agent.put(f"{prefix}/features/", b"")
        assert observed.get_all() == {"features": {"a": b"{}"}, "segments": {"s": b"[]"}}
        assert requests_in(proxy.sent) == [f"GET /v1/kv/{prefix}/?recurse=true"]

    def test_an_empty_value_is_an_item(self, tree: Tree, prefix: str) -> None:
        tree.put(prefix, "features", "empty", "")
        tree.put(prefix, "features", "a", "{}")
        requester = tree.requester(prefix)
        assert requester.get_many(features("empty")) == {("features", "empty"): b""}
        assert requester.get_many(features("empty", "a"))["features", "empty"] == b""
        assert requester.get_all()["features"]["empty"] == b""
        requester.close()

    def test_an_item_of_half_a_megabyte_comes_whole(self, tree: Tree, prefix: str) -> None:
        text = json.dumps({"salt": "x" * 380_000})  # with the base64 of a transaction around it, as much as fits
        tree.put(prefix, "features", "a", text)
        requester = tree.requester(prefix)
        assert requester.get_many(features("a"))["features", "a"] == text.encode()
        assert requester.get_many(features("a", "b"))["features", "a"] == text.encode()
        requester.close()

    def test_a_value_comes_as_it_is_to_the_byte(self, tree: Tree, prefix: str) -> None:
        value = bytes(range(256)) + b"\r\n \xff\xfe"
        tree.agent.put(f"{prefix}/features/a", value)
        requester = tree.requester(prefix)
        assert requester.get_many(features("a")) == {("features", "a"): value}
        assert requester.get_many(features("a", "b")) == {("features", "a"): value}
        assert requester.get_all()["features"] == {"a": value}
        requester.close()

    @pytest.mark.parametrize("odd", [*ODD_KEYS, "a,b", "&dc=other", "%2F", "#", "\r\nX: y"])
    def test_what_a_url_cannot_hold_is_escaped_and_arrives_as_it_was(
        self, nowhere: Proxy, opened: Opens, odd: str
    ) -> None:
        nowhere.instead = lambda sent: Answer(404, {}, b"")
        requester = opened(f"consul://127.0.0.1:{nowhere.port}", prefix="a,b", datacenter=odd)
        assert requester.get_many(features("a")) == {}
        assert requester.get_all() == {"features": {}, "segments": {}}
        for sent in nowhere.sent:
            path, _, query = sent.path.partition("?")
            assert path.startswith("/v1/kv/a%2Cb/")
            assert parse_qs(query)["dc"] == [odd]
        requester.close()

    def test_the_longest_keys_fit_a_transaction(self, tree: Tree, prefix: str, observed: ConsulRequester) -> None:
        keys = [f"{index:04}" + "\x01" * 1020 for index in range(64)]
        tree.put(prefix, "features", keys[5], "{}")
        assert observed.get_many(features(*keys, "k" * 1025)).keys() == set(features(keys[5]))

    def test_keys_that_nobody_has_do_not_spoil_a_transaction(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester
    ) -> None:
        tree.put(prefix, "features", "a", "{}")
        tree.agent.put(f"{prefix}/features/", b"a folder")
        endless = [f"{index}" + "k" * 100_000 for index in range(10)]
        assert observed.get_many(features("a", "", *endless)) == {("features", "a"): b"{}"}
        assert observed.get_many(features("")) == {}
        assert len(proxy.sent) == 1

    @pytest.mark.parametrize(
        "key", ["..", ".", "...", "/", "a/", "a//", "/a", "a/../b", "a/./b", "a../b", "x\ny", "flag.json"]
    )
    def test_a_key_that_a_url_would_change_is_found(self, tree: Tree, prefix: str, key: str) -> None:
        tree.put(prefix, "features", key, "{}")
        tree.put(prefix, "features", "b", '"b"')
        requester = tree.requester(prefix)
        assert requester.get_many(features(key)) == {("features", key): b"{}"}
        assert requester.get_many(features(key, "b"))["features", key] == b"{}"
        assert requester.get_all()["features"][key] == b"{}"
        requester.close()

    @pytest.mark.parametrize("odd", ["with space", "100%", "ünïcödé", "a//b", "a/b", "..", "?x=1"])
    def test_an_odd_prefix_is_a_prefix_like_any_other(self, tree: Tree, prefix: str, odd: str) -> None:
        prefix = f"{prefix}{odd}"
        requester = tree.requester(prefix)
        assert requester.get_all() == {"features": {}, "segments": {}}
        tree.put(prefix, "features", "a", "{}")
        tree.put(f"{prefix}0", "features", "b", "{}")
        assert requester.get_all() == {"features": {"a": b"{}"}, "segments": {}}
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        requester.close()

    @pytest.mark.parametrize("given", [None, ""])
    def test_the_default_prefix_is_launchdarkly(
        self, proxy: Proxy, given: str | None, opened: Opens, client: str
    ) -> None:
        requester = opened(f"consul://127.0.0.1:{proxy.port}", prefix=given)
        requester.get_many(features("a"))
        requester.close()
        assert requests_in(proxy.sent) == [reading("launchdarkly/features/a", client)]

    @pytest.mark.parametrize(
        "key", [*(key for key in ODD_KEYS if key not in ("with/slash", "dots..and.more")), "a../b"]
    )
    def test_a_key_of_other_characters_than_the_newest_agents_take_is_not_put_into_a_url(
        self, proxy: Proxy, observed: ConsulRequester, key: str
    ) -> None:
        assert observed.get_many(features(key)) == {}
        assert requests_in(proxy.sent) == ["PUT /v1/txn"]

    def test_a_key_that_the_newest_agents_refuse_in_a_url_goes_by_a_transaction(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester
    ) -> None:
        proxy.instead = lambda sent: Answer(400, {}, b"key is suspicious") if sent.method == "GET" else None
        tree.put(prefix, "features", "flag.json", "{}")
        assert observed.get_many(features("flag.json")) == {("features", "flag.json"): b"{}"}
        assert observed.get_all() == {"features": {"flag.json": b"{}"}, "segments": {}}
        assert {sent.method for sent in proxy.sent} == {"GET", "PUT"}

    def test_processes_that_fork_do_not_share_a_connection(
        self, consul_server: ConsulAgent, tree: Tree, prefix: str, client: str
    ) -> None:
        for index in range(4):
            tree.put(prefix, "features", f"key-{index}", str(index))
        program = f"""
import os, sys
if {client == "py-consul"}:
    sys.path.insert(0, {str(SERVERS / f"py-consul-{PY_CONSUL}")!r})
from ldreader.requesters import open_requester
requester = open_requester({consul_server.url!r}, prefix={prefix!r}, client={option(client)!r})
def read(key):
    for _ in range(30):
        assert int(requester.get_many([("features", f"key-{{key}}")])["features", f"key-{{key}}"]) == key
read(0)
children = []
for key in (1, 2):
    child = os.fork()
    if child == 0:
        try:
            read(key)
        except BaseException:
            os._exit(1)
        os._exit(0)
    children.append(child)
read(3)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""
        subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


class TestToken:
    @pytest.fixture
    def token(self, guarded: ConsulAgent, prefix: str) -> str:
        guarded.put(f"{prefix}/features/a", b"{}")
        return guarded.new_token(f'key_prefix "{prefix}/" {{ policy = "read" }}')

    def reads(self, requester: ConsulRequester) -> bool:
        found = requester.get_many(features("a"))
        requester.close()
        return found == {("features", "a"): b"{}"}

    def url(self, agent: ConsulAgent, prefix: str, secret: str) -> str:
        return f"consul://{secret}@127.0.0.1:{agent.port}?prefix={prefix}"

    @pytest.mark.parametrize("form", [":{}", "{}"])
    def test_it_may_stand_in_the_url(
        self, guarded: ConsulAgent, prefix: str, token: str, form: str, opened: Opens
    ) -> None:
        assert self.reads(opened(self.url(guarded, prefix, form.format(token))))

    def test_in_the_url_it_may_be_escaped(self, guarded: ConsulAgent, prefix: str, token: str, opened: Opens) -> None:
        escaped = token.replace("-", "%2D")
        assert self.reads(opened(self.url(guarded, prefix, f":{escaped}")))

    def test_the_environment_is_the_last_resort(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch, opened: Opens
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", token)
        assert self.reads(opened(guarded.url, prefix=prefix))

    def test_the_url_wins_over_the_environment(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch, opened: Opens
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", str(uuid.uuid4()))
        assert self.reads(opened(self.url(guarded, prefix, f":{token}")))

    def test_code_wins_over_both(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch, opened: Opens
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", str(uuid.uuid4()))
        wrong = self.url(guarded, prefix, f":{uuid.uuid4()}")
        assert self.reads(opened(wrong, token=token))

    def test_no_token_in_code_is_no_token(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch, opened: Opens
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", token)
        requester = opened(guarded.url, prefix=prefix, token="")
        assert "403" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    def test_it_is_sent_as_a_header_and_never_in_a_url(self, proxy: Proxy, opened: Opens) -> None:
        requester = opened(f"consul://:secret@127.0.0.1:{proxy.port}")
        for read in all_reads(requester):
            read()
        requester.close()
        assert {sent.headers["X-Consul-Token"] for sent in proxy.sent} == {"secret"}
        assert "secret" not in "".join(requests_in(proxy.sent))

    def test_a_wrong_one_is_one_clear_line(self, guarded: ConsulAgent, prefix: str, opened: Opens) -> None:
        requester = opened(guarded.url, prefix=prefix, token=str(uuid.uuid4()))
        for read in all_reads(requester):
            message = trouble(read)
            assert message.startswith("Consul refused to read: 403 ACL not found; the token needs key_prefix read")
        requester.close()

    def test_one_for_another_prefix_is_told_so_and_not_that_nothing_is_there(
        self, guarded: ConsulAgent, prefix: str, token: str, opened: Opens
    ) -> None:
        guarded.put(f"{prefix}0/features/a", b"{}")
        guarded.put(f"{prefix}0/features/b", b"{}")
        requester = opened(guarded.url, prefix=f"{prefix}0", token=token)
        assert "403 Permission denied; the token needs key_prefix read" in trouble(
            lambda: requester.get_many(features("a"))
        )
        assert "403 Permission denied; the token needs key_prefix read" in trouble(requester.get_all)
        found = requester.get_many(features("a", "b"))
        assert found.keys() == set(features("a", "b"))
        for error in found.values():
            assert "the token needs key_prefix read on the prefix" in str(error)
            assert isinstance(error, StoreError)
        requester.close()

    def test_a_reader_serves_the_default_when_the_agent_refuses(self, guarded: ConsulAgent, client: str) -> None:
        with FlagReader.from_url(guarded.url, token=str(uuid.uuid4()), client=option(client)) as reader:
            detail = reader.variation_detail("a", {"kind": "user", "key": "u"}, "default")
        assert (detail.value, detail.reason) == ("default", {"kind": "ERROR", "errorKind": "EXCEPTION"})

    def test_a_token_that_may_only_read_is_enough(
        self, guarded: ConsulAgent, prefix: str, token: str, opened: Opens
    ) -> None:
        guarded.put(f"{prefix}/segments/s", b"[]")
        requester = opened(guarded.url, prefix=prefix, token=token)
        assert len(requester.get_many([("features", "a"), ("segments", "s"), ("segments", "nowhere")])) == 2
        assert requester.get_all() == {"features": {"a": b"{}"}, "segments": {"s": b"[]"}}
        requester.close()


class TestEnvironment:
    def test_no_other_variable_of_consuls_is_looked_at(
        self, consul_server: ConsulAgent, tree: Tree, prefix: str, monkeypatch: pytest.MonkeyPatch, opened: Opens
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
        monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
        monkeypatch.setenv("CONSUL_HTTP_SSL_VERIFY", "false")
        monkeypatch.setenv("CONSUL_HTTP_AUTH", "user:password")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        tree.put(prefix, "features", "a", "{}")
        requester = opened(consul_server.url, prefix=prefix)
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        requester.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority and certificates for 127.0.0.1."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def secured(
    answer: Callable[[socket.socket, bytes, threading.Event], None], certificates: Certificates
) -> Iterator[int]:
    """As `answering_port`, behind TLS with the certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(10)
            try:
                with context.wrap_socket(connection, server_side=True) as talking:
                    while asked := talking.recv(65536):
                        answer(talking, asked, over)
            except OSError:
                pass  # a client that has gone, or does not trust this

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


class TestTls:
    @pytest.fixture
    def other_host(self, certificates: Certificates) -> Iterator[int]:
        """The port of a server that holds nothing, with a certificate for 127.0.0.1 and not for localhost."""

        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(response(b"", "404 Not Found"))

        with secured(answer, certificates) as port:
            yield port

    @pytest.fixture
    def url(self, guarded: ConsulAgent, prefix: str) -> str:
        guarded.put(f"{prefix}/features/a", b"{}")
        return guarded.tls_url.replace("//", f"//:{guarded.token}@") + f"?prefix={prefix}"

    def test_with_authority_and_certificate_it_reads(self, guarded: ConsulAgent, url: str, opened: Opens) -> None:
        requester = opened(url, verify=guarded.authority, cert=guarded.client_certificate)
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        assert requester.get_many(features("a", "b")) == {("features", "a"): b"{}"}
        requester.close()

    def test_files_may_stand_in_the_url(self, guarded: ConsulAgent, url: str, tmp_path: Path, opened: Opens) -> None:
        both = tmp_path / "both.pem"
        both.write_text("".join(Path(name).read_text() for name in guarded.client_certificate))
        requester = opened(f"{url}&verify={guarded.authority}&cert={both}")
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        requester.close()

    def test_an_authority_that_nobody_knows_is_not_trusted(self, guarded: ConsulAgent, url: str, opened: Opens) -> None:
        requester = opened(url, cert=guarded.client_certificate)
        assert "certificate verify failed" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    def test_without_a_certificate_the_agent_refuses(self, guarded: ConsulAgent, url: str, opened: Opens) -> None:
        requester = opened(url, verify=guarded.authority)
        assert "Consul did not answer" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    def test_a_file_that_is_not_there_is_named(self, url: str, opened: Opens) -> None:
        requester = opened(url, verify="/nowhere/ca.pem")
        assert "/nowhere/ca.pem" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    @pytest.mark.parametrize("key", ["client certificate", "nowhere"])
    def test_a_certificate_that_cannot_be_used_is_named(
        self, guarded: ConsulAgent, url: str, key: str, opened: Opens, tmp_path: Path
    ) -> None:
        cert = guarded.authority if key == "client certificate" else str(tmp_path / "nowhere.pem")  # it has no key
        requester = opened(url, verify=guarded.authority, cert=cert)
        message = trouble(lambda: requester.get_many(features("a")))
        assert message.startswith("Consul did not answer: ")
        assert guarded.token not in message
        requester.close()

    def test_a_certificate_of_another_host_is_not_trusted(
        self, other_host: int, certificates: Certificates, opened: Opens
    ) -> None:
        requester = opened(f"consul+https://localhost:{other_host}", verify=str(certificates.ca), timeout=WAIT)
        assert "certificate" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    @pytest.mark.parametrize("verify", [False, "false"])
    def test_it_is_where_nothing_is_verified(self, other_host: int, verify: bool | str, opened: Opens) -> None:
        requester = opened(f"consul+https://localhost:{other_host}", verify=verify, timeout=10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # urllib3's
            assert requester.get_many(features("a")) == {}
        requester.close()

    def test_a_folder_of_authorities_is_taken(
        self, other_host: int, certificates: Certificates, opened: Opens, tmp_path: Path
    ) -> None:
        shutil.copy(certificates.ca, tmp_path)
        subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
        requester = opened(f"consul+https://127.0.0.1:{other_host}", verify=str(tmp_path), timeout=10)
        assert requester.get_many(features("a")) == {}
        requester.close()

    def test_a_server_that_never_shakes_hands_costs_one_timeout(self, opened: Opens) -> None:
        with silent_port() as port:
            requester = opened(f"consul+https://127.0.0.1:{port}", timeout=WAIT)
            started = time.monotonic()
            assert "timed out" in trouble(lambda: requester.get_many(features("a")))
            assert time.monotonic() - started <= WAIT + MARGIN
            requester.close()

    @pytest.mark.parametrize("kind", ["a header", "a body with a length"])
    def test_a_reply_that_trickles_in_costs_one_timeout(
        self, kind: str, certificates: Certificates, opened: Opens
    ) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(TRICKLES[kind])
            trickle(connection, over)

        with secured(answer, certificates) as port:
            requester = opened(f"consul+https://127.0.0.1:{port}", verify=str(certificates.ca), timeout=WAIT)
            started = time.monotonic()
            assert "timed out" in trouble(lambda: requester.get_many(features("a")))
            assert time.monotonic() - started <= WAIT + MARGIN
            requester.close()

    def test_plain_http_on_a_tls_port_is_a_store_error(self, guarded: ConsulAgent, url: str, opened: Opens) -> None:
        requester = opened(url.replace("consul+https:", "consul:"))
        # The agent says 400 and hangs up, and whichever of the two arrives first is what is seen.
        said = trouble(lambda: requester.get_many(features("a")))
        assert "Consul refused to read: 400" in said or "Consul did not answer" in said
        requester.close()


@pytest.fixture(scope="session")
def two_datacenters() -> Iterator[tuple[ConsulAgent, ConsulAgent]]:
    """Two agents, each of a data centre of its own, that know each other."""
    with ConsulAgent(datacenter="here") as here, ConsulAgent(datacenter="elsewhere", other=here) as elsewhere:
        until(lambda: len(here.call("GET", "/v1/catalog/datacenters")) == 2, "two data centres")
        yield here, elsewhere


class TestDatacenter:
    @pytest.mark.parametrize("where", ["url", "code"])
    def test_another_one_is_read_through_the_agent(
        self, two_datacenters: tuple[ConsulAgent, ConsulAgent], prefix: str, where: str, opened: Opens
    ) -> None:
        here, elsewhere = two_datacenters
        for key in "ab":
            here.put(f"{prefix}/features/{key}", b"here")
            elsewhere.put(f"{prefix}/features/{key}", b"there")
        url = f"{here.url}?prefix={prefix}"
        requester = {
            "url": lambda: opened(f"{url}&datacenter=elsewhere"),
            "code": lambda: opened(f"{url}&datacenter=nowhere", datacenter="elsewhere"),
        }[where]()
        self.check(requester)

    @pytest.mark.usefixtures("package")
    def test_the_applications_client_has_one(
        self, two_datacenters: tuple[ConsulAgent, ConsulAgent], prefix: str
    ) -> None:
        here, elsewhere = two_datacenters
        for key in "ab":
            here.put(f"{prefix}/features/{key}", b"here")
            elsewhere.put(f"{prefix}/features/{key}", b"there")
        self.check(ConsulRequester(applications(here, dc="elsewhere"), prefix=prefix))

    def check(self, requester: ConsulRequester) -> None:
        assert requester.get_many(features("a")) == {("features", "a"): b"there"}
        assert requester.get_many(features("a", "b")) == dict.fromkeys(features("a", "b"), b"there")
        assert requester.get_all()["features"] == {"a": b"there", "b": b"there"}
        requester.close()

    def test_one_that_is_not_there_is_a_clear_error(self, consul_server: ConsulAgent, opened: Opens) -> None:
        requester = opened(consul_server.url, datacenter="nowhere")
        for read in all_reads(requester):
            assert trouble(read) == "Consul refused to read: 500 No path to datacenter"
        requester.close()


@pytest.mark.usefixtures("package")
class TestTheApplicationsClient:
    def test_it_is_used_with_its_token_and_left_open(
        self, guarded: ConsulAgent, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guarded.put(f"{prefix}/features/a", b"{}")
        token = guarded.new_token(f'key_prefix "{prefix}/" {{ policy = "read" }}')
        client = applications(guarded, token=token)
        closed: list[str] = []
        monkeypatch.setattr(client.http.session, "close", lambda: closed.append("session"))
        requester = ConsulRequester(client, prefix=prefix)
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        assert requester.get_many(features("a", "b")) == {("features", "a"): b"{}"}
        assert requester.get_all()["features"] == {"a": b"{}"}
        requester.close()
        requester.close()
        assert closed == []
        assert client.kv.get(f"{prefix}/features/a")[1]["Value"] == b"{}"

    @pytest.mark.parametrize("consistency", ["default", "consistent", "stale"])
    def test_it_is_used_with_its_consistency(self, proxy: Proxy, consistency: str) -> None:
        client = applications(proxy, consistency=consistency)  # type: ignore[arg-type]
        for read in all_reads(ConsulRequester(client)):
            read()
        query = "" if consistency == "default" else f"{consistency}=1"
        assert all(query in sent.path for sent in proxy.sent)
        assert proxy.sent

    def test_its_session_is_not_changed(self, consul_server: ConsulAgent) -> None:
        client = applications(consul_server, token="")
        adapters, headers = dict(client.http.session.adapters), dict(client.http.session.headers)
        ConsulRequester(client).get_many(features("a"))
        assert dict(client.http.session.adapters) == adapters
        assert dict(client.http.session.headers) == headers


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (409, b'{"Results": null, "Errors": [{"OpIndex": 0, "What": "busy\\n"}]}', "409"),
            (409, b"old", "Consul's answer cannot be read"),
            (409, b"[]", "Consul's answer to a transaction cannot be read"),
            (413, b"Transaction contains too many operations (65 > 64)", "413 Transaction contains too many"),
            (500, b"No cluster\nleader", "500 No cluster leader"),
            (429, b"rate limit", "429 rate limit"),
            (404, b"<html>\n<h1>Not Found</h1>", "404 <html> <h1>Not Found</h1>"),
            (200, b"<html>\n<h1>Welcome</h1>", "is there another server at this URL?"),
            (200, b"7", "is there another server at this URL?"),
            (200, b'{"Results": [7]}', "is there another server at this URL?"),
            (200, b'{"Results": [{"Node": {}}]}', "is there another server at this URL?"),
            (200, b"\xff\xfe", "is there another server at this URL?"),
        ],
    )
    def test_what_is_no_answer_is_one_clear_line(
        self, nowhere: Proxy, lost: ConsulRequester, status: int, body: bytes, words: str
    ) -> None:
        nowhere.instead = lambda sent: Answer(status, {}, body)
        for read in all_reads(lost):
            trouble(read)
        assert words in trouble(lambda: lost.get_many(features("a", "b")))

    def test_a_value_that_is_not_base64_is_a_store_error_in_its_place(
        self, nowhere: Proxy, lost: ConsulRequester
    ) -> None:
        entries = [
            {"Key": "launchdarkly/features/a", "Value": "!"},
            {"Key": "launchdarkly/features/b", "Value": base64.b64encode(b"{}").decode()},
        ]
        nowhere.instead = lambda sent: Answer(200, {}, json.dumps(entries).encode())
        found = lost.get_all()["features"]
        assert isinstance(found["a"], StoreError)
        assert found["b"] == b"{}"

    def test_a_transaction_that_fails_for_another_reason_is_not_tried_without_the_item(
        self, nowhere: Proxy, lost: ConsulRequester
    ) -> None:
        errors = [{"OpIndex": 0, "What": "this one is busy"}]
        nowhere.instead = lambda sent: Answer(409, {}, json.dumps({"Errors": errors}).encode())
        assert "this one is busy" in trouble(lambda: lost.get_many(features("a", "b")))
        assert len(nowhere.sent) == 1

    def test_items_that_vanish_between_two_tries_end_in_a_store_error(
        self, nowhere: Proxy, lost: ConsulRequester
    ) -> None:
        errors = [{"OpIndex": 0, "What": 'key "x" doesn\'t exist'}]
        nowhere.instead = lambda sent: Answer(409, {}, json.dumps({"Errors": errors}).encode())
        assert "409" in trouble(lambda: lost.get_many(features("a", "b", "c")))
        assert len(nowhere.sent) == 2


class TestOpening:
    def test_nothing_is_contacted(self, opened: Opens) -> None:
        with socket.create_server(("127.0.0.1", 0)) as agent:
            agent.setblocking(False)
            opened(f"consul://127.0.0.1:{agent.getsockname()[1]}").close()
            with pytest.raises(BlockingIOError):
                agent.accept()

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("consul://host:port", "no port number after the last colon"),
            ("consul:host", "has no host; write consul://HOST:8500"),
            ("consul://host/prefix", r"consul://HOST\?prefix="),
            ("consul://host:8500/prefix", r"consul://HOST\?prefix="),
            ("consul://host?datacentre=x", "did you mean 'datacenter'"),
            ("consul://host?timeout=never", "timeout must be"),
            ("consul://host?client=wires", "unknown client for Consul 'wires'; did you mean 'wire'"),
            ("consul://ho st", "no host and port as in"),
            ("consul://ho\rst", "no host and port as in"),
            ("consul://host:0", "no host and port as in"),
            ("consul://host:65536", "no host and port as in"),
            ("consul://[", "no host and port as in"),
            ("consul://[]", "no host and port as in"),
            ("consul://::1", "no host and port as in"),
            (f"consul://{'ü' * 70}", "a host name that no host can have"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, url: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words) as caught:
            open_requester(url)
        assert "\n" not in str(caught.value)

    def test_a_token_is_not_shown(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_requester("consul://:secret@host:port")
        assert "secret" not in str(caught.value)

    def test_an_unknown_option_in_code_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="did you mean 'verify'"):
            open_requester("consul://host", verfy=False)

    @pytest.mark.parametrize(
        ("url", "base"),
        [
            ("consul://", "http://localhost:8500"),
            ("consul://host", "http://host:8500"),
            ("consul://host:1/", "http://host:1"),
            ("consul://[::1]", "http://[::1]:8500"),
            ("consul+https://:token@[::1]:1", "https://[::1]:1"),
            ("CONSUL+HTTPS://host", "https://host:8500"),
            ("consul://bücher.example", "http://xn--bcher-kva.example:8500"),
        ],
    )
    def test_the_host_and_port_have_defaults(
        self, url: str, base: str, client: str, opened: Opens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def exchange(self: Any, *asking: object) -> tuple[int, dict[str, str], bytes]:
            asked.append(f"{'https' if self._endpoint._secure else 'http'}://{self.host}")
            return 404, {}, b""

        def get(self: Any, callback: object, path: str, parameters: object) -> tuple[int, str]:
            asked.append(self.base_uri)
            return 404, ""

        if client == "wire":
            monkeypatch.setattr(Http, "exchange", exchange)
        else:
            monkeypatch.setattr(importlib.import_module("consul.std").HTTPClient, "get", get)
        requester = opened(url)
        assert requester.get_many(features("a")) == {}
        assert asked == [base]

    def test_a_missing_package_is_named_with_the_extra_that_brings_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "consul", None)
        with pytest.raises(MissingDependency, match=r"^the package 'consul' .* pip install 'ldreader\[consul\]'$"):
            open_requester("consul://localhost?client=python-consul")

    @pytest.mark.usefixtures("package")
    def test_the_package_is_used_only_when_it_is_asked_for(self, proxy: Proxy) -> None:
        url = f"consul://127.0.0.1:{proxy.port}"
        for asking in ({}, {"client": "wire"}, {"client": "python-consul"}):
            requester = open_requester(url, **asking)
            requester.get_many(features("a"))
            requester.close()
        for name in ("wire", "python-consul"):
            requester = open_requester(f"{url}?client={name}")
            requester.get_many(features("a"))
            requester.close()
        agents = ["python-requests" in sent.headers.get("User-Agent", "") for sent in proxy.sent]
        assert agents == [False, False, True, False, True]

    def test_a_client_of_the_application_is_not_quoted(self) -> None:
        with pytest.raises(ConfigurationError, match="unknown client for Consul 'dict'; known: python-consul, wire"):
            open_requester("consul://host", client={"token": "s3cret"})

    def test_no_other_stores_package_is_imported_and_nothing_warns(
        self, consul_server: ConsulAgent, client: str, tmp_path: Path
    ) -> None:
        folders = [str(SERVERS / f"py-consul-{PY_CONSUL}")] if client == "py-consul" else []
        foreign = {"redis", "boto3", "yaml", "flask"}
        if client == "wire":
            foreign |= {"consul", "requests", "urllib3", "http.client", "ssl"}
        program = (
            f"import sys; sys.path[:0] = {folders}\n"
            "from ldreader import FlagReader\n"
            f"reader = FlagReader.from_url({consul_server.url!r}, client={option(client)!r})\n"
            "assert reader.variation('a', {'kind': 'user', 'key': 'u'}, 7) == 7\n"
            f"assert not {foreign} & set(sys.modules), sorted(sys.modules)\n"
        )
        # Compiled anew, so that what the compiler warns of is seen too.
        command = [sys.executable, "-W", "error", "-X", f"pycache_prefix={tmp_path}", "-c", program]
        subprocess.run(command, check=True, timeout=30)


def chain(*keys: str) -> list[dict[str, Any]]:
    """Flags each of which needs the next."""
    served: dict[str, Any] = {"version": 1, "on": True, "variations": ["on"], "fallthrough": {"variation": 0}}
    return [
        {**served, "key": key, "prerequisites": [{"key": needed, "variation": 0} for needed in keys[index + 1 :][:1]]}
        for index, key in enumerate(keys)
    ]


class TestAReader:
    def test_learns_what_a_flag_leads_to_and_asks_for_it_in_one_round_trip(
        self, tree: Tree, prefix: str, proxy: Proxy, client: str
    ) -> None:
        for flag in chain(*"abcd"):
            tree.put(prefix, "features", flag["key"], json.dumps(flag))
        url = f"consul://127.0.0.1:{proxy.port}?prefix={prefix}&client={option(client)}"
        with FlagReader.from_url(url) as reader:
            assert reader.variation("a", USER, "default") == "on"
            assert len(proxy.sent) == 4
            assert reader.variation("a", USER, "default") == "on"
            assert requests_in(proxy.sent[4:]) == ["PUT /v1/txn"]

    def test_knows_how_long_a_read_may_take(self, opened: Opens) -> None:
        assert opened("consul://localhost", timeout=WAIT).timeout == WAIT
        assert opened("consul://localhost").timeout == 2

    @pytest.mark.usefixtures("package")
    def test_does_not_know_it_of_the_applications_client(self, consul_server: ConsulAgent) -> None:
        assert ConsulRequester(applications(consul_server)).timeout is None


COLD = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from ldreader import Context, FlagReader
with FlagReader.from_url(sys.argv[1]) as reader:
    assert reader.variation("a", Context.create("ada"), "off") == "on"
    for _ in range(2):
        assert reader.variation("b", Context.create("ada"), "off") == "on"
print(sorted({DEAR} & set(sys.modules)))
"""


def test_a_cold_evaluation_loads_nothing_dear(consul_server: ConsulAgent, prefix: str) -> None:
    for flag in chain(*"bac"):
        consul_server.put(f"{prefix}/features/{flag['key']}", json.dumps(flag).encode())
    program = [sys.executable, "-I", "-S", "-W", "error", "-c", COLD, f"{consul_server.url}?prefix={prefix}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


class TestBoundedWaits:
    @pytest.fixture
    def requester(self, opened: Opens) -> Callable[[int], ConsulRequester]:
        """A requester of a port of this machine."""
        return lambda port: opened(f"consul://127.0.0.1:{port}", timeout=WAIT)

    def cost(self, requester: ConsulRequester, bound: float, keys: int = 1) -> str:
        """What a read that fails says; its time was bounded."""
        started = time.monotonic()
        message = trouble(lambda: requester.get_many(features(*map(str, range(keys)))))
        assert time.monotonic() - started <= bound + MARGIN
        return message

    @pytest.mark.parametrize("keys", [1, 300])
    def test_a_closed_port_costs_no_wait(self, keys: int, requester: Opens) -> None:
        assert "Connection refused" in self.cost(requester(free_port()), 0.0, keys)

    @pytest.mark.parametrize("keys", [1, 300])
    def test_a_silent_server_costs_one_timeout(self, keys: int, requester: Opens) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert "timed out" in self.cost(requester(silent.getsockname()[1]), WAIT, keys)

    def test_a_server_that_takes_no_connection_costs_one_timeout(self, requester: Opens) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            waiting = [socket.socket() for _ in range(4)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            try:
                assert "timed out" in self.cost(requester(full.getsockname()[1]), WAIT)
            finally:
                for each in waiting:
                    each.close()

    def test_an_agent_that_stops_answering_costs_one_timeout_and_is_asked_again(
        self, consul_server: ConsulAgent, requester: Opens
    ) -> None:
        asked = requester(consul_server.port)
        asked.get_all()
        consul_server.pause()
        try:
            assert "timed out" in self.cost(asked, WAIT)
        finally:
            consul_server.resume()
        until(lambda: answers(asked), "the requester to find the agent again")
        asked.close()

    def test_a_request_waits_for_a_silent_server_once(self, client: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"consul://127.0.0.1:{silent.getsockname()[1]}?timeout={WAIT}&client={option(client)}"
            with FlagReader.from_url(url) as reader, reader.request({"kind": "user", "key": "u"}) as flags:
                started = time.monotonic()
                for key in "abc":
                    assert flags.variation(key, "default") == "default"
                assert not flags.all_flags_state().valid
                assert time.monotonic() - started <= WAIT + MARGIN


def response(body: bytes, status: str = "200 OK") -> bytes:
    """What an agent says."""
    head = f"HTTP/1.1 {status}\r\nX-Consul-Index: 1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def stored(asked: bytes, value: bytes = b"{}") -> bytes:
    """The response to a request for one key, as if it held this value."""
    line = asked.partition(b"\r\n")[0].decode()
    if "?raw" in line:
        return response(value)
    key = line.split()[1].removeprefix("/v1/kv/")
    return response(json.dumps([{"Key": key, "Value": base64.b64encode(value).decode()}]).encode())


FOUND = {("features", "a"): b"{}"}

HEAD = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 1\r\n"

TRICKLES = {
    "a status": b"HTTP/1.1 200 O",
    "a header": HEAD + b"Etag: ",
    "interim responses": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 ",
    "a body with a length": HEAD + b"Content-Length: 100000\r\n\r\n",
    "a body in chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n",
    "a body until it ends": HEAD + b"Connection: close\r\n\r\n",
}

MALFORMED = {
    "no status": b"HTTP/1.1\r\n\r\n",
    "another protocol": b"+OK\r\n",
    "a length that is no number": HEAD + b"Content-Length: two\r\nConnection: close\r\n\r\n{}",
    "a length that no reply has": HEAD + b"Content-Length: 99999999999\r\n\r\n{}",
    "a chunk that has no size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nlong\r\n{}\r\n",
    "a cut status": b"HTTP/1.1 20",
    "a cut header": HEAD + b"Content-Le",
    "a cut body": HEAD + b"Content-Length: 1000\r\n\r\n{}",
    "a cut chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{}",
    "chunks without an end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "nothing": b"",
}


def trickle(connection: socket.socket, over: threading.Event) -> None:
    """Sends byte by byte, for longer than anyone should wait."""
    started = time.monotonic()
    while time.monotonic() - started < 6 * WAIT and not over.wait(0.02):
        connection.sendall(b"x")
    connection.shutdown(socket.SHUT_RDWR)


def several(name: str, addresses: list[Any]) -> Callable[..., list[Any]]:
    """A look-up of hosts that finds these addresses for a name."""
    find = socket.getaddrinfo
    return lambda host, *rest: addresses if host in (name, name.encode()) else find(host, *rest)


class TestABadServer:
    def read(self, requester: ConsulRequester, bound: float, deadline: float | None = None) -> str:
        """What a read that fails says; its time was bounded."""
        started = time.monotonic()
        message = trouble(lambda: requester.get_many(features("a"), deadline))
        assert time.monotonic() - started <= bound + MARGIN
        assert "s3cret" not in message
        return message

    @pytest.mark.parametrize("kind", TRICKLES)
    def test_a_reply_that_trickles_in_costs_one_timeout(self, kind: str, opened: Opens) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(TRICKLES[kind])
            trickle(connection, over)

        with answering_port(answer) as port:
            requester = opened(f"consul://:s3cret@127.0.0.1:{port}", timeout=WAIT)
            assert "timed out" in self.read(requester, WAIT)
            # The deadline shortens an exchange that is under way.
            assert "timed out" in self.read(requester, WAIT / 4, time.monotonic() + WAIT / 4)
            requester.close()

    @pytest.mark.parametrize("kind", MALFORMED)
    def test_a_malformed_reply_is_a_store_that_did_not_answer(self, kind: str, opened: Opens, client: str) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(MALFORMED[kind])
            connection.shutdown(socket.SHUT_RDWR)

        with answering_port(answer) as port:
            requester = opened(f"consul://:s3cret@127.0.0.1:{port}", timeout=WAIT)
            message = self.read(requester, 0.0)
            if client == "wire":  # the packages make something of a few of them, which then is no JSON
                assert message.startswith("Consul did not answer: ")
                assert message.endswith("; is the agent running, and is the URL right?")
            requester.close()

    def test_one_that_is_no_agent_is_told_from_one_that_holds_any_text(self, opened: Opens) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        with answering_port(answer) as port:
            requester = opened(f"consul://127.0.0.1:{port}", timeout=WAIT)
            assert "is there another server at this URL?" in self.read(requester, 0.0)
            requester.close()

    def test_a_deadline_is_for_all_exchanges_of_a_call_together(self, opened: Opens) -> None:
        asked_for = []

        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            asked_for.append(asked)
            over.wait(WAIT / 2)
            connection.sendall(response(b'{"Results": [], "Errors": null}'))

        with answering_port(answer) as port:
            requester = opened(f"consul://127.0.0.1:{port}", timeout=WAIT)
            started = time.monotonic()
            refs = features(*map(str, range(64 * 20)))
            assert "timed out" in trouble(lambda: requester.get_many(refs, started + WAIT))
            assert time.monotonic() - started <= WAIT + MARGIN
            assert 0 < len(asked_for) <= 3
            requester.close()

    def test_what_is_asked_after_the_deadline_is_not_sent(self, nowhere: Proxy, lost: ConsulRequester) -> None:
        late = time.monotonic()
        for read in (lambda: lost.get_many(features("a"), late), lambda: lost.get_all(late)):
            assert "timed out" in trouble(read)
        assert nowhere.sent == []

    def test_the_deadline_of_a_request_cuts_a_reply_short(self, client: str) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(HEAD)
            trickle(connection, over)

        with answering_port(answer) as port:
            url = f"consul://127.0.0.1:{port}?timeout=30&client={option(client)}"
            with FlagReader.from_url(url) as reader, reader.request(USER, timeout=WAIT) as flags:
                started = time.monotonic()
                assert flags.variation("a", "default") == "default"
                assert not flags.all_flags_state().valid
                assert time.monotonic() - started <= WAIT + MARGIN

    def test_a_host_of_several_silent_addresses_costs_one_timeout(
        self, opened: Opens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with full_port() as port:
            addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))] * 4
            monkeypatch.setattr(socket, "getaddrinfo", several("many.test", addresses))
            requester = opened(f"consul://many.test:{port}", timeout=WAIT)
            assert "timed out" in self.read(requester, WAIT)
            assert "timed out" in self.read(requester, WAIT / 4, time.monotonic() + WAIT / 4)
            requester.close()

    def test_an_address_that_is_silent_leaves_time_for_the_next(
        self, opened: Opens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(stored(asked))

        with full_port() as full, answering_port(answer) as port:
            addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", each)) for each in (full, port)]
            monkeypatch.setattr(socket, "getaddrinfo", several("many.test", addresses))
            requester = opened("consul://many.test", timeout=WAIT)
            assert requester.get_many(features("a")) == FOUND
            requester.close()

    @pytest.mark.parametrize("client", ["python-consul", "py-consul"], indirect=True)
    def test_through_a_package_each_address_has_its_share_of_the_time(
        self, opened: Opens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float] = []

        def connect(address: object, timeout: float, **options: object) -> None:
            waits.append(timeout)
            raise TimeoutError("timed out")

        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in (1, 2)]
        monkeypatch.setattr(socket, "getaddrinfo", several("many.test", addresses))
        monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
        requester = opened("consul://many.test", timeout=WAIT)
        assert "timed out" in self.read(requester, 0.0)
        assert len(waits) == 2
        assert waits[0] <= WAIT / 2 < waits[1] <= WAIT
        requester.close()

    def test_a_host_that_nobody_knows_is_a_store_error(self, opened: Opens) -> None:
        requester = opened("consul://nobody.invalid", timeout=WAIT)
        assert trouble(lambda: requester.get_many(features("a"))).startswith("Consul did not answer: ")
        requester.close()


class TestConnections:
    def test_one_serves_many_reads(self, nowhere: Proxy, lost: ConsulRequester) -> None:
        nowhere.instead = lambda sent: Answer(404, {}, b"")
        for _ in range(3):
            lost.get_many(features("a"))
            lost.get_all()
        assert nowhere.connections == 1

    def test_one_that_the_server_closed_is_opened_anew(self, opened: Opens) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(stored(asked))
            connection.shutdown(socket.SHUT_RDWR)
            ended.set()

        ended = threading.Event()
        with answering_port(answer) as port:
            requester = opened(f"consul://127.0.0.1:{port}", timeout=WAIT)
            for _ in range(3):
                ended.clear()
                assert requester.get_many(features("a")) == FOUND
                assert ended.wait(10)
            requester.close()

    @pytest.mark.parametrize("client", ["wire"], indirect=True)
    def test_one_on_which_nobody_answers_any_more_is_opened_anew_in_time(self, opened: Opens) -> None:
        first: list[socket.socket] = []

        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            if not first:
                first.append(connection)
            elif connection is first[0]:
                return  # as if the packets went nowhere
            connection.sendall(stored(asked))

        with answering_port(answer) as port:
            requester = opened(f"consul://127.0.0.1:{port}", timeout=WAIT)
            assert requester.get_many(features("a")) == FOUND
            started = time.monotonic()
            assert requester.get_many(features("a")) == FOUND
            assert time.monotonic() - started <= WAIT + MARGIN
            requester.close()

    def test_an_agent_that_was_started_again_is_read(
        self, opened: Opens, consul_server: ConsulAgent, prefix: str
    ) -> None:
        requester = opened(consul_server.url, prefix=prefix, timeout=5)
        assert requester.get_many(features("a")) == {}
        consul_server.stop()
        try:
            assert trouble(lambda: requester.get_many(features("a"))).startswith("Consul did not answer: ")
        finally:
            consul_server.start()
        consul_server.put(f"{prefix}/features/a", b"{}")
        assert requester.get_many(features("a")) == FOUND
        requester.close()

    def test_threads_get_their_own_answers(self, opened: Opens) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            key = asked.split()[1].rpartition(b"/")[2].partition(b"?")[0]
            connection.sendall(stored(asked, key))

        with answering_port(answer) as port:
            requester = opened(f"consul://127.0.0.1:{port}", timeout=10)

            def work(worker: int) -> bool:
                refs = features(*(f"{worker}-{index}" for index in range(30)))
                return all(requester.get_many([ref]) == {ref: ref[1].encode()} for ref in refs)

            with ThreadPoolExecutor(8) as threads:
                assert all(threads.map(work, range(8)))
            requester.close()


class TestLeastPrivilege:
    def test_nothing_but_reading_is_sent(
        self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester
    ) -> None:
        tree.put(prefix, "features", "a", "{}")
        for key in ODD_KEYS:
            observed.get_many(features(key))
        for read in all_reads(observed):
            read()
        for sent in proxy.sent:
            if sent.method == "PUT":
                assert sent.path == "/v1/txn"
                assert {operation["KV"]["Verb"] for operation in json.loads(sent.body)} <= {"get", "get-tree"}
            else:
                assert sent.method == "GET"
                assert sent.path.startswith(f"/v1/kv/{prefix}/")

    def test_the_agents_log_shows_the_same(self, guarded: ConsulAgent, prefix: str, opened: Opens, client: str) -> None:
        token = guarded.new_token(f'key_prefix "{prefix}/" {{ policy = "read" }}')
        guarded.put(f"{prefix}/features/a", b"{}")
        before = len(guarded.log())
        requester = opened(guarded.url, prefix=prefix, token=token)
        for read in all_reads(requester):
            read()
        requester.close()
        guarded.call("GET", "/v1/status/leader")
        lines = [line for line in guarded.log()[before:].splitlines() if "Request finished: " in line]
        seen = [line.partition("Request finished: ")[2].split(" from=")[0] for line in lines]
        assert [line for line in seen if "/acl/" not in line][:-1] == [
            f"method=GET url=/v1/kv/{prefix}/features/a{'?raw=true' if client == 'wire' else ''}",
            "method=PUT url=/v1/txn",
            "method=PUT url=/v1/txn",
            f"method=GET url=/v1/kv/{prefix}/?recurse=true",
        ]


class Redirecting(http.server.BaseHTTPRequestHandler):
    """Sends everyone elsewhere, and notes who came."""

    seen: list[str] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.headers['Host'].rpartition(':')[2]}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_a_redirect_is_not_followed_because_the_token_would_go_along(opened: Opens) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            requester = opened(f"consul://:s3cret@127.0.0.1:{server.server_address[1]}")
            with pytest.raises(StoreError):
                requester.get_many([("features", "a")])
            requester.close()
        finally:
            server.shutdown()
            thread.join()
    assert [path for path in Redirecting.seen if "elsewhere" in path] == []
