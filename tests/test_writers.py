"""What LaunchDarkly's own writers write into each store is read right: full loads, updates and deletions."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ldreader import FlagReader, MemoryRequester
from ldreader.requesters import open_requester
from tests.writers.programs import CONSUL, DYNAMODB, REDIS, WRITERS, Writer
from tests.writers.stream import Data
from tests.writers.world import CONTEXTS, DATA, flag, segment

PATIENCE = 30.0  # seconds for a writer to start and write; a JVM on a busy machine takes several

PAIRS = [pytest.param(writer, store, id=f"{writer.name}-{store}") for writer in WRITERS for store in writer.stores]

STATES: list[dict[str, Any]] = [{"with_reasons": True}, {"client_side_only": True}]


class Database(NamedTuple):
    """One store for one test."""

    url: str  # as ldreader takes it
    address: str  # as the writers take it


def redis(server: Any) -> Database:
    """A Redis server."""
    return Database(server.url, server.url)


def dynamodb(server: Any) -> Database:
    """A DynamoDB table of its own."""
    table = f"flags-{uuid.uuid4().hex[:8]}"
    server.create_table(table)
    return Database(server.url(table), f"{table},{server.endpoint_url}")


def consul(server: Any) -> Database:
    """A Consul agent."""
    return Database(server.url, f"127.0.0.1:{server.port}")


# Which fixture starts the server of a store.
DATABASES: dict[str, tuple[str, Callable[[Any], Database]]] = {
    REDIS: ("redis_server", redis),
    DYNAMODB: ("dynamodb", dynamodb),
    CONSUL: ("consul_server", consul),
}


@pytest.fixture
def database(store: str, request: pytest.FixtureRequest) -> Database:
    """The store to write to."""
    server, describe = DATABASES[store]
    return describe(request.getfixturevalue(server))


def answers(reader: FlagReader, data: Data) -> list[Any]:
    """What the reader says of each flag and of all flags, for each context."""
    said: list[Any] = []
    for context in CONTEXTS:
        for key in data["features"]:
            detail = reader.variation_detail(key, context, "the default")
            said.append((key, detail.value, detail.variation_index, detail.reason))
        said.extend(reader.all_flags_state(context, **options).to_json_dict() for options in STATES)
    return said


def without(data: Data, kind: str, key: str) -> Data:
    """The data but for one item."""
    return {**data, kind: {name: item for name, item in data[kind].items() if name != key}}


def changed(data: Data, kind: str, item: dict[str, Any]) -> Data:
    """The data with an item added or replaced."""
    return {**data, kind: {**data[kind], item["key"]: item}}


@pytest.mark.parametrize(("writer", "store"), PAIRS)
def test_a_load_updates_and_deletions_are_read_right(
    writer: Writer, store: str, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "ldreader")  # until the writer has written, every flag is missing
    prefix, log = f"writers-{uuid.uuid4().hex[:8]}", tmp_path / "log"
    data = DATA

    with (
        writer.feed(data, tmp_path) as feed,
        writer.writing(store, database.address, prefix, feed.url, log) as program,
        FlagReader.from_url(database.url, prefix=prefix) as reader,
    ):

        def assert_read(step: str) -> None:
            with FlagReader(MemoryRequester(data)) as model:
                expected = answers(model, DATA)
            deadline = time.monotonic() + PATIENCE
            # Writing takes a moment, and so does starting.
            while (found := answers(reader, DATA)) != expected and time.monotonic() < deadline:
                if program.poll() is not None:
                    pytest.fail(f"{step}: the {writer.name} writer ended:\n{log.read_text(errors='replace')}")
                time.sleep(0.02)
            if found != expected:
                print(log.read_text(errors="replace"))
            assert found == expected, step

        assert_read("the full load")

        for kind, item in [
            ("features", flag("greeting", version=2, variations=["bonjour", "salut"], fallthrough={"variation": 0})),
            ("segments", segment("partners", version=2, included=["ada", "cy\u00e9"])),
        ]:
            data = changed(data, kind, item)
            feed.upsert(kind, item["key"], item)
            assert_read(f"{kind} {item['key']} updated")

        for kind, key in [("features", "doomed"), ("segments", "staff")]:
            data = without(data, kind, key)
            feed.delete(kind, key, 3)
            assert_read(f"{kind} {key} deleted")
            assert left_of(kind, key, database, prefix) == writer.tombstone(key, 3)


def left_of(kind: str, key: str, database: Database, prefix: str) -> dict[str, Any] | None:
    """The part of a stored item that tells a tombstone."""
    requester = open_requester(database.url, prefix=prefix)
    try:
        text = requester.get_many([(kind, key)]).get((kind, key))
    finally:
        requester.close()
    if text is None:
        return None
    assert isinstance(text, (bytes, str))
    item = json.loads(text)
    return {name: item[name] for name in ("key", "version", "deleted") if name in item}
