"""Every requester keeps the promises of the protocol; and the suite that says so notices those that do not."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import redis
import yaml

from ldreader import FeatureRequester, FileRequester, MemoryRequester, RedisRequester, StoreError
from ldreader.requesters import open_requester
from ldreader.requesters.protocol import ItemRef
from ldreader.testing import RequesterBehaviour
from tests.servers import RedisServer

Collections = dict[str, dict[str, str]]


class MemoryStore:
    """One mapping for each prefix."""

    has_prefixes = True
    holds_any_text = True

    def __init__(self) -> None:
        self.collections: dict[str, Collections] = {}

    def requester(self, prefix: str) -> FeatureRequester:
        return MemoryRequester(self.of(prefix))

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        self.of(prefix)[kind][key] = text

    def of(self, prefix: str) -> Collections:
        return self.collections.setdefault(prefix, {"features": {}, "segments": {}})


class FileStore:
    """One file, written anew at each change."""

    has_prefixes = False
    holds_any_text = False

    def __init__(self, path: Path, dump: Callable[[Any], str]) -> None:
        self.path = path
        self.dump = dump
        self.content: dict[str, dict[str, Any]] = {"flags": {}, "segments": {}}
        self.write()

    def requester(self, prefix: str) -> FeatureRequester:
        return FileRequester(self.path)

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        self.content["flags" if kind == "features" else kind][key] = json.loads(text)
        self.write()

    def write(self) -> None:
        self.path.write_text(self.dump(self.content), encoding="utf-8")


class RedisStore:
    """A real Redis, filled by plain commands."""

    has_prefixes = True
    holds_any_text = True

    def __init__(self, url: str, requester: Callable[[str], FeatureRequester]) -> None:
        self.client = redis.Redis.from_url(url)
        self.requester = requester

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        self.client.hset(f"{prefix}:{kind}", key, text)


class TestMemoryRequester(RequesterBehaviour):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestJsonFileRequester(RequesterBehaviour):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "flags.json", json.dumps)


class TestYamlFileRequester(RequesterBehaviour):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "flags.yaml", lambda content: str(yaml.safe_dump(content, allow_unicode=True)))


class TestRedisRequesterOfAUrl(RequesterBehaviour):
    @pytest.fixture(params=["wire", "redis-py"])
    def store(self, redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        url = f"{redis_server.url}?client={request.param}"
        store = RedisStore(redis_server.url, lambda prefix: open_requester(url, prefix=prefix))
        yield store
        store.client.close()


class TestRedisRequesterOverTheApplicationsClient(RequesterBehaviour):
    @pytest.fixture(params=[False, True], ids=["bytes", "decode_responses"])
    def store(self, redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        client = redis.Redis.from_url(redis_server.url, decode_responses=request.param)
        store = RedisStore(redis_server.url, lambda prefix: RedisRequester(client, prefix=prefix))
        yield store
        store.client.close()
        client.close()


MISTAKES = {
    "gives None for a missing item": "test_a_missing_item_is_left_out",
    "raises for a missing item": "test_many_missing_items_are_left_out",
    "knows flags only": "test_both_kinds_come_in_one_call",
    "takes one kind for the other": "test_a_flag_is_not_given_for_a_segment",
    "keeps one item of a key": "test_a_key_of_both_kinds_names_two_items",
    "drops the last of many": "test_everything_is_what_single_reads_give",
    "answers a hundred at most": "test_hundreds_of_items_come_in_one_call",
    "caches": "test_a_change_shows_in_the_next_read",
    "caches everything": "test_a_change_shows_in_the_next_read",
    "loses a kind in everything": "test_an_empty_store_has_both_kinds_empty",
    "gives other texts for everything": "test_everything_is_what_single_reads_give",
    "leaves a tombstone out": "test_a_tombstone_is_given_like_any_item",
    "leaves an empty text out": "test_an_item_that_is_no_flag_is_given_like_any_item",
    "decodes what it reads": "test_an_item_that_is_no_flag_is_given_like_any_item",
    "writes JSON anew": "test_an_item_is_given_as_it_stands_in_the_store",
    "refuses an empty key": "test_a_key_that_cannot_be_stored_is_missing_and_spoils_nobody",
    "gives nothing when a key is too long": "test_a_key_that_cannot_be_stored_is_missing_and_spoils_nobody",
    "fails on the second close": "test_closing_twice_does_no_harm",
    "refuses no references": "test_no_references_give_nothing",
    "cuts long items": "test_a_long_item_comes_whole",
    "strips keys": "test_an_odd_key_is_found_alone_and_among_others",
    "resolves escapes in keys": "test_an_odd_key_is_found_alone_and_among_others",
    "is not for threads": "test_threads_may_share_a_requester",
    "mixes prefixes": "test_prefixes_do_not_mix",
    "takes a longer prefix for its own": "test_prefixes_do_not_mix",
}
"""Each mistake, and the test of the suite that is there for it."""


class Broken(MemoryRequester):
    """A memory requester with one mistake."""

    def __init__(self, collections: Mapping[str, Mapping[str, Any]], mistake: str) -> None:
        super().__init__(collections)
        self.mistake = mistake
        self.seen: dict[ItemRef, Any] = {}
        self.everything: Any = None
        self.closed = False
        self.reading: Sequence[ItemRef] = ()

    def get_many(self, refs: Sequence[ItemRef]) -> Any:
        if self.mistake == "refuses no references" and not refs:
            raise ValueError("nothing to read")
        if self.mistake == "refuses an empty key" and any(not key for _, key in refs):
            raise ValueError("an empty key")
        if self.mistake == "takes one kind for the other":
            return {ref: text for ref in refs if (text := self._any_kind(ref[1])) is not None}
        if self.mistake == "is not for threads":
            self.reading = refs
            time.sleep(0.001)  # lets another thread come in between
            return super().get_many(self.reading)
        asked = refs
        if self.mistake == "knows flags only":
            asked = [ref for ref in refs if ref[0] == "features"]
        if self.mistake == "drops the last of many" and len(refs) > 1:
            asked = refs[:-1] if refs[-1] != ("segments", "nowhere") else refs[:-2]
        if self.mistake == "answers a hundred at most":
            asked = refs[:100]
        if self.mistake == "strips keys":
            asked = [(kind, key.split("/")[0]) for kind, key in refs]
        if self.mistake == "resolves escapes in keys":
            asked = [(kind, unquote(key)) for kind, key in refs]
        if self.mistake == "keeps one item of a key":
            asked = list({key: (kind, key) for kind, key in refs}.values())
        if self.mistake == "gives nothing when a key is too long" and any(len(key) > 1000 for _, key in refs):
            asked = []
        found: dict[ItemRef, Any] = dict(super().get_many(asked))
        if self.mistake == "gives None for a missing item":
            found = {ref: found.get(ref) for ref in refs}
        if self.mistake == "raises for a missing item" and len(found) < len(refs):
            raise KeyError("missing")
        if self.mistake == "cuts long items":
            found = {ref: text[:65536] for ref, text in found.items()}
        if self.mistake == "leaves a tombstone out":
            found = {ref: text for ref, text in found.items() if '"deleted": true' not in text}
        if self.mistake == "leaves an empty text out":
            found = {ref: text for ref, text in found.items() if text}
        if self.mistake == "decodes what it reads":
            found = {ref: text for ref, text in found.items() if json.loads(text) is not None}
        if self.mistake == "writes JSON anew":
            found = {ref: json.dumps(json.loads(text)) for ref, text in found.items()}
        if self.mistake == "caches":
            found = {ref: self.seen.setdefault(ref, found.get(ref)) for ref in refs}
            found = {ref: text for ref, text in found.items() if text is not None}
        return found

    def get_all(self) -> Any:
        everything: Any = super().get_all()
        if self.mistake == "loses a kind in everything":
            del everything["segments"]
        if self.mistake == "gives other texts for everything":
            return {kind: {key: f" {text}" for key, text in items.items()} for kind, items in everything.items()}
        if self.mistake == "caches everything":
            self.everything = self.everything or everything
            return self.everything
        return everything

    def close(self) -> None:
        if self.closed and self.mistake == "fails on the second close":
            raise ValueError("closed already")
        self.closed = True

    def _any_kind(self, key: str) -> Any:
        return self._collections["features"].get(key) or self._collections["segments"].get(key)


class BrokenStore(MemoryStore):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake

    def requester(self, prefix: str) -> FeatureRequester:
        if self.mistake == "mixes prefixes":
            return MemoryRequester(self.of(""))
        if self.mistake == "takes a longer prefix for its own":
            return MemoryRequester(self.beginning_with(prefix))
        return Broken(self.of(prefix), self.mistake)

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        super().put("" if self.mistake == "mixes prefixes" else prefix, kind, key, text)

    def beginning_with(self, prefix: str) -> Collections:
        found: Collections = {"features": {}, "segments": {}}
        for longer in [name for name in self.collections if name.startswith(prefix)]:
            for kind, items in self.collections[longer].items():
                found[kind].update(items)
        return found


def failures(new_store: Callable[[], MemoryStore]) -> list[str]:
    """The names of the tests of the suite that fail for a store."""
    suite = RequesterBehaviour()
    failed = []
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if not name.startswith("test_"):
            continue
        marks = getattr(test, "pytestmark", [])
        values = [mark.args for mark in marks if mark.name == "parametrize"]
        cases = [{argument: value} for argument, choices in values for value in choices] or [{}]
        for case in cases:
            try:
                test(new_store(), "prefix", **case)
            except Exception:
                failed.append(name)
                break
    return failed


def test_the_suite_passes_for_a_requester_that_works() -> None:
    assert failures(MemoryStore) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_suite_fails_for_a_requester_that(mistake: str) -> None:
    assert MISTAKES[mistake] in failures(lambda: BrokenStore(mistake))


def test_each_test_of_the_suite_is_there_for_some_mistake() -> None:
    tests = {name for name in vars(RequesterBehaviour) if name.startswith("test_")}
    assert set(MISTAKES.values()) == tests


def test_an_object_in_memory_that_is_no_json_spoils_nobody_else() -> None:
    requester = MemoryRequester({"features": {"bad": {"on": object()}, "good": {"on": True}}})
    everything = requester.get_all()["features"]
    assert isinstance(everything["bad"], StoreError)
    assert everything["good"] == '{"on": true}'
