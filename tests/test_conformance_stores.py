"""LaunchDarkly's conformance cases that need a store: one of big segments, and each database."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Protocol

import pytest
import redis

from ldreader import EvaluationDetail, FlagReader, MemoryRequester
from tests.aws import DynamoDBServer
from tests.conftest import conformance_cases
from tests.consul_agent import ConsulAgent
from tests.servers import RedisServer

Item = dict[str, Any]

BIG_SEGMENTS = [case for case in conformance_cases("big-segments.json") if "big-segments" in case.get("requires", ())]
PERSISTENCE = conformance_cases("persistence.json")


def same_value(left: object, right: object) -> bool:
    """JSON equality of values that are no lists and no objects: 3 equals 3.0, and true does not equal 1."""
    return isinstance(left, bool) is isinstance(right, bool) and left == right


def check(detail: EvaluationDetail, expect: Item) -> None:
    assert detail.reason == expect["reason"]
    assert detail.variation_index == expect["variationIndex"]
    assert same_value(detail.value, expect["value"]), f"{detail.value!r} is not {expect['value']!r}"


class Metadata:
    def __init__(self, last_up_to_date: int | None) -> None:
        self.last_up_to_date = last_up_to_date


class StoreOfTheCase:
    """A store of big segments with the methods of the official SDK's, as a case describes it."""

    def __init__(self, described: Item) -> None:
        self.status = described["status"]
        self.memberships = described["memberships"]
        self.asked_for: list[str] = []

    def get_metadata(self) -> Metadata:
        self._answer()
        return Metadata(1 if self.status == "STALE" else int(time.time() * 1000))

    def get_membership(self, context_hash: str) -> dict[str, bool] | None:
        self.asked_for.append(context_hash)
        self._answer()
        membership: dict[str, bool] | None = self.memberships.get(context_hash)
        return membership

    def stop(self) -> None:
        pass

    def _answer(self) -> None:
        if self.status == "STORE_ERROR":
            raise OSError("the case wants an error")


def flags_of(case: Item) -> MemoryRequester:
    return MemoryRequester(
        {
            kind: {key: json.dumps(item) for key, item in case[name].items()}
            for kind, name in (("features", "flags"), ("segments", "segments"))
        }
    )


@pytest.mark.parametrize("case", BIG_SEGMENTS, ids=[case["name"] for case in BIG_SEGMENTS])
class TestBigSegments:
    def test_the_evaluation_is_as_the_case_wants_it(self, case: Item) -> None:
        store = StoreOfTheCase(case["bigSegmentsStore"])
        with FlagReader(flags_of(case), big_segments=store) as reader:
            check(reader.variation_detail(case["flagKey"], case["context"], case["default"]), case["expect"])
        assert store.asked_for == case["expect"].get("membershipQueries", store.asked_for)

    def test_the_state_of_all_flags_has_the_same_value_and_reason(self, case: Item) -> None:
        store = StoreOfTheCase(case["bigSegmentsStore"])
        with FlagReader(flags_of(case), big_segments=store) as reader:
            state = reader.all_flags_state(case["context"], with_reasons=True)
        value = case["expect"]["value"] if case["expect"]["variationIndex"] is not None else None
        assert same_value(state.get_flag_value(case["flagKey"]), value)
        assert state.get_flag_reason(case["flagKey"]) == case["expect"]["reason"]


class Database(Protocol):
    """A database as the steps of a case use it."""

    def reader(self, prefix: str | None) -> FlagReader:
        """The reader for a prefix; with the store's default prefix for None."""
        ...

    def clear(self) -> None: ...

    def write(self, how: Item) -> None:
        """Stores one item as a step says."""
        ...

    def close(self) -> None: ...


class Redis:
    """A logical database of its own, which may be emptied."""

    def __init__(self, server: RedisServer) -> None:
        self.url = f"{server.url}/9"
        self.client = redis.Redis.from_url(self.url)

    def reader(self, prefix: str | None) -> FlagReader:
        return FlagReader.from_url(self.url, prefix=prefix)

    def clear(self) -> None:
        self.client.flushdb()

    def write(self, how: Item) -> None:
        self.client.hset(how["redis"]["hash"], how["redis"]["field"], how["redis"]["value"])

    def close(self) -> None:
        self.clear()
        self.client.close()


class DynamoDB:
    """A table of its own."""

    def __init__(self, server: DynamoDBServer) -> None:
        self.server = server
        self.table = f"conformance-{uuid.uuid4().hex[:12]}"
        server.create_table(self.table)
        self.client = server.client()

    def reader(self, prefix: str | None) -> FlagReader:
        return FlagReader.from_url(self.server.url(self.table, prefix or ""))

    def clear(self) -> None:
        for row in self.client.scan(TableName=self.table)["Items"]:
            key = {name: row[name] for name in ("namespace", "key")}
            self.client.delete_item(TableName=self.table, Key=key)

    def write(self, how: Item) -> None:
        self.client.put_item(TableName=self.table, Item=how["dynamodb"])

    def close(self) -> None:
        self.client.delete_table(TableName=self.table)
        self.client.close()


class Consul:
    """What is under the prefix of the cases; other tests use other prefixes."""

    def __init__(self, server: ConsulAgent) -> None:
        self.url = server.url
        self.api = f"http://127.0.0.1:{server.port}/v1/kv"

    def reader(self, prefix: str | None) -> FlagReader:
        return FlagReader.from_url(self.url, prefix=prefix)

    def clear(self) -> None:
        self._send("DELETE", f"{self.api}/launchdarkly/?recurse=true")

    def write(self, how: Item) -> None:
        self._send("PUT", f"{self.api}/{how['consul']['key']}", how["consul"]["value"].encode())

    def close(self) -> None:
        self.clear()

    def _send(self, method: str, url: str, body: bytes | None = None) -> None:
        request = urllib.request.Request(url, body, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert reply.read().strip() == b"true"


DATABASES: dict[str, tuple[str, Callable[[Any], Database]]] = {
    "redis": ("redis_server", Redis),
    "dynamodb": ("dynamodb", DynamoDB),
    "consul": ("consul_server", Consul),
}
STEPS = [(case, store) for case in PERSISTENCE for store in case["stores"]]


@pytest.fixture
def database(store: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The database of that name, from its server."""
    server, opened = DATABASES[store]
    with closing(opened(request.getfixturevalue(server))) as database:
        yield database


@pytest.mark.parametrize(("case", "store"), STEPS, ids=[f"{store}: {case['name']}" for case, store in STEPS])
def test_one_reader_sees_each_step_as_the_case_wants_it(case: Item, database: Database) -> None:
    with database.reader(None if case["prefixIsDefault"] else case["prefix"]) as reader:
        for step in case["steps"]:
            if "clear" in step:
                database.clear()
            elif "write" in step:
                database.write(step["write"])
            else:
                asked = step["evaluate"]
                check(reader.variation_detail(asked["flagKey"], asked["context"], asked["default"]), step["expect"])


class TestTheCasesThemselves:
    def test_each_step_is_of_a_known_kind(self) -> None:
        kinds = {frozenset(step) for case in PERSISTENCE for step in case["steps"]}
        assert kinds == {frozenset({"clear"}), frozenset({"write"}), frozenset({"evaluate", "expect"})}

    def test_every_database_has_cases(self) -> None:
        assert {store for _, store in STEPS} == set(DATABASES)
        assert len(STEPS) >= 25

    def test_the_order_of_membership_queries_is_told_by_some(self) -> None:
        assert sum("membershipQueries" in case["expect"] for case in BIG_SEGMENTS) >= 10

    def test_their_values_are_no_lists_and_no_objects(self) -> None:
        steps = [step for case in PERSISTENCE for step in case["steps"] if "expect" in step]
        values = [step["expect"]["value"] for step in (*steps, *BIG_SEGMENTS)]
        assert not [value for value in values if isinstance(value, (list, dict))]
