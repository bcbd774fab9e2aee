"""What every feature requester does, as tests to inherit; needs pytest.

    class TestMyRequester(RequesterBehaviour):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

A `Store` is what the tests fill and read; see there. Fill it by other means than the requester's own code, so that
the two cannot share a mistake.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from .errors import StoreError
from .requesters.protocol import FeatureRequester, ItemRef, JsonText

KINDS = ("features", "segments")

ODD_KEYS = (
    "with space",
    "with/slash",
    "a//b",
    "../up",
    "with:colon",
    "100%",
    "%2F",
    "question?mark=1&and",
    "hash#tag",
    "{braces}",
    "dots..and.more",
    "ünïcödé-✓",
    '"quoted"\\back',
    "$inited",
)


class Store(Protocol):
    """A store under test: real, and filled by plain commands."""

    has_prefixes: bool
    """False for a store that holds one environment only."""

    holds_any_text: bool
    """False for a store that cannot hold an item that is no JSON, or that gives another text for the same JSON."""

    def requester(self, prefix: str) -> FeatureRequester:
        """A new requester for what is under the prefix."""
        ...

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        """Writes one item's text."""
        ...


class RequesterBehaviour:
    """The promises of the `FeatureRequester` protocol."""

    @pytest.fixture
    def prefix(self) -> str:
        """A prefix that no other test uses."""
        return f"test-{uuid.uuid4().hex[:12]}"

    def test_an_item_is_given_as_it_stands_in_the_store(self, store: Store, prefix: str) -> None:
        text = '{"key": "a", "version": 1, "on": true, "unknown": [1, 2.5, null, "ü✓"]}'
        store.put(prefix, "features", "a", text)
        assert _same(store, _one(store.requester(prefix), "features", "a"), text)

    def test_a_missing_item_is_left_out(self, store: Store, prefix: str) -> None:
        assert _many(store.requester(prefix), ("features", "nowhere")) == {}

    def test_many_missing_items_are_left_out(self, store: Store, prefix: str) -> None:
        refs = [(kind, f"nowhere-{index}") for kind in KINDS for index in range(3)]
        assert _many(store.requester(prefix), *refs) == {}

    def test_both_kinds_come_in_one_call(self, store: Store, prefix: str) -> None:
        store.put(prefix, "features", "a", '{"key": "a", "version": 1}')
        store.put(prefix, "segments", "s", '{"key": "s", "version": 2}')
        found = _many(store.requester(prefix), ("features", "a"), ("segments", "s"), ("segments", "nowhere"))
        assert found.keys() == {("features", "a"), ("segments", "s")}
        assert _same(store, found["segments", "s"], '{"key": "s", "version": 2}')

    def test_a_key_of_both_kinds_names_two_items(self, store: Store, prefix: str) -> None:
        store.put(prefix, "features", "same", '{"key": "same", "version": 1}')
        store.put(prefix, "segments", "same", '{"key": "same", "version": 2}')
        found = _many(store.requester(prefix), ("features", "same"), ("segments", "same"))
        assert _same(store, found["features", "same"], '{"key": "same", "version": 1}')
        assert _same(store, found["segments", "same"], '{"key": "same", "version": 2}')

    def test_a_flag_is_not_given_for_a_segment(self, store: Store, prefix: str) -> None:
        store.put(prefix, "features", "a", '{"key": "a", "version": 1}')
        assert _many(store.requester(prefix), ("segments", "a")) == {}

    def test_hundreds_of_items_come_in_one_call(self, store: Store, prefix: str) -> None:
        keys = [f"key-{index}" for index in range(230)]
        for key in keys[::2]:
            store.put(prefix, "features", key, f'{{"key": "{key}", "version": 1}}')
        found = _many(store.requester(prefix), *[("features", key) for key in keys])
        assert {key for _, key in found} == set(keys[::2])
        for key in keys[::2]:
            assert _same(store, found["features", key], f'{{"key": "{key}", "version": 1}}')

    def test_no_references_give_nothing(self, store: Store, prefix: str) -> None:
        assert _many(store.requester(prefix)) == {}

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_an_odd_key_is_found_alone_and_among_others(self, store: Store, prefix: str, key: str) -> None:
        store.put(prefix, "features", key, '{"version": 1}')
        store.put(prefix, "features", "plain", '{"version": 2}')
        requester = store.requester(prefix)
        alone = _many(requester, ("features", key))
        among = _many(requester, ("features", key), ("features", "plain"), ("segments", key))
        assert alone.keys() == {("features", key)}
        assert among.keys() == {("features", key), ("features", "plain")}
        assert requester.get_all()["features"].keys() == {key, "plain"}

    @pytest.mark.parametrize("key", ["", "k" * 100_000], ids=["empty", "too long"])
    def test_a_key_that_cannot_be_stored_is_missing_and_spoils_nobody(
        self, store: Store, prefix: str, key: str
    ) -> None:
        store.put(prefix, "features", "a", '{"version": 1}')
        requester = store.requester(prefix)
        for kind in KINDS:
            assert _many(requester, (kind, key)) == {}
            assert _many(requester, (kind, key), ("features", "a")).keys() == {("features", "a")}

    def test_a_long_item_comes_whole(self, store: Store, prefix: str) -> None:
        text = f'{{"key": "a", "version": 1, "salt": "{"ü" * 100_000}"}}'
        store.put(prefix, "features", "a", text)
        requester = store.requester(prefix)
        assert _same(store, _one(requester, "features", "a"), text)
        assert _same(store, requester.get_all()["features"]["a"], text)

    @pytest.mark.parametrize("text", ['{"deleted": true, "version": 3}', '{"key": "$deleted", "deleted": true}'])
    def test_a_tombstone_is_given_like_any_item(self, store: Store, prefix: str, text: str) -> None:
        store.put(prefix, "features", "gone", text)
        assert b"deleted" in _bytes(_one(store.requester(prefix), "features", "gone"))
        assert "gone" in store.requester(prefix).get_all()["features"]

    @pytest.mark.parametrize("text", ["not JSON", "[", "null", "7", " {} ", ""])
    def test_an_item_that_is_no_flag_is_given_like_any_item(self, store: Store, prefix: str, text: str) -> None:
        if not store.holds_any_text:
            pytest.skip("this store holds JSON only")
        store.put(prefix, "features", "odd", text)
        store.put(prefix, "features", "a", '{"version": 1}')
        found = _many(store.requester(prefix), ("features", "odd"), ("features", "a"))
        assert _bytes(found["features", "odd"]) == text.encode()
        assert _bytes(store.requester(prefix).get_all()["features"]["odd"]) == text.encode()

    def test_an_empty_store_has_both_kinds_empty(self, store: Store, prefix: str) -> None:
        everything = store.requester(prefix).get_all()
        assert {kind: dict(items) for kind, items in everything.items()} == {"features": {}, "segments": {}}

    def test_everything_is_what_single_reads_give(self, store: Store, prefix: str) -> None:
        for kind in KINDS:
            for index in range(5):
                store.put(prefix, kind, f"{kind}-{index}", f'{{"key": "{kind}-{index}", "version": {index}}}')
        requester = store.requester(prefix)
        everything = requester.get_all()
        assert everything.keys() == set(KINDS)
        refs = [(kind, f"{kind}-{index}") for kind in KINDS for index in range(5)]
        assert {(kind, key): text for kind in KINDS for key, text in everything[kind].items()} == _many(
            requester, *refs
        )
        assert len(everything["features"]) == len(everything["segments"]) == 5

    def test_prefixes_do_not_mix(self, store: Store, prefix: str) -> None:
        if not store.has_prefixes:
            pytest.skip("this store has no prefixes")
        store.put(f"{prefix}1", "features", "a", '{"version": 1}')
        store.put(f"{prefix}10", "features", "a", '{"version": 2}')
        store.put(f"{prefix}10", "segments", "s", '{"version": 2}')
        one, ten = store.requester(f"{prefix}1"), store.requester(f"{prefix}10")
        assert _same(store, _one(one, "features", "a"), '{"version": 1}')
        assert _same(store, _one(ten, "features", "a"), '{"version": 2}')
        assert one.get_all()["features"].keys() == {"a"}
        assert one.get_all()["segments"] == {}
        assert store.requester(prefix).get_all() == {"features": {}, "segments": {}}
        assert _many(store.requester(f"{prefix}2"), ("features", "a"), ("segments", "s")) == {}

    def test_a_change_shows_in_the_next_read(self, store: Store, prefix: str) -> None:
        requester = store.requester(prefix)
        assert _many(requester, ("features", "a")) == {}
        store.put(prefix, "features", "a", '{"version": 1}')
        assert _same(store, _one(requester, "features", "a"), '{"version": 1}')
        assert requester.get_all()["features"].keys() == {"a"}
        store.put(prefix, "features", "a", '{"version": 2}')
        store.put(prefix, "features", "b", '{"version": 1}')
        assert _same(store, _one(requester, "features", "a"), '{"version": 2}')
        assert requester.get_all()["features"].keys() == {"a", "b"}

    def test_threads_may_share_a_requester(self, store: Store, prefix: str) -> None:
        for index in range(8):
            store.put(prefix, "features", f"key-{index}", f'{{"version": {index}}}')
        requester = store.requester(prefix)

        def read(index: int) -> bool:
            found = _many(requester, ("features", f"key-{index % 8}"), ("features", f"key-{(index + 1) % 8}"))
            return _same(store, found["features", f"key-{index % 8}"], f'{{"version": {index % 8}}}')

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(200)))

    def test_closing_twice_does_no_harm(self, store: Store, prefix: str) -> None:
        requester = store.requester(prefix)
        requester.get_all()
        requester.close()
        requester.close()


def _many(requester: FeatureRequester, *refs: ItemRef) -> Mapping[ItemRef, JsonText | StoreError]:
    return dict(requester.get_many(list(refs)))


def _one(requester: FeatureRequester, kind: str, key: str) -> JsonText | StoreError:
    return requester.get_many([(kind, key)])[kind, key]


def _bytes(text: JsonText | StoreError) -> bytes:
    assert isinstance(text, (bytes, str)), text
    return text.encode() if isinstance(text, str) else text


def _same(store: Store, found: JsonText | StoreError, put: str) -> bool:
    """Whether an item came as it was put: to the letter, where the store keeps texts."""
    if store.holds_any_text:
        return _bytes(found) == put.encode()
    import json

    members: dict[str, object] = json.loads(put)
    read: dict[str, object] = json.loads(_bytes(found))
    return {name: read.get(name) for name in members} == members
