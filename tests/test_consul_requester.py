"""Consul: flags read from real agents, through python-consul and through py-consul."""

from __future__ import annotations

import base64
import http.server
import importlib
import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ldreader import FeatureRequester, FlagReader
from ldreader.errors import ConfigurationError, MissingDependency, StoreError
from ldreader.requesters import open_requester
from ldreader.requesters.consul import ConsulRequester
from ldreader.testing import ODD_KEYS, RequesterBehaviour
from tests.consul_agent import SERVERS, ConsulAgent
from tests.proxy import Answer, Proxy, Sent
from tests.servers import free_port, lacking, until

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


@pytest.fixture(scope="module", params=["python-consul", "py-consul"], autouse=True)
def package(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of the two packages, as the one that is installed."""
    if request.param == "py-consul":
        modules: dict[str, ModuleType] = request.getfixturevalue("py_consul")
    else:
        pytest.importorskip("consul", reason="python-consul is not installed: pip install python-consul")
        modules = modules_of_consul()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in modules_of_consul():
            monkeypatch.delitem(sys.modules, name)
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        yield request.param


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
def tree(consul_server: ConsulAgent) -> Tree:
    return Tree(consul_server, lambda prefix: open_requester(consul_server.url, prefix=prefix))


class TestConsulRequesterOfAUrl(RequesterBehaviour):
    @pytest.fixture
    def store(self, tree: Tree) -> Tree:
        return tree


class TestConsulRequesterOverTheApplicationsClient(RequesterBehaviour):
    @pytest.fixture
    def store(self, consul_server: ConsulAgent) -> Tree:
        client = applications(consul_server)
        return Tree(consul_server, lambda prefix: ConsulRequester(client, prefix=prefix))


class TestConsulRequesterThatMayOnlyReadItsPrefix(RequesterBehaviour):
    @pytest.fixture
    def store(self, guarded: ConsulAgent) -> Tree:
        def requester(prefix: str) -> FeatureRequester:
            token = guarded.new_token(f'key_prefix "{prefix}/" {{ policy = "read" }}')
            return open_requester(guarded.url, prefix=prefix, token=token)

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
def observed(proxy: Proxy, prefix: str) -> Iterator[ConsulRequester]:
    """A requester whose requests go through the proxy."""
    requester = ConsulRequester.from_url(f"consul://127.0.0.1:{proxy.port}?prefix={prefix}&timeout={WAIT}")
    yield requester
    requester.close()


@pytest.fixture
def nowhere() -> Iterator[Proxy]:
    """A server that answers as a test tells it to."""
    with Proxy(0) as proxy:
        yield proxy


@pytest.fixture
def lost(nowhere: Proxy) -> Iterator[ConsulRequester]:
    """A requester of that server."""
    requester = ConsulRequester.from_url(f"consul://127.0.0.1:{nowhere.port}", timeout=WAIT)
    yield requester
    requester.close()


def features(*keys: str) -> list[tuple[str, str]]:
    return [("features", key) for key in keys]


def requests_in(sent: list[Sent]) -> list[str]:
    """Each request's first line."""
    return [f"{request.method} {request.path}" for request in sent]


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
    def test_one_item_is_one_key(self, tree: Tree, prefix: str, proxy: Proxy, observed: ConsulRequester) -> None:
        tree.put(prefix, "features", "a", "{}")
        assert observed.get_many(features("a")) == {("features", "a"): b"{}"}
        assert observed.get_many(features("nowhere")) == {}
        assert requests_in(proxy.sent) == [f"GET /v1/kv/{prefix}/features/{key}" for key in ("a", "nowhere")]

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
    def test_the_default_prefix_is_launchdarkly(self, proxy: Proxy, given: str | None) -> None:
        requester = ConsulRequester.from_url(f"consul://127.0.0.1:{proxy.port}", prefix=given)
        requester.get_many(features("a"))
        requester.close()
        assert requests_in(proxy.sent) == ["GET /v1/kv/launchdarkly/features/a"]

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
        self, consul_server: ConsulAgent, tree: Tree, prefix: str, package: str
    ) -> None:
        for index in range(4):
            tree.put(prefix, "features", f"key-{index}", str(index))
        program = f"""
import os, sys
if {package == "py-consul"}:
    sys.path.insert(0, {str(SERVERS / f"py-consul-{PY_CONSUL}")!r})
from ldreader.requesters import open_requester
requester = open_requester({consul_server.url!r}, prefix={prefix!r})
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
    def test_it_may_stand_in_the_url(self, guarded: ConsulAgent, prefix: str, token: str, form: str) -> None:
        assert self.reads(ConsulRequester.from_url(self.url(guarded, prefix, form.format(token))))

    def test_in_the_url_it_may_be_escaped(self, guarded: ConsulAgent, prefix: str, token: str) -> None:
        escaped = token.replace("-", "%2D")
        assert self.reads(ConsulRequester.from_url(self.url(guarded, prefix, f":{escaped}")))

    def test_the_environment_is_the_last_resort(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", token)
        assert self.reads(ConsulRequester.from_url(guarded.url, prefix=prefix))

    def test_the_url_wins_over_the_environment(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", str(uuid.uuid4()))
        assert self.reads(ConsulRequester.from_url(self.url(guarded, prefix, f":{token}")))

    def test_code_wins_over_both(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", str(uuid.uuid4()))
        wrong = self.url(guarded, prefix, f":{uuid.uuid4()}")
        assert self.reads(ConsulRequester.from_url(wrong, token=token))

    def test_no_token_in_code_is_no_token(
        self, guarded: ConsulAgent, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", token)
        requester = ConsulRequester.from_url(guarded.url, prefix=prefix, token="")
        assert "403" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    def test_it_is_sent_as_a_header_and_never_in_a_url(self, proxy: Proxy) -> None:
        requester = ConsulRequester.from_url(f"consul://:secret@127.0.0.1:{proxy.port}")
        for read in all_reads(requester):
            read()
        requester.close()
        assert {sent.headers["X-Consul-Token"] for sent in proxy.sent} == {"secret"}
        assert "secret" not in "".join(requests_in(proxy.sent))

    def test_a_wrong_one_is_one_clear_line(self, guarded: ConsulAgent, prefix: str) -> None:
        requester = ConsulRequester.from_url(guarded.url, prefix=prefix, token=str(uuid.uuid4()))
        for read in all_reads(requester):
            message = trouble(read)
            assert message.startswith("Consul refused to read: 403 ACL not found; the token needs key_prefix read")
        requester.close()

    def test_one_for_another_prefix_is_told_so_and_not_that_nothing_is_there(
        self, guarded: ConsulAgent, prefix: str, token: str
    ) -> None:
        guarded.put(f"{prefix}0/features/a", b"{}")
        guarded.put(f"{prefix}0/features/b", b"{}")
        requester = ConsulRequester.from_url(guarded.url, prefix=f"{prefix}0", token=token)
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

    def test_a_reader_serves_the_default_when_the_agent_refuses(self, guarded: ConsulAgent) -> None:
        with FlagReader.from_url(guarded.url, token=str(uuid.uuid4())) as reader:
            detail = reader.variation_detail("a", {"kind": "user", "key": "u"}, "default")
        assert (detail.value, detail.reason) == ("default", {"kind": "ERROR", "errorKind": "EXCEPTION"})

    def test_a_token_that_may_only_read_is_enough(self, guarded: ConsulAgent, prefix: str, token: str) -> None:
        guarded.put(f"{prefix}/segments/s", b"[]")
        requester = ConsulRequester.from_url(guarded.url, prefix=prefix, token=token)
        assert len(requester.get_many([("features", "a"), ("segments", "s"), ("segments", "nowhere")])) == 2
        assert requester.get_all() == {"features": {"a": b"{}"}, "segments": {"s": b"[]"}}
        requester.close()


class TestEnvironment:
    def test_no_other_variable_of_consuls_is_looked_at(
        self, consul_server: ConsulAgent, tree: Tree, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
        monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
        monkeypatch.setenv("CONSUL_HTTP_SSL_VERIFY", "false")
        monkeypatch.setenv("CONSUL_HTTP_AUTH", "user:password")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        tree.put(prefix, "features", "a", "{}")
        requester = ConsulRequester.from_url(consul_server.url, prefix=prefix)
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        requester.close()


class TestTls:
    @pytest.fixture
    def url(self, guarded: ConsulAgent, prefix: str) -> str:
        guarded.put(f"{prefix}/features/a", b"{}")
        return guarded.tls_url.replace("//", f"//:{guarded.token}@") + f"?prefix={prefix}"

    def test_with_authority_and_certificate_it_reads(self, guarded: ConsulAgent, url: str) -> None:
        requester = ConsulRequester.from_url(url, verify=guarded.authority, cert=guarded.client_certificate)
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        assert requester.get_many(features("a", "b")) == {("features", "a"): b"{}"}
        requester.close()

    def test_files_may_stand_in_the_url(self, guarded: ConsulAgent, url: str, tmp_path: Path) -> None:
        both = tmp_path / "both.pem"
        both.write_text("".join(Path(name).read_text() for name in guarded.client_certificate))
        requester = ConsulRequester.from_url(f"{url}&verify={guarded.authority}&cert={both}")
        assert requester.get_many(features("a")) == {("features", "a"): b"{}"}
        requester.close()

    def test_an_authority_that_nobody_knows_is_not_trusted(self, guarded: ConsulAgent, url: str) -> None:
        requester = ConsulRequester.from_url(url, cert=guarded.client_certificate)
        assert "certificate verify failed" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    def test_without_a_certificate_the_agent_refuses(self, guarded: ConsulAgent, url: str) -> None:
        requester = ConsulRequester.from_url(url, verify=guarded.authority)
        assert "Consul did not answer" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    def test_a_file_that_is_not_there_is_named(self, url: str) -> None:
        requester = ConsulRequester.from_url(url, verify="/nowhere/ca.pem")
        assert "/nowhere/ca.pem" in trouble(lambda: requester.get_many(features("a")))
        requester.close()

    def test_plain_http_on_a_tls_port_is_a_store_error(self, guarded: ConsulAgent, url: str) -> None:
        requester = ConsulRequester.from_url(url.replace("consul+https:", "consul:"))
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
    @pytest.mark.parametrize("where", ["url", "code", "the client"])
    def test_another_one_is_read_through_the_agent(
        self, two_datacenters: tuple[ConsulAgent, ConsulAgent], prefix: str, where: str
    ) -> None:
        here, elsewhere = two_datacenters
        for key in "ab":
            here.put(f"{prefix}/features/{key}", b"here")
            elsewhere.put(f"{prefix}/features/{key}", b"there")
        url = f"{here.url}?prefix={prefix}"
        requester = {
            "url": lambda: ConsulRequester.from_url(f"{url}&datacenter=elsewhere"),
            "code": lambda: ConsulRequester.from_url(f"{url}&datacenter=nowhere", datacenter="elsewhere"),
            "the client": lambda: ConsulRequester(applications(here, dc="elsewhere"), prefix=prefix),
        }[where]()
        assert requester.get_many(features("a")) == {("features", "a"): b"there"}
        assert requester.get_many(features("a", "b")) == dict.fromkeys(features("a", "b"), b"there")
        assert requester.get_all()["features"] == {"a": b"there", "b": b"there"}
        requester.close()

    def test_one_that_is_not_there_is_a_clear_error(self, consul_server: ConsulAgent) -> None:
        requester = ConsulRequester.from_url(consul_server.url, datacenter="nowhere")
        for read in all_reads(requester):
            assert trouble(read) == "Consul refused to read: 500 No path to datacenter"
        requester.close()


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
    def test_nothing_is_contacted(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as agent:
            agent.setblocking(False)
            ConsulRequester.from_url(f"consul://127.0.0.1:{agent.getsockname()[1]}").close()
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
            ("CONSUL+HTTPS://:token@[::1]:1", "https://[::1]:1"),
        ],
    )
    def test_the_host_and_port_have_defaults(self, url: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def get(self: Any, callback: object, path: str, parameters: object) -> tuple[int, str]:
            asked.append(self.base_uri)
            return 404, ""

        monkeypatch.setattr(importlib.import_module("consul.std").HTTPClient, "get", get)
        requester = open_requester(url)
        assert requester.get_many(features("a")) == {}
        assert asked == [base]

    def test_a_missing_package_is_named_with_the_extra_that_brings_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "consul", None)
        with pytest.raises(MissingDependency, match=r"^the package 'consul' .* pip install 'ldreader\[consul\]'$"):
            open_requester("consul://localhost")

    def test_no_other_stores_package_is_imported_and_nothing_warns(
        self, consul_server: ConsulAgent, package: str, tmp_path: Path
    ) -> None:
        folders = [str(SERVERS / f"py-consul-{PY_CONSUL}")] if package == "py-consul" else []
        program = (
            f"import sys; sys.path[:0] = {folders}\n"
            "from ldreader import FlagReader\n"
            f"reader = FlagReader.from_url({consul_server.url!r})\n"
            "assert reader.variation('a', {'kind': 'user', 'key': 'u'}, 7) == 7\n"
            "assert not {'redis', 'boto3', 'yaml', 'flask'} & set(sys.modules), sorted(sys.modules)\n"
        )
        # Compiled anew, so that what the compiler warns of is seen too.
        command = [sys.executable, "-W", "error", "-X", f"pycache_prefix={tmp_path}", "-c", program]
        subprocess.run(command, check=True, timeout=30)


class TestBoundedWaits:
    def requester(self, port: int) -> ConsulRequester:
        return ConsulRequester.from_url(f"consul://127.0.0.1:{port}", timeout=WAIT)

    def cost(self, requester: ConsulRequester, bound: float, keys: int = 1) -> str:
        """What a read that fails says; its time was bounded."""
        started = time.monotonic()
        message = trouble(lambda: requester.get_many(features(*map(str, range(keys)))))
        assert time.monotonic() - started <= bound + MARGIN
        return message

    @pytest.mark.parametrize("keys", [1, 300])
    def test_a_closed_port_costs_no_wait(self, keys: int) -> None:
        assert "Connection refused" in self.cost(self.requester(free_port()), 0.0, keys)

    @pytest.mark.parametrize("keys", [1, 300])
    def test_a_silent_server_costs_one_timeout(self, keys: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert "timed out" in self.cost(self.requester(silent.getsockname()[1]), WAIT, keys)

    def test_a_server_that_takes_no_connection_costs_one_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            waiting = [socket.socket() for _ in range(4)]
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            try:
                assert "timed out" in self.cost(self.requester(full.getsockname()[1]), WAIT)
            finally:
                for client in waiting:
                    client.close()

    def test_an_agent_that_stops_answering_costs_one_timeout_and_is_asked_again(
        self, consul_server: ConsulAgent
    ) -> None:
        requester = self.requester(consul_server.port)
        requester.get_all()
        consul_server.pause()
        try:
            assert "timed out" in self.cost(requester, WAIT)
        finally:
            consul_server.resume()
        until(lambda: answers(requester), "the agent to be its own leader again")
        requester.close()

    def test_a_request_waits_for_a_silent_server_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"consul://127.0.0.1:{silent.getsockname()[1]}?timeout={WAIT}"
            with FlagReader.from_url(url) as reader, reader.request({"kind": "user", "key": "u"}) as flags:
                started = time.monotonic()
                for key in "abc":
                    assert flags.variation(key, "default") == "default"
                assert not flags.all_flags_state().valid
                assert time.monotonic() - started <= WAIT + MARGIN


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

    def test_the_agents_log_shows_the_same(self, guarded: ConsulAgent, prefix: str) -> None:
        token = guarded.new_token(f'key_prefix "{prefix}/" {{ policy = "read" }}')
        guarded.put(f"{prefix}/features/a", b"{}")
        before = len(guarded.log())
        requester = ConsulRequester.from_url(guarded.url, prefix=prefix, token=token)
        for read in all_reads(requester):
            read()
        requester.close()
        guarded.call("GET", "/v1/status/leader")
        lines = [line for line in guarded.log()[before:].splitlines() if "Request finished: " in line]
        seen = [line.partition("Request finished: ")[2].split(" from=")[0] for line in lines]
        assert [line for line in seen if "/acl/" not in line][:-1] == [
            f"method=GET url=/v1/kv/{prefix}/features/a",
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


def test_a_redirect_is_not_followed_because_the_token_would_go_along() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            requester = open_requester(f"consul://:s3cret@127.0.0.1:{server.server_address[1]}")
            with pytest.raises(StoreError):
                requester.get_many([("features", "a")])
            requester.close()
        finally:
            server.shutdown()
            thread.join()
    assert [path for path in Redirecting.seen if "elsewhere" in path] == []
