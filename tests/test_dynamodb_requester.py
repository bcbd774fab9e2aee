"""DynamoDB: flags and big segments read by two clients from two independent implementations of its protocol."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldreader import FeatureRequester, FlagReader
from ldreader.errors import ConfigurationError, MissingDependency, StoreError
from ldreader.requesters import open_requester
from ldreader.requesters.dynamodb import SINGLE_FOR, DynamoDBRequester
from ldreader.requesters.protocol import BigSegmentStore
from ldreader.testing import RequesterBehaviour
from tests import sam
from tests.aws import DynamoDBServer, moto
from tests.proxy import Answer, Proxy, Sent
from tests.redis_fixtures import answering_port, full_port, silent_port
from tests.servers import free_port

TABLE = "flags"
WAIT = 0.8  # the timeout where one is waited for
MARGIN = 0.7  # what else a bounded wait may take, on a busy machine; less than another timeout


@pytest.fixture(scope="session", params=["moto", "other"])
def server(request: pytest.FixtureRequest) -> DynamoDBServer:
    """Each of the implementations, with a table."""
    server: DynamoDBServer = request.getfixturevalue("dynamodb" if request.param == "moto" else "other_dynamodb")
    server.create_table(TABLE)
    return server


@pytest.fixture(params=["wire", "boto3"])
def client(request: pytest.FixtureRequest) -> str:
    """Each of the clients that a requester may have."""
    name: str = request.param
    return name


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@cache
def client_of(server: DynamoDBServer) -> Any:
    """One client for all that the tests write."""
    return server.client()


class Table:
    """The table, filled by plain commands."""

    has_prefixes = True
    holds_any_text = True

    def __init__(self, server: DynamoDBServer, requester: Callable[[str], FeatureRequester], name: str = TABLE) -> None:
        self.client = client_of(server)
        self.requester = requester
        self.name = name

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        self.put_row(f"{prefix}:{kind}" if prefix else kind, key, item={"S": text}, version={"N": "1"})

    def put_row(self, namespace: str, key: str, **attributes: Any) -> None:
        row = {"namespace": {"S": namespace}, "key": {"S": key}, **attributes}
        self.client.put_item(TableName=self.name, Item=row)


@pytest.fixture
def table(server: DynamoDBServer, client: str) -> Table:
    return Table(server, lambda prefix: open_requester(server.url(TABLE, prefix), client=client))


@pytest.fixture
def proxy(server: DynamoDBServer) -> Iterator[Proxy]:
    """The same server, where all that is sent is seen."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def observed(server: DynamoDBServer, proxy: Proxy, prefix: str, client: str) -> Iterator[DynamoDBRequester]:
    """A requester whose requests go through the proxy."""
    requester = DynamoDBRequester.from_url(server.url(TABLE, prefix, proxy.port), timeout=WAIT, client=client)
    requester.get_many(features("any"))  # making the client is no part of what is measured
    proxy.sent.clear()
    yield requester
    requester.close()


@pytest.fixture
def nowhere(aws_environment: None) -> Iterator[Proxy]:
    """A server that answers as a test tells it to."""
    with Proxy(0) as proxy:
        yield proxy


@pytest.fixture
def lost(nowhere: Proxy, client: str) -> Iterator[DynamoDBRequester]:
    """A requester of that server."""
    requester = requester_on(nowhere.port, client)
    yield requester
    requester.close()


def requester_on(port: int, client: str, timeout: float = WAIT) -> DynamoDBRequester:
    """A requester that has its client already: making it is no part of what is measured."""
    endpoint_url = f"http://127.0.0.1:{port}"
    url = f"dynamodb://{TABLE}?client={client}"
    requester = DynamoDBRequester.from_url(url, endpoint_url=endpoint_url, timeout=timeout)
    if client == "boto3":
        requester._dynamodb._get_ready()  # type: ignore[attr-defined]
    return requester


class TestDynamoDBRequesterOfAUrl(RequesterBehaviour):
    @pytest.fixture
    def store(self, table: Table) -> Table:
        return table


class TestDynamoDBRequesterOverTheApplications(RequesterBehaviour):
    @pytest.fixture
    def client(self) -> str:
        return "the application's"

    @pytest.fixture(params=["client", "resource"])
    def store(self, server: DynamoDBServer, table: Table, request: pytest.FixtureRequest) -> Table:
        given = applications(server, request.param)
        table.requester = lambda prefix: DynamoDBRequester(given, TABLE, prefix=prefix)
        return table


def applications(server: DynamoDBServer, what: str) -> Any:
    """What an application may have of boto3."""
    if what == "session":
        import boto3

        return boto3.session.Session(region_name="us-east-1")
    if what == "client":
        return server.client()
    resource = server.resource()
    return {"resource": resource, "table": resource.Table(TABLE), "client of a resource": resource.meta.client}[what]


def operation(sent: Sent) -> str:
    """The operation that a request asks for."""
    return sent.headers["X-Amz-Target"].partition(".")[2]


def payload(sent: Sent) -> Any:
    return json.loads(sent.body)


def keys_asked(sent: Sent) -> list[str]:
    """The keys that a BatchGetItem asks for."""
    return [key["key"]["S"] for key in payload(sent)["RequestItems"][TABLE]["Keys"]]


def refused(code: str, message: str = "no", status: int = 400) -> Answer:
    """An error of DynamoDB's."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    return Answer(status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


def features(*keys: str) -> list[tuple[str, str]]:
    return [("features", key) for key in keys]


def trouble(read: Callable[[], object]) -> str:
    """What a store error says, on one line."""
    with pytest.raises(StoreError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is not caught.value
    return message


class Stopwatch:
    """Whether a wait was bounded."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def shows_at_most(self, seconds: float) -> bool:
        self.seconds = time.monotonic() - self.started
        return self.seconds <= seconds + MARGIN


class TestReading:
    def test_one_item_is_got_and_several_in_a_batch(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        table.put(prefix, "features", "a", "{}")
        table.put(prefix, "segments", "s", "{}")
        observed.get_many(features("a"))
        assert [operation(sent) for sent in proxy.sent] == ["GetItem"]
        assert len(observed.get_many([("features", "a"), ("segments", "s"), ("segments", "nowhere")])) == 2
        assert [operation(sent) for sent in proxy.sent] == ["GetItem", "BatchGetItem"]

    def test_a_batch_has_a_hundred_keys_at_most(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        keys = [f"key-{index}" for index in range(201)]
        for key in keys[::10]:
            table.put(prefix, "features", key, "{}")
        assert observed.get_many(features(*keys)).keys() == set(features(*keys[::10]))
        assert [len(keys_asked(sent)) for sent in proxy.sent] == [100, 100, 1]

    def test_everything_takes_two_queries_when_it_is_small(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        table.put(prefix, "features", "a", "{}")
        observed.get_all()
        assert [operation(sent) for sent in proxy.sent] == ["Query", "Query"]

    def test_more_than_a_megabyte_comes_in_pages(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        text = json.dumps({"salt": "x" * 350_000})
        keys = [f"key-{index}" for index in range(7)]
        for key in keys:
            table.put(prefix, "features", key, text)
        everything = observed.get_all()
        assert everything == {"features": dict.fromkeys(keys, text), "segments": {}}
        assert len(proxy.sent) >= 4  # three pages of flags, one of segments

    def test_more_than_a_batch_may_give_comes_in_several(
        self, server: DynamoDBServer, table: Table, prefix: str, proxy: Proxy, client: str
    ) -> None:
        text = json.dumps({"salt": "x" * 390_000})
        keys = [f"key-{index}" for index in range(45)]  # 17 MB
        for key in keys:
            table.put(prefix, "features", key, text)
        url = server.url(TABLE, prefix, proxy.port)
        requester = DynamoDBRequester.from_url(url, timeout=30.0, client=client)  # servers for tests take their time
        assert requester.get_many(features(*keys)) == dict.fromkeys(features(*keys), text)
        assert len(proxy.sent) >= 2
        requester.close()

    def test_reads_are_consistent_by_default(self, proxy: Proxy, observed: DynamoDBRequester) -> None:
        read_in_all_ways(observed)
        assert consistency(proxy.sent) == [True] * 4

    @pytest.mark.parametrize("where", ["url", "code"])
    def test_reads_may_be_cheaper_and_not_consistent(
        self, server: DynamoDBServer, proxy: Proxy, client: str, where: str
    ) -> None:
        url = f"{server.url(TABLE, 'any', proxy.port)}&client={client}"
        if where == "url":
            requester = DynamoDBRequester.from_url(f"{url}&consistent=false")
        else:
            requester = DynamoDBRequester.from_url(f"{url}&consistent=true", consistent=False)
        read_in_all_ways(requester)
        requester.close()
        assert consistency(proxy.sent) == [False] * 4

    @pytest.mark.parametrize("given", [None, ""])
    def test_there_is_no_prefix_by_default(
        self, server: DynamoDBServer, proxy: Proxy, client: str, given: str | None
    ) -> None:
        endpoint_url = f"http://127.0.0.1:{proxy.port}"
        requester = DynamoDBRequester.from_url(
            f"dynamodb://{TABLE}", endpoint_url=endpoint_url, region="us-east-1", prefix=given, client=client
        )
        requester.get_many(features("nowhere"))
        requester.get_all()
        requester.close()
        get, query = payload(proxy.sent[0]), payload(proxy.sent[1])
        assert get["Key"]["namespace"] == {"S": "features"}
        assert list(query["ExpressionAttributeValues"].values()) == [{"S": "features"}]

    def test_code_wins_over_the_url(self, server: DynamoDBServer, table: Table, prefix: str, client: str) -> None:
        table.put(prefix, "features", "a", "{}")
        url = f"dynamodb://{TABLE}?prefix=other&region=nowhere-1&endpoint_url=http://127.0.0.1:1&timeout=0.1&client=x"
        requester = DynamoDBRequester.from_url(
            url, prefix=prefix, region="us-east-1", endpoint_url=server.endpoint_url, timeout=5, client=client
        )
        assert requester.get_many(features("a")) == {("features", "a"): "{}"}
        requester.close()

    def test_a_row_without_an_item_is_missing(self, table: Table, prefix: str) -> None:
        table.put_row(f"{prefix}:features", "bare")
        table.put_row(f"{prefix}:features", "number", item={"N": "1"})
        table.put(prefix, "features", "a", "{}")
        requester = table.requester(prefix)
        assert requester.get_many(features("bare")) == {}
        assert requester.get_many(features("bare", "number", "a")).keys() == {("features", "a")}
        assert requester.get_all()["features"].keys() == {"a"}
        requester.close()

    def test_keys_that_a_batch_would_be_refused_for_spoil_nobody(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        longest = "ü" * 512
        table.put(prefix, "features", longest, "{}")
        table.put(prefix, "features", "a", "{}")
        found = observed.get_many(features("a", "", "a", longest, f"{longest}k"))
        assert found.keys() == {("features", "a"), ("features", longest)}
        assert [operation(sent) for sent in proxy.sent] == ["BatchGetItem"]

    def test_keys_that_cannot_be_stored_are_not_asked_for(self, proxy: Proxy, observed: DynamoDBRequester) -> None:
        assert observed.get_many(features("", "k" * 1025)) == {}
        assert proxy.sent == []

    def test_processes_that_fork_do_not_share_a_connection(
        self, server: DynamoDBServer, table: Table, prefix: str, client: str
    ) -> None:
        for index in range(4):
            table.put(prefix, "features", f"key-{index}", str(index))
        forked(f"{server.url(TABLE, prefix)}&client={client}")


def read_in_all_ways(requester: DynamoDBRequester) -> None:
    requester.get_many(features("a"))
    requester.get_many(features("a", "b"))
    requester.get_all()


def consistency(sent: Sequence[Sent]) -> list[bool]:
    """What each request said of it."""
    told = [payload(request) for request in sent]
    return [request.get("RequestItems", {}).get(TABLE, request)["ConsistentRead"] for request in told]


def forked(url: str) -> None:
    """Reads in a process that has read already, and in two others forked from it, at the same time."""
    program = f"""
import os
from ldreader.requesters import open_requester
requester = open_requester({url!r})
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


class TestWhatABatchLeavesOut:
    def withhold(self, proxy: Proxy, keys: set[str], times: int) -> Callable[[Sent], Answer | None]:
        """Answers the first batches without these keys, as DynamoDB does when reads are throttled."""
        left = [times]

        def instead(sent: Sent) -> Answer | None:
            if operation(sent) != "BatchGetItem" or left[0] == 0:
                return None
            left[0] -= 1
            table = payload(sent)["RequestItems"][TABLE]
            withheld = [key for key in table["Keys"] if key["key"]["S"] in keys]
            table["Keys"] = [key for key in table["Keys"] if key not in withheld]
            reply: dict[str, Any] = {"Responses": {TABLE: []}}
            if table["Keys"]:
                body = json.dumps({"RequestItems": {TABLE: table}}).encode()
                headers = {**sent.headers, "Content-Length": str(len(body))}
                reply = json.loads(proxy.forward(sent._replace(body=body, headers=headers)).body)
            reply["UnprocessedKeys"] = {TABLE: {"Keys": withheld}} if withheld else {}
            headers = {"Content-Type": "application/x-amz-json-1.0"}
            return Answer(200, headers, json.dumps(reply).encode())

        return instead

    def test_it_is_asked_for_again(self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester) -> None:
        for key in "abcd":
            table.put(prefix, "features", key, f'"{key}"')
        proxy.instead = self.withhold(proxy, {"b", "d"}, 2)
        assert observed.get_many(features(*"abcd")) == {("features", key): f'"{key}"' for key in "abcd"}
        assert [sorted(keys_asked(sent)) for sent in proxy.sent] == [["a", "b", "c", "d"], ["b", "d"], ["b", "d"]]
        assert consistency(proxy.sent) == [True] * 3

    def test_what_stays_out_is_a_store_error_in_its_place_within_the_time(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        for key in "abc":
            table.put(prefix, "features", key, "{}")
        observed.get_many(features("a"))
        proxy.instead = self.withhold(proxy, {"b", "nowhere"}, -1)
        stopwatch = Stopwatch()
        found = observed.get_many(features("a", "b", "c", "nowhere"))
        assert stopwatch.shows_at_most(WAIT)
        assert found["features", "a"] == found["features", "c"] == "{}"
        for key in ("b", "nowhere"):
            assert isinstance(found["features", key], StoreError)
            assert f"{key!r}" in str(found["features", key])
            assert "throttled" in str(found["features", key])
        assert 3 <= len(proxy.sent) <= 10

    def test_many_batches_take_no_longer_than_one(self, prefix: str, proxy: Proxy, observed: DynamoDBRequester) -> None:
        keys = [f"key-{index}" for index in range(400)]
        observed.get_many(features("a"))
        proxy.instead = self.withhold(proxy, set(keys), -1)
        stopwatch = Stopwatch()
        found = observed.get_many(features(*keys))
        assert stopwatch.shows_at_most(WAIT)
        assert len(found) == 400
        assert all(isinstance(text, StoreError) for text in found.values())

    def test_a_membership_that_stays_out_is_a_store_error(self, proxy: Proxy, observed: DynamoDBRequester) -> None:
        proxy.instead = self.withhold(proxy, {"hash"}, -1)
        assert "throttled" in trouble(lambda: observed.get_membership("hash"))

    def test_an_applications_resource_is_asked_again_too(
        self, server: DynamoDBServer, table: Table, prefix: str, proxy: Proxy
    ) -> None:
        for key in "ab":
            table.put(prefix, "features", key, "{}")
        resource = server.resource(proxy.port)
        proxy.instead = self.withhold(proxy, {"b"}, 1)
        found = DynamoDBRequester(resource, TABLE, prefix=prefix).get_many(features("a", "b"))
        assert found == dict.fromkeys(features("a", "b"), "{}")
        resource.meta.client.close()


class TestTheApplicationsOwn:
    @pytest.fixture
    def client(self) -> str:
        return "the application's"

    @pytest.mark.parametrize("what", ["client", "resource", "table", "client of a resource"])
    def test_it_is_used_and_left_open(self, server: DynamoDBServer, table: Table, prefix: str, what: str) -> None:
        given = applications(server, what)
        closed: list[bool] = []
        client = getattr(given.meta, "client", given)
        close = client.close
        client.close = lambda: closed.append(True)
        table.put(prefix, "features", "a", "{}")
        requester = DynamoDBRequester(given, TABLE, prefix=prefix)
        assert requester.get_many(features("a")) == {("features", "a"): "{}"}
        requester.close()
        requester.stop()
        assert closed == []
        close()

    def test_how_often_it_is_tried_is_its_own_affair(self, nowhere: Proxy) -> None:
        import boto3
        from botocore.config import Config

        once = Config(retries={"total_max_attempts": 1})
        endpoint_url = f"http://127.0.0.1:{nowhere.port}"
        given = boto3.client("dynamodb", endpoint_url=endpoint_url, region_name="us-east-1", config=once)
        nowhere.instead = lambda sent: refused("InternalServerError", status=500)
        trouble(lambda: DynamoDBRequester(given, TABLE).get_many(features("a")))
        assert len(nowhere.sent) == 1
        given.close()

    def test_a_session_is_asked_for_a_client_with_short_timeouts(
        self, server: DynamoDBServer, table: Table, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.endpoint_url)
        table.put(prefix, "features", "a", "{}")
        requester = DynamoDBRequester(applications(server, "session"), TABLE, prefix=prefix, timeout=1.5)
        assert requester.get_many(features("a")) == {("features", "a"): "{}"}
        config = requester._dynamodb._client.meta.config  # type: ignore[attr-defined]
        assert (config.connect_timeout, config.read_timeout, config.tcp_keepalive) == (1.5, 1.5, True)
        assert config.retries["total_max_attempts"] == 1
        requester.close()
        requester.close()


def test_motos_mock_of_aws_stands_behind_boto3(aws_environment: None) -> None:
    mock_aws = pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[server]'").mock_aws
    with mock_aws():  # which answers within this process
        requester = DynamoDBRequester.from_url(f"dynamodb://{TABLE}?client=boto3")
        assert "there is no table" in trouble(requester.get_all)
        requester.close()


class TestErrors:
    def test_no_such_table(self, server: DynamoDBServer, client: str) -> None:
        requester = DynamoDBRequester.from_url(server.url("nowhere"), client=client)
        for read in all_reads(requester):
            assert "there is no table 'nowhere' in this region and account" in trouble(read)
        requester.close()

    def test_a_table_with_other_keys(self, server: DynamoDBServer, client: str) -> None:
        server.create_table("other-keys", "id", "range")
        requester = DynamoDBRequester.from_url(server.url("other-keys"), client=client)
        for read in all_reads(requester):
            assert "needs the partition key 'namespace' and the sort key 'key', both strings" in trouble(read)
        requester.close()

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("AccessDeniedException", "allow dynamodb:GetItem, BatchGetItem and Query on the table 'flags'"),
            ("ProvisionedThroughputExceededException", "reads of the table 'flags' are throttled"),
            ("ThrottlingException", "reads of the table 'flags' are throttled"),
            ("RequestLimitExceeded", "reads of the table 'flags' are throttled"),
            ("ExpiredTokenException", "the credentials have expired"),
            ("UnrecognizedClientException", "the credentials are not valid"),
            ("InvalidSignatureException", "the credentials are not valid"),
            ("ValidationException", "ValidationException: so it is {not}"),
            ("InternalServerError", "InternalServerError: so it is {not}"),
        ],
    )
    def test_each_refusal_is_one_clear_line(
        self, nowhere: Proxy, lost: DynamoDBRequester, code: str, words: str
    ) -> None:
        nowhere.instead = lambda sent: refused(code, "so it is\n{not}", 500 if code == "InternalServerError" else 400)
        for read in all_reads(lost):
            assert words in trouble(read)

    def test_an_answer_of_another_server_is_a_store_error(self, nowhere: Proxy, lost: DynamoDBRequester) -> None:
        nowhere.instead = lambda sent: Answer(
            502, {"Content-Type": "text/html"}, b"<html>\n<h1>Bad Gateway</h1></html>"
        )
        assert trouble(lambda: lost.get_many(features("a")))

    def test_a_batch_that_is_not_allowed_is_read_one_by_one(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        for key in "ab":
            table.put(prefix, "features", key, "{}")
        proxy.instead = lambda sent: refused("AccessDeniedException") if operation(sent) == "BatchGetItem" else None
        for _ in range(2):
            assert observed.get_many(features("a", "b", "nowhere")) == dict.fromkeys(features("a", "b"), "{}")
        assert [operation(sent) for sent in proxy.sent] == ["BatchGetItem", *["GetItem"] * 6]

    def test_a_batch_that_was_not_allowed_is_tried_again_after_a_while(
        self, proxy: Proxy, observed: DynamoDBRequester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert observed.guess_limit == 4096
        proxy.instead = lambda sent: refused("AccessDeniedException") if operation(sent) == "BatchGetItem" else None
        observed.get_many(features("a", "b"))
        assert observed.guess_limit == 0  # a guess would be a round trip of its own
        proxy.instead = lambda sent: None
        proxy.sent.clear()
        now = time.monotonic()
        later = SimpleNamespace(**{**vars(time), "monotonic": lambda: now + SINGLE_FOR})
        monkeypatch.setattr("ldreader.requesters.dynamodb.time", later)
        assert observed.guess_limit == 4096
        observed.get_many(features("a", "b"))
        assert [operation(sent) for sent in proxy.sent] == ["BatchGetItem"]

    def test_a_failure_that_may_pass_is_tried_once_more(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        table.put(prefix, "features", "a", "{}")
        proxy.instead = lambda sent: refused("InternalServerError", status=500) if len(proxy.sent) == 1 else None
        assert observed.get_many(features("a")) == {("features", "a"): "{}"}
        assert len(proxy.sent) == 2

    def test_other_failures_are_not_tried_again(self, nowhere: Proxy, lost: DynamoDBRequester) -> None:
        nowhere.instead = lambda sent: refused("ValidationException")
        trouble(lambda: lost.get_many(features("a")))
        assert len(nowhere.sent) == 1

    def test_no_credentials(self, server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        requester = DynamoDBRequester.from_url(server.url(TABLE))
        for read in all_reads(requester):
            assert "Unable to locate credentials; give credentials or a role" in trouble(read)

    def test_half_of_the_credentials(self, server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        requester = DynamoDBRequester.from_url(server.url(TABLE))
        assert "give credentials or a role" in trouble(requester.get_all)

    def test_a_reader_serves_the_default_when_the_store_refuses(self, server: DynamoDBServer, client: str) -> None:
        with FlagReader.from_url(server.url("nowhere"), client=client) as reader:
            detail = reader.variation_detail("a", {"kind": "user", "key": "u"}, "default")
        assert (detail.value, detail.reason) == ("default", {"kind": "ERROR", "errorKind": "EXCEPTION"})


def all_reads(requester: DynamoDBRequester) -> list[Callable[[], object]]:
    return [
        lambda: requester.get_many(features("a")),
        lambda: requester.get_many(features("a", "b")),
        requester.get_all,
        requester.get_metadata,
        lambda: requester.get_membership("hash"),
    ]


class TestOpening:
    def test_nothing_is_contacted(self, aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even the place where a machine of Amazon's finds its credentials."""
        with socket.create_server(("127.0.0.1", 0)) as metadata:
            metadata.setblocking(False)
            port = metadata.getsockname()[1]
            monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}/")
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
            DynamoDBRequester.from_url(f"dynamodb://{TABLE}?endpoint_url=http://127.0.0.1:{port}").close()
            with pytest.raises(BlockingIOError):
                metadata.accept()

    def test_there_must_be_a_region(self, aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(ConfigurationError, match=r"You must specify a region\. .*dynamodb://TABLE\?region="):
            open_requester(f"dynamodb://{TABLE}")

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("dynamodb://", "names no table"),
            ("dynamodb:flags", "names no table"),
            ("dynamodb://flags?regoin=x", "did you mean 'region'"),
            ("dynamodb://flags?consistent=maybe", "consistent must be true or false"),
            ("dynamodb://flags?timeout=0", "timeout must be"),
            ("dynamodb://flags?endpoint_url=localhost:8000", "endpoint_url must be a URL"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, aws_environment: None, url: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words) as caught:
            open_requester(url)
        assert "\n" not in str(caught.value)

    def test_an_unknown_option_in_code_is_refused(self, aws_environment: None) -> None:
        with pytest.raises(ConfigurationError, match="did you mean 'region'"):
            open_requester("dynamodb://flags", regoin="x")

    def test_a_profile_that_is_not_there_is_refused(
        self, aws_environment: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(ConfigurationError, match=r"\(nobody\) could not be found"):
            open_requester("dynamodb://flags")

    def test_an_endpoint_or_a_region_that_makes_no_sense_is_a_store_error(self, aws_environment: None) -> None:
        for options in ({"endpoint_url": "http://not a host"}, {"region": "not a region"}):
            requester = DynamoDBRequester.from_url("dynamodb://flags", **options)  # type: ignore[arg-type]
            assert "DynamoDB cannot be asked" in trouble(requester.get_all)

    def test_a_missing_package_is_named_with_the_extra_that_brings_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)
        with pytest.raises(MissingDependency, match=r"^the package 'boto3' .* pip install 'ldreader\[dynamodb\]'$"):
            open_requester("dynamodb://flags?region=us-east-1&client=boto3")

    def test_no_other_stores_package_is_imported(self, server: DynamoDBServer, client: str) -> None:
        program = (
            "import sys; from ldreader import FlagReader\n"
            f"reader = FlagReader.from_url({server.url(TABLE)!r}, client={client!r})\n"
            "assert reader.variation('a', {'kind': 'user', 'key': 'u'}, 7) == 7\n"
            "assert not {'redis', 'consul', 'requests', 'yaml', 'flask'} & set(sys.modules), sorted(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


CLOSED = {"wire": "Connection refused", "boto3": "Could not connect"}
SILENT = {"wire": "timed out", "boto3": "Read timeout"}
"""What each client says of such a server."""


class TestBoundedWaits:
    def cost(self, requester: DynamoDBRequester, keys: int = 1) -> str:
        """What a read that fails says; its time was bounded."""
        stopwatch = Stopwatch()
        message = trouble(lambda: requester.get_many(features(*map(str, range(keys)))))
        assert stopwatch.shows_at_most(WAIT), stopwatch.seconds
        return message

    @pytest.mark.parametrize("keys", [1, 300])
    def test_a_closed_port_costs_no_wait(self, aws_environment: None, client: str, keys: int) -> None:
        requester = requester_on(free_port(), client)
        stopwatch = Stopwatch()
        assert CLOSED[client] in self.cost(requester, keys)
        assert stopwatch.shows_at_most(0.0)

    @pytest.mark.parametrize("keys", [1, 300])
    def test_a_silent_server_costs_one_timeout(self, aws_environment: None, client: str, keys: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert SILENT[client] in self.cost(requester_on(silent.getsockname()[1], client), keys)

    def test_a_server_that_takes_no_connection_costs_one_timeout(self, aws_environment: None, client: str) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            waiting = [socket.socket() for _ in range(4)]
            for other in waiting:
                other.setblocking(False)
                other.connect_ex(full.getsockname())
            try:
                message = self.cost(requester_on(full.getsockname()[1], client))
                assert {"wire": "timed out", "boto3": "timeout"}[client] in message
            finally:
                for other in waiting:
                    other.close()

    def test_a_server_that_stops_answering_costs_one_timeout_and_is_asked_again(
        self, server: DynamoDBServer, client: str
    ) -> None:
        requester = DynamoDBRequester.from_url(server.url(TABLE), timeout=WAIT, client=client)
        requester.get_all()
        server.pause()
        try:
            assert SILENT[client] in self.cost(requester)
        finally:
            server.resume()
        assert requester.get_many(features("nowhere")) == {}
        requester.close()

    def test_a_server_that_hangs_up_is_asked_again_once(self, proxy: Proxy, observed: DynamoDBRequester) -> None:
        def hang_up(sent: Sent) -> Answer | None:
            if len(proxy.sent) == 2:
                raise ConnectionError
            return None

        assert observed.get_many(features("nowhere")) == {}
        proxy.instead = hang_up
        assert observed.get_many(features("nowhere")) == {}
        assert len(proxy.sent) == 3

    def test_a_server_that_always_hangs_up_is_a_store_error(
        self, nowhere: Proxy, lost: DynamoDBRequester, client: str
    ) -> None:
        def hang_up(sent: Sent) -> Answer | None:
            raise ConnectionError

        nowhere.instead = hang_up
        message = trouble(lambda: lost.get_many(features("nowhere")))
        assert {"wire": "the server closed the connection", "boto3": "Connection was closed"}[client] in message
        assert len(nowhere.sent) == 2

    def test_a_request_waits_for_a_silent_server_once(self, aws_environment: None, client: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            url = f"dynamodb://{TABLE}?region=us-east-1&endpoint_url=http://127.0.0.1:{port}&timeout={WAIT}"
            context = {"kind": "user", "key": "u"}
            with FlagReader.from_url(url, client=client) as reader, reader.request(context) as flags:
                reader.variation("first", context, None)  # making the client is no part of what is measured
                stopwatch = Stopwatch()
                for key in "abc":
                    assert flags.variation(key, "default") == "default"
                assert not flags.all_flags_state().valid
                assert stopwatch.shows_at_most(WAIT)

    def test_a_reply_that_trickles_in_costs_twice_the_timeout(self, aws_environment: None, client: str) -> None:
        with answering_port(trickle) as port:
            requester = requester_on(port, client)
            stopwatch = Stopwatch()
            trouble(lambda: requester.get_many(features("a")))
            assert stopwatch.shows_at_most(2 * WAIT), stopwatch.seconds
            requester.close()


def trickle(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
    """Sends the headers of a response at once, and its body byte by byte for as long as it takes."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 100000\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b" ")


LONG = 5.0  # a timeout that is not waited for
SHORT = 0.3  # the time until a deadline


class TestDeadlines:
    def cost(
        self, requester: DynamoDBRequester, read: Callable[[DynamoDBRequester, float], object], until: float = SHORT
    ) -> float:
        """The seconds that a read took, which the deadline ended."""
        begin = time.monotonic()
        trouble(lambda: read(requester, begin + until))
        seconds = time.monotonic() - begin
        assert seconds <= until + MARGIN
        requester.close()
        return seconds

    READS: dict[str, Callable[[DynamoDBRequester, float], object]] = {
        "one": lambda requester, deadline: requester.get_many(features("a"), deadline),
        "many": lambda requester, deadline: requester.get_many(features("a", "b"), deadline),
        "all": lambda requester, deadline: requester.get_all(deadline),
        "big segments": lambda requester, deadline: requester.get_big_segments(["hash"], deadline),
    }

    @pytest.mark.parametrize("read", READS)
    def test_a_silent_server_is_waited_for_until_then(self, aws_environment: None, client: str, read: str) -> None:
        with silent_port() as port:
            self.cost(requester_on(port, client, LONG), self.READS[read])

    def test_so_is_a_reply_that_trickles_in(self, aws_environment: None, client: str) -> None:
        with answering_port(trickle) as port:
            self.cost(requester_on(port, client, LONG), self.READS["one"])

    def test_so_it_is_with_an_applications_session(
        self, aws_environment: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import boto3

        with answering_port(trickle) as port:
            monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{port}")
            self.cost(DynamoDBRequester(boto3.session.Session(), TABLE, timeout=LONG), self.READS["one"])

    def test_so_is_a_server_that_takes_no_connection(self, aws_environment: None, client: str) -> None:
        with full_port() as port:
            self.cost(requester_on(port, client, LONG), self.READS["one"])

    def slowly(self, nowhere: Proxy, reply: Callable[[int], Any]) -> None:
        """Lets each of many replies come in time."""

        def instead(sent: Sent) -> Answer:
            time.sleep(0.05)
            if operation(sent) == "BatchGetItem" and reply(0) is None:
                return refused("AccessDeniedException")
            headers = {"Content-Type": "application/x-amz-json-1.0"}
            return Answer(200, headers, json.dumps(reply(len(nowhere.sent))).encode())

        nowhere.instead = instead

    def test_pages_come_until_then(self, nowhere: Proxy, client: str) -> None:
        self.slowly(nowhere, lambda page: {"LastEvaluatedKey": {"key": {"S": str(page)}, "namespace": {"S": "n"}}})
        self.cost(requester_on(nowhere.port, client, LONG), self.READS["all"], until=1.0)
        assert len(nowhere.sent) >= 2

    def test_batches_come_until_then(self, nowhere: Proxy, client: str) -> None:
        self.slowly(nowhere, lambda batch: {"Responses": {TABLE: []}})
        many = features(*map(str, range(5000)))
        self.cost(requester_on(nowhere.port, client, LONG), lambda to, end: to.get_many(many, end), until=1.0)
        assert len(nowhere.sent) >= 2

    def test_single_items_come_until_then(self, nowhere: Proxy, client: str) -> None:
        self.slowly(nowhere, lambda item: None if item == 0 else {})
        many = features(*map(str, range(90)))
        self.cost(requester_on(nowhere.port, client, LONG), lambda to, end: to.get_many(many, end), until=1.0)
        assert len(nowhere.sent) >= 3

    def test_what_a_batch_leaves_out_is_asked_for_until_then(self, nowhere: Proxy, client: str) -> None:
        keys = [{"namespace": {"S": "features"}, "key": {"S": key}} for key in "ab"]
        reply = {"Responses": {TABLE: []}, "UnprocessedKeys": {TABLE: {"Keys": keys}}}
        nowhere.instead = lambda sent: Answer(200, {}, json.dumps(reply).encode())
        requester = requester_on(nowhere.port, client, LONG)
        begin = time.monotonic()
        found = requester.get_many(features("a", "b"), begin + 1.0)
        assert time.monotonic() - begin <= 1.0 + MARGIN
        # It gives up when the next pause, each twice as long, would end too late; so the others are not lost.
        assert [isinstance(found["features", key], StoreError) for key in "ab"] == [True, True]
        assert len(nowhere.sent) >= 2
        requester.close()

    def test_a_failure_that_may_pass_is_not_tried_again_after_it(self, nowhere: Proxy, client: str) -> None:
        def instead(sent: Sent) -> Answer:
            time.sleep(SHORT)
            return refused("InternalServerError", status=500)

        nowhere.instead = instead
        requester = requester_on(nowhere.port, client, LONG)
        trouble(lambda: requester.get_many(features("a"), time.monotonic() + SHORT))
        assert len(nowhere.sent) == 1
        requester.close()

    def test_nothing_is_asked_after_it(self, nowhere: Proxy, lost: DynamoDBRequester) -> None:
        for read in self.READS.values():
            trouble(lambda read=read: read(lost, time.monotonic() - 1))  # type: ignore[misc]
        assert nowhere.sent == []

    def test_an_applications_own_client_is_not_asked_after_it(self, nowhere: Proxy) -> None:
        import boto3

        given = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{nowhere.port}", region_name="us-east-1")
        requester = DynamoDBRequester(given, TABLE)
        trouble(lambda: requester.get_many(features("a"), time.monotonic() - 1))
        assert nowhere.sent == []
        assert requester.timeout is None  # that is for its client to know
        given.close()

    def test_one_that_is_far_changes_nothing(self, table: Table, prefix: str, observed: DynamoDBRequester) -> None:
        table.put(prefix, "features", "a", "{}")
        far = time.monotonic() + 60
        assert observed.get_many(features("a"), far) == {("features", "a"): "{}"}
        assert observed.get_all(far) == {"features": {"a": "{}"}, "segments": {}}
        assert observed.get_big_segments(["hash"], far)[1] == {"hash": None}


class TestBoto3sCredentials:
    """Where boto3 looks for credentials it is bounded too: by twice the timeout before the first read, and in it."""

    @pytest.fixture
    def elsewhere(self, aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        return monkeypatch

    def cost(self, nowhere: Proxy) -> str:
        """What first reads say that credentials cannot be had for, without a deadline and with one."""
        for timeout, deadline, bound in ((LONG, SHORT, SHORT), (WAIT, None, 2 * WAIT)):
            requester = DynamoDBRequester.from_url(
                f"dynamodb://{TABLE}", endpoint_url=f"http://127.0.0.1:{nowhere.port}", timeout=timeout, client="boto3"
            )
            stopwatch = Stopwatch()
            end = None if deadline is None else stopwatch.started + deadline
            message = trouble(lambda requester=requester, end=end: requester.get_many(features("a"), end))  # type: ignore[misc]
            assert stopwatch.shows_at_most(bound), stopwatch.seconds
            requester.close()
        assert nowhere.sent == []
        return message

    @pytest.mark.parametrize("manner", ["silent", "trickling", "failing"])
    def test_a_container(self, nowhere: Proxy, elsewhere: pytest.MonkeyPatch, manner: str) -> None:
        with self.endpoint(manner) as port:
            elsewhere.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/")
            assert "give credentials or a role" in self.cost(nowhere)

    @pytest.mark.parametrize("manner", ["silent", "trickling"])
    def test_sts(self, nowhere: Proxy, elsewhere: pytest.MonkeyPatch, tmp_path: Path, manner: str) -> None:
        (tmp_path / "token").write_text("token")
        with self.endpoint(manner) as port:
            elsewhere.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
            elsewhere.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
            elsewhere.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{port}")
            assert "DynamoDB" in self.cost(nowhere)

    def test_sts_is_asked_once(self, nowhere: Proxy, elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("token")
        with Proxy(0, lambda sent: Answer(500, {}, b"")) as sts:
            elsewhere.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
            elsewhere.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
            elsewhere.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{sts.port}")
            assert "DynamoDB" in self.cost(nowhere)
            assert len(sts.sent) == 2  # there are two reads

    def test_the_machines_metadata(self, nowhere: Proxy, elsewhere: pytest.MonkeyPatch) -> None:
        with self.endpoint("silent") as port:
            elsewhere.setenv("AWS_EC2_METADATA_DISABLED", "false")
            elsewhere.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}/")
            assert "Unable to locate credentials" in self.cost(nowhere)

    def test_they_are_found(self, nowhere: Proxy, elsewhere: pytest.MonkeyPatch) -> None:
        lent = {"AccessKeyId": "LENT", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
        nowhere.instead = lambda sent: Answer(200, {}, json.dumps(lent if sent.method == "GET" else {}).encode())
        elsewhere.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{nowhere.port}/")
        requester = requester_on(nowhere.port, "boto3")
        assert [requester.get_many(features("a")) for _ in range(2)] == [{}, {}]
        assert [sent.method for sent in nowhere.sent] == ["GET", "POST", "POST"]
        assert "Credential=LENT/" in nowhere.sent[1].headers["Authorization"]
        requester.close()

    def test_those_of_a_machine_are_found(self, nowhere: Proxy, elsewhere: pytest.MonkeyPatch) -> None:
        lent = {"AccessKeyId": "LENT", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}

        def instead(sent: Sent) -> Answer:
            if sent.method == "GET":
                return Answer(
                    200, {}, json.dumps({**lent, "Code": "Success"}).encode() if "role" in sent.path else b"role"
                )
            return Answer(200, {}, b"{}" if sent.method == "POST" else b"token")

        nowhere.instead = instead
        elsewhere.setenv("AWS_EC2_METADATA_DISABLED", "false")
        elsewhere.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{nowhere.port}/")
        requester = requester_on(nowhere.port, "boto3")
        assert requester.get_many(features("a")) == {}
        assert [sent.method for sent in nowhere.sent] == ["PUT", "GET", "GET", "POST"]
        requester.close()

    def test_those_of_sts_are_found(
        self, dynamodb: DynamoDBServer, nowhere: Proxy, elsewhere: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text("token")
        elsewhere.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        elsewhere.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
        elsewhere.setenv("AWS_ENDPOINT_URL_STS", dynamodb.endpoint_url)
        nowhere.instead = lambda sent: Answer(200, {}, b"{}")
        requester = requester_on(nowhere.port, "boto3", LONG)
        assert requester.get_many(features("a")) == {}
        assert "X-Amz-Security-Token" in nowhere.sent[0].headers
        requester.close()

    def endpoint(self, manner: str) -> AbstractContextManager[int]:
        if manner == "silent":
            return silent_port()
        failed = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        return answering_port(trickle if manner == "trickling" else lambda connection, *_: connection.sendall(failed))


class TestBigSegments:
    @pytest.fixture(params=["wire", "boto3", "resource", "table of its own"])
    def store(self, server: DynamoDBServer, request: pytest.FixtureRequest, prefix: str) -> Iterator[BigSegmentStore]:
        self.name = "memberships" if request.param == "table of its own" else TABLE
        server.create_table(self.name)
        if request.param == "resource":
            resource = applications(server, "resource")
            yield DynamoDBRequester(resource, TABLE, prefix=prefix)
            resource.meta.client.close()
        else:
            client = "boto3" if request.param == "boto3" else None
            requester = DynamoDBRequester.from_url(server.url(self.name, prefix), client=client)
            yield requester
            requester.stop()

    @pytest.fixture
    def rows(self, server: DynamoDBServer, store: BigSegmentStore) -> Table:
        return Table(server, lambda prefix: open_requester(server.url(self.name, prefix)), self.name)

    def synchronize(self, rows: Table, prefix: str, **attributes: Any) -> None:
        rows.put_row(f"{prefix}:big_segments_metadata", f"{prefix}:big_segments_metadata", **attributes)

    def test_the_metadata_tell_when_they_were_brought_up_to_date(
        self, store: BigSegmentStore, rows: Table, prefix: str
    ) -> None:
        assert store.get_metadata().last_up_to_date is None
        self.synchronize(rows, prefix, lastVersion={"S": "x"})
        assert store.get_metadata().last_up_to_date is None
        self.synchronize(rows, prefix, synchronizedOn={"N": "1700000000123"}, lastVersion={"S": "x"})
        assert store.get_metadata().last_up_to_date == 1700000000123

    def test_a_time_that_is_no_integer_is_a_store_error(self, store: BigSegmentStore, rows: Table, prefix: str) -> None:
        self.synchronize(rows, prefix, synchronizedOn={"N": "1.5"})
        assert "no integer" in trouble(lambda: store.get_metadata().last_up_to_date)

    def test_being_included_wins(self, store: BigSegmentStore, rows: Table, prefix: str) -> None:
        rows.put_row(
            f"{prefix}:big_segments_user", "hash", included={"SS": ["a.g1", "b.g1"]}, excluded={"SS": ["b.g1", "c.g2"]}
        )
        assert store.get_membership("hash") == {"a.g1": True, "b.g1": True, "c.g2": False}

    def test_either_set_may_be_absent(self, store: BigSegmentStore, rows: Table, prefix: str) -> None:
        rows.put_row(f"{prefix}:big_segments_user", "in", included={"SS": ["a.g1"]})
        rows.put_row(f"{prefix}:big_segments_user", "out", excluded={"SS": ["a.g1"]})
        rows.put_row(f"{prefix}:big_segments_user", "neither")
        assert store.get_membership("in") == {"a.g1": True}
        assert store.get_membership("out") == {"a.g1": False}
        assert store.get_membership("neither") is None
        assert store.get_membership("nobody") is None

    def test_all_of_a_request_comes_in_one_round_trip(
        self, table: Table, prefix: str, proxy: Proxy, observed: DynamoDBRequester
    ) -> None:
        self.synchronize(table, prefix, synchronizedOn={"N": "1700000000123"})
        table.put_row(f"{prefix}:big_segments_user", "one", included={"SS": ["a.g1"]})
        metadata, memberships = observed.get_big_segments(["one", "nobody"])
        assert metadata.last_up_to_date == 1700000000123
        assert memberships == {"one": {"a.g1": True}, "nobody": None}
        assert [operation(sent) for sent in proxy.sent] == ["BatchGetItem"]
        assert consistency(proxy.sent) == [True]

    def test_big_segments_may_be_in_a_table_of_their_own(
        self, server: DynamoDBServer, table: Table, prefix: str
    ) -> None:
        server.create_table("memberships")
        memberships = Table(server, table.requester, "memberships")
        self.synchronize(memberships, prefix, synchronizedOn={"N": str(round(time.time() * 1000))})
        hashed = "CEXjZY7cHJG/ydFy7q4+YEFwVrG3/pkJwA4FAjrbfx0="  # of `user-key`
        memberships.put_row(f"{prefix}:big_segments_user", hashed, included={"SS": ["beta.g3"]})
        table.put(prefix, "segments", "beta", '{"key": "beta", "version": 1, "unbounded": true, "generation": 3}')
        rule = '{"id": "r", "variation": 1, "clauses": [{"op": "segmentMatch", "values": ["beta"]}]}'
        table.put(
            prefix,
            "features",
            "a",
            f'{{"version": 1, "on": true, "variations": [false, true], "rules": [{rule}], "offVariation": 0, '
            '"fallthrough": {"variation": 0}}',
        )
        store = DynamoDBRequester.from_url(server.url("memberships", prefix))
        with FlagReader.from_url(server.url(TABLE, prefix), big_segments=store) as reader:
            detail = reader.variation_detail("a", {"kind": "user", "key": "user-key"}, None)
            status = reader.big_segment_store_status()
        store.stop()
        assert detail.value is True
        assert detail.reason["bigSegmentsStatus"] == "HEALTHY"
        assert (status.available, status.stale) == (True, False)


@pytest.fixture(scope="module")
def guarded(aws_environment: None) -> Iterator[DynamoDBServer]:
    """A server that, once told, asks what a user may do."""
    with moto() as server:
        server.create_table(TABLE)
        table = Table(server, lambda prefix: open_requester(server.url(TABLE, prefix)))
        for key in "ab":
            table.put("", "features", key, "{}")
        yield server


class TestLeastPrivilege:
    def test_nothing_but_reading_is_sent(self, proxy: Proxy, observed: DynamoDBRequester) -> None:
        read_in_all_ways(observed)
        observed.get_metadata()
        observed.get_membership("hash")
        assert {operation(sent) for sent in proxy.sent} == {"GetItem", "BatchGetItem", "Query"}

    @pytest.mark.parametrize("actions", [["GetItem", "BatchGetItem", "Query"], ["GetItem", "Query"]])
    def test_a_user_who_may_only_read_is_enough(
        self, guarded: DynamoDBServer, client: str, actions: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.become_user(guarded, actions, monkeypatch)
        with self.front(guarded) as front:
            requester = requester_on(front.port, client)
            found = requester.get_many(features("a", "b", "nowhere"))
            assert found == dict.fromkeys(features("a", "b"), "{}")
            assert requester.get_all() == {"features": {"a": "{}", "b": "{}"}, "segments": {}}
            assert requester.get_membership("hash") is None
            requester.close()
        writer = guarded.client()
        with pytest.raises(writer.exceptions.ClientError, match="403"):
            writer.put_item(TableName=TABLE, Item={"namespace": {"S": "features"}, "key": {"S": "c"}})
        writer.close()

    def test_a_user_who_may_not_read_is_told_what_to_allow(
        self, guarded: DynamoDBServer, client: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.become_user(guarded, ["PutItem"], monkeypatch)
        with self.front(guarded) as front:
            requester = requester_on(front.port, client)
            for read in all_reads(requester):
                assert "allow dynamodb:GetItem, BatchGetItem and Query on the table 'flags'" in trouble(read)
            requester.close()

    def front(self, server: DynamoDBServer) -> Proxy:
        """The server, but it refuses in DynamoDB's words: moto takes those of older services."""
        proxy = Proxy(server.port)

        def in_its_words(sent: Sent) -> Answer:
            answer = proxy.forward(sent)
            return refused("AccessDeniedException") if b"<Code>AccessDenied</Code>" in answer.body else answer

        proxy.instead = in_its_words
        return proxy

    def become_user(self, server: DynamoDBServer, actions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """From here on this process is a user who may do so much; moto does not look at what with."""

        def count_until_guarded(count: str) -> None:
            address = f"{server.endpoint_url}/moto-api/reset-auth"
            request = urllib.request.Request(address, count.encode(), {"Content-Type": "text/plain"}, method="POST")
            urllib.request.urlopen(request).close()

        count_until_guarded("inf")
        iam = server.client("iam")
        user = f"user-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=user)
        allowed = {"Effect": "Allow", "Action": [f"dynamodb:{action}" for action in actions], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName=user, PolicyName="reading", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        iam.close()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        count_until_guarded("0")


class TestThePolicyOfTheDocumentation:
    """What the reader sends is held against the policies that are shown, by a small judge of policies."""

    NAMES = {"REGION": "us-east-1", "ACCOUNT": "123456789012", "TABLE": TABLE}

    @pytest.fixture(params=["docs/stores.md", "examples/template.yaml"])
    def policy(self, request: pytest.FixtureRequest) -> Any:
        if request.param == "examples/template.yaml":
            (policy,) = sam.function({"FlagsTable": TABLE, "Prefix": "staging"})["Policies"]
            return policy
        text = (Path(__file__).parent.parent / "docs" / "stores.md").read_text(encoding="utf-8")
        section = text.partition("\n## DynamoDB\n")[2].partition("\n## ")[0]
        return json.loads(section.partition("```json\n")[2].partition("```")[0])

    def allows(self, policy: Any, sent: Sent) -> bool:
        """Whether it allows a request: action, table and each partition key that is asked for."""
        asked = payload(sent)
        tables = asked.get("RequestItems", {asked.get("TableName"): asked})
        return all(
            any(self.statement_allows(statement, operation(sent), table, leading_keys(request))
                for statement in policy["Statement"])
            for table, request in tables.items()
        )  # fmt: skip

    def statement_allows(self, statement: Any, action: str, table: str, leading: list[str] | None) -> bool:
        arn = statement["Resource"]
        for placeholder, name in self.NAMES.items():
            arn = arn.replace(placeholder, name)
        ((operator, condition),) = statement["Condition"].items()
        ((key, patterns),) = condition.items()
        assert statement["Effect"] == "Allow"
        assert (operator, key) in {
            ("ForAllValues:StringEquals", "dynamodb:LeadingKeys"),
            ("ForAllValues:StringLike", "dynamodb:LeadingKeys"),
        }
        is_like = operator.endswith("Like")
        return (
            f"dynamodb:{action}" in statement["Action"]
            and arn == f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}"
            # With no key at all, as in a scan, "for all values" is true of nothing: only the action stands in its way.
            and all(
                any(fnmatchcase(key, pattern) if is_like else key == pattern for pattern in patterns)
                for key in leading or ()
            )
        )

    @pytest.fixture
    def all_that_is_sent(self, nowhere: Proxy, client: str) -> Callable[[str], list[Sent]]:
        """Every request that a reader with a prefix has occasion for."""

        def send(prefix: str) -> list[Sent]:
            nowhere.sent.clear()
            requester = DynamoDBRequester.from_url(
                f"dynamodb://{TABLE}", endpoint_url=f"http://127.0.0.1:{nowhere.port}", prefix=prefix, client=client
            )
            last = {"namespace": {"S": f"{prefix}:features"}, "key": {"S": "a"}}

            def instead(sent: Sent) -> Answer:
                asked = payload(sent)
                reply: dict[str, Any] = {}
                if operation(sent) == "BatchGetItem" and len(nowhere.sent) == 2:
                    reply = {"Responses": {}, "UnprocessedKeys": asked["RequestItems"]}
                if operation(sent) == "Query" and "ExclusiveStartKey" not in asked:
                    reply = {"Items": [], "LastEvaluatedKey": last}
                headers = {"Content-Type": "application/x-amz-json-1.0"}
                return Answer(200, headers, json.dumps(reply).encode())

            nowhere.instead = instead
            for read in all_reads(requester):
                read()
            nowhere.instead = lambda sent: (
                refused("AccessDeniedException") if "Batch" in operation(sent) else instead(sent)
            )
            requester.get_many(features("a", "b"))
            requester.close()
            assert {operation(sent) for sent in nowhere.sent} == {"GetItem", "BatchGetItem", "Query"}
            return list(nowhere.sent)

        return send

    def test_it_allows_all_that_is_sent(self, policy: Any, all_that_is_sent: Callable[[str], list[Sent]]) -> None:
        sent = all_that_is_sent("staging")
        assert len(sent) >= 12
        assert all(
            leading_keys(payload(request).get("RequestItems", {}).get(TABLE, payload(request))) for request in sent
        )
        assert [request for request in sent if not self.allows(policy, request)] == []

    @pytest.mark.parametrize("prefix", ["production", "staging2", "stag", ""])
    def test_it_allows_nothing_of_another_prefix(
        self, policy: Any, all_that_is_sent: Callable[[str], list[Sent]], prefix: str
    ) -> None:
        assert [request for request in all_that_is_sent(prefix) if self.allows(policy, request)] == []

    def test_it_allows_nothing_else(self, policy: Any) -> None:
        key = {"namespace": {"S": "staging:features"}, "key": {"S": "a"}}
        query: dict[str, Any] = {
            "KeyConditionExpression": "#n = :n",
            "ExpressionAttributeValues": {":n": key["namespace"]},
        }

        def allowed(action: str, table: str = TABLE, **request: Any) -> bool:
            body = json.dumps({"TableName": table, **request}).encode()
            return self.allows(policy, Sent("POST", "/", {"X-Amz-Target": f"DynamoDB_20120810.{action}"}, body))

        assert allowed("GetItem", Key=key)
        assert allowed("Query", **query)
        assert not allowed("GetItem", "other", Key=key)
        assert not allowed("Scan")
        assert not allowed("PutItem", Item=key)
        assert not allowed("DeleteItem", Key=key)
        assert not allowed("UpdateItem", Key=key)


def leading_keys(request: Any) -> list[str] | None:
    """The partition keys of a request; none where it does not say any."""
    values = request.get("ExpressionAttributeValues")
    if values is not None:
        return [value["S"] for value in values.values()]
    rows = request.get("Keys") or [request[name] for name in ("Key", "Item") if name in request]
    return [row["namespace"]["S"] for row in rows] or None
