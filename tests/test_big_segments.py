"""Big segments: memberships from a store of their own, and what their status says (spec: evaluation, section 8.1)."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import random
import re
import select
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import pytest
import redis
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import BigSegmentsConfig, Config
from ldclient.feature_store import CacheConfig
from ldclient.integrations import Redis as OfficialRedis

from ldreader import ConfigurationError, Context, FlagReader, MemoryRequester, RedisRequester, StoreError
from tests.servers import RedisServer, free_port

Item = dict[str, Any]
Memberships = Mapping[str, Mapping[str, bool] | None]

USER = Context.create("user-key")
USER_HASH = "CEXjZY7cHJG/ydFy7q4+YEFwVrG3/pkJwA4FAjrbfx0="
USER1_HASH = "CgQblGLKpKMbrDVn4Lbm/ZEAeH2yq0M9lvbReMq/zpA="

NOBODY: Memberships = {}


def hash_of(key: str) -> str:
    return base64.b64encode(hashlib.sha256(key.encode()).digest()).decode()


def big(key: str = "big", **fields: Any) -> Item:
    """A big segment of generation 1."""
    return {"key": key, "version": 1, "unbounded": True, "generation": 1} | fields


def flag(*segments: str, key: str = "flag", **fields: Any) -> Item:
    """A flag that serves "in" to those in any of the segments and "out" to the others."""
    return {
        "key": key,
        "version": 1,
        "on": True,
        "variations": ["out", "in"],
        "fallthrough": {"variation": 0},
        "rules": [{"id": "rule-id", "variation": 1, "clauses": [in_any(*segments)]}],
    } | fields


def in_any(*segments: str) -> Item:
    return {"attribute": "", "op": "segmentMatch", "values": list(segments)}


def matching(attribute: str, *values: str) -> Item:
    """A segment's rule."""
    return {"clauses": [{"attribute": attribute, "op": "in", "values": list(values)}]}


def texts(*flags: Item, segments: Iterable[Item] = ()) -> dict[str, dict[str, str]]:
    return {
        "features": {item["key"]: json.dumps(item) for item in flags},
        "segments": {item["key"]: json.dumps(item) for item in segments},
    }


def flags_in_memory(*flags: Item, segments: Iterable[Item] = ()) -> MemoryRequester:
    return MemoryRequester(texts(*flags, segments=segments))


def answer(reader: FlagReader, context: Context | Item = USER, key: str = "flag") -> tuple[Any, str | None]:
    """The value and the status of big segments in the reason."""
    detail = reader.variation_detail(key, context, "default")
    return detail.value, detail.reason.get("bigSegmentsStatus")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "ldreader"]


class Environment:
    """One prefix in Redis, filled by plain commands in the layout of LaunchDarkly's Relay Proxy."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.prefix = f"big-{uuid.uuid4().hex[:12]}"
        self.client = redis.Redis.from_url(server.url)

    def put(self, *flags: Item, segments: Iterable[Item] = ()) -> None:
        for kind, items in texts(*flags, segments=segments).items():
            for key, text in items.items():
                self.client.hset(f"{self.prefix}:{kind}", key, text)

    def include(self, context_hash: str, *refs: str) -> None:
        self.client.sadd(f"{self.prefix}:big_segment_include:{context_hash}", *refs)

    def exclude(self, context_hash: str, *refs: str) -> None:
        self.client.sadd(f"{self.prefix}:big_segment_exclude:{context_hash}", *refs)

    def synchronize(self, value: str | None = None, *, ago: float = 0.0) -> None:
        """Notes the time as the Relay Proxy does, with its cursor beside it, or this text in its place."""
        text = str(int((time.time() - ago) * 1000)) if value is None else value
        self.client.set(f"{self.prefix}:big_segments_synchronized_on", text)
        self.client.set(f"{self.prefix}:big_segments_cursor", "cursor")
        self.client.set(f"{self.prefix}:big_segments_lock", "")

    def requester(self) -> RedisRequester:
        return RedisRequester.from_url(self.server.url, prefix=self.prefix)

    def reader(self, **options: Any) -> FlagReader:
        return FlagReader(self.requester(), **options)

    def official_store(self) -> Any:
        return OfficialRedis.new_big_segment_store(url=self.server.url, prefix=self.prefix)

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def environment(redis_server: RedisServer) -> Iterator[Environment]:
    """A prefix of its own with the flag ``flag`` and the big segment ``big``, synchronised a moment ago."""
    environment = Environment(redis_server)
    environment.put(flag("big"), segments=[big()])
    environment.synchronize()
    yield environment
    environment.close()


class Metadata:
    def __init__(self, last_up_to_date: int | None) -> None:
        self.last_up_to_date = last_up_to_date


class RecordingStore:
    """A store with the methods of the official SDK's, which notes what it was asked for and fails at what it is told.

    It fails at ``"get_metadata"``, or at a membership by its hash.
    """

    def __init__(self, memberships: Memberships = NOBODY, *, ago: float | None = 0.0, fails_at: Iterable[str] = ()):
        self.memberships = memberships
        self.ago = ago
        self.fails_at = set(fails_at)
        self.asked: list[str] = []
        self.stopped = 0

    def get_metadata(self) -> Metadata | None:
        self._ask("get_metadata")
        return Metadata(None if self.ago is None else int((time.time() - self.ago) * 1000))

    def get_membership(self, context_hash: str) -> Mapping[str, bool] | None:
        self._ask(context_hash)
        return self.memberships.get(context_hash)

    def stop(self) -> None:
        self.stopped += 1

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.fails_at:
            raise OSError(f"user-key asked for {what}")


class JoiningStore(RecordingStore):
    """One that answers metadata and memberships in one go."""

    def get_big_segments(self, context_hashes: Iterable[str]) -> tuple[Metadata | None, Memberships]:
        hashes = list(context_hashes)
        self._ask(" ".join(hashes))
        asked, self.asked = self.asked, []
        try:
            return self.get_metadata(), {hashed: self.get_membership(hashed) for hashed in hashes}
        finally:
            self.asked = asked


class TestMembership:
    """What a membership in Redis makes of a context."""

    def test_an_included_context_is_in(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        assert answer(environment.reader()) == ("in", "HEALTHY")

    def test_another_included_context_is_in(self, environment: Environment) -> None:
        environment.include(USER1_HASH, "big.g1")
        assert answer(environment.reader(), Context.create("user1")) == ("in", "HEALTHY")
        assert answer(environment.reader()) == ("out", "HEALTHY")

    def test_a_context_of_which_nothing_is_known_is_not_in(self, environment: Environment) -> None:
        assert answer(environment.reader()) == ("out", "HEALTHY")

    def test_an_excluded_context_is_not_in(self, environment: Environment) -> None:
        environment.exclude(USER_HASH, "big.g1")
        assert answer(environment.reader()) == ("out", "HEALTHY")

    def test_a_context_that_is_both_is_in(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1", "other.g1")
        environment.exclude(USER_HASH, "big.g1", "another.g1")
        assert answer(environment.reader()) == ("in", "HEALTHY")

    @pytest.mark.parametrize("ref", ["big.g2", "big.g10", "big.g", "big", "BIG.g1", "bigger.g1"])
    def test_another_generation_or_segment_does_not_count(self, environment: Environment, ref: str) -> None:
        environment.include(USER_HASH, ref)
        assert answer(environment.reader()) == ("out", "HEALTHY")

    def test_zero_is_a_generation(self, environment: Environment) -> None:
        environment.put(segments=[big(generation=0)])
        environment.include(USER_HASH, "big.g0")
        assert answer(environment.reader()) == ("in", "HEALTHY")

    def test_the_reference_has_the_key_that_the_segment_gives_itself(self, environment: Environment) -> None:
        environment.put(flag("stored-as"))
        environment.client.hset(f"{environment.prefix}:segments", "stored-as", json.dumps(big("own")))
        environment.include(USER_HASH, "own.g1")
        assert answer(environment.reader()) == ("in", "HEALTHY")

    def test_rules_decide_where_the_reference_is_absent(self, environment: Environment) -> None:
        environment.put(segments=[big(rules=[matching("key", "user-key")])])
        reader = environment.reader()
        assert answer(reader) == ("in", "HEALTHY")
        environment.exclude(USER_HASH, "other.g1")
        assert answer(reader) == ("in", "HEALTHY")
        assert answer(reader, Context.create("user1")) == ("out", "HEALTHY")

    def test_rules_do_not_decide_against_an_exclusion(self, environment: Environment) -> None:
        environment.put(segments=[big(rules=[matching("key", "user-key")])])
        environment.exclude(USER_HASH, "big.g1")
        assert answer(environment.reader()) == ("out", "HEALTHY")

    def test_rules_may_refer_to_other_segments(self, environment: Environment) -> None:
        nested = big("nested")
        environment.put(segments=[big(rules=[{"clauses": [in_any("nested")]}]), nested])
        environment.include(USER_HASH, "nested.g1")
        assert answer(environment.reader()) == ("in", "HEALTHY")

    @pytest.mark.parametrize(
        "lists",
        [
            {"included": ["user-key"]},
            {"includedContexts": [{"contextKind": "user", "values": ["user-key"]}]},
        ],
        ids=["keys", "contexts"],
    )
    def test_the_lists_of_a_regular_segment_put_nobody_in(self, environment: Environment, lists: Item) -> None:
        environment.put(segments=[big(**lists)])
        assert answer(environment.reader()) == ("out", "HEALTHY")

    @pytest.mark.parametrize(
        "lists",
        [
            {"excluded": ["user-key"]},
            {"excludedContexts": [{"contextKind": "user", "values": ["user-key"]}]},
        ],
        ids=["keys", "contexts"],
    )
    def test_the_lists_of_a_regular_segment_keep_nobody_out(self, environment: Environment, lists: Item) -> None:
        environment.put(segments=[big(rules=[matching("key", "user-key")], **lists)])
        assert answer(environment.reader()) == ("in", "HEALTHY")

    def test_the_key_is_that_of_the_kind_which_the_segment_is_about(self, environment: Environment) -> None:
        environment.put(segments=[big(unboundedContextKind="org")])
        environment.include(hash_of("acme"), "big.g1")
        both = Context.create_multi(USER, Context.create("acme", "org"))
        assert answer(environment.reader(), both) == ("in", "HEALTHY")
        assert answer(environment.reader(), Context.create_multi(USER, Context.create("else", "org")))[0] == "out"

    def test_the_hash_is_of_the_plain_key_in_utf8(self, environment: Environment) -> None:
        for key in ("ünïcödé-✓", "org:with:colons", "100%"):
            environment.include(hash_of(key), "big.g1")
            assert answer(environment.reader(), Context.create(key)) == ("in", "HEALTHY")

    def test_half_a_character_in_a_key_is_hashed_like_the_one_that_replaces_it(self, environment: Environment) -> None:
        environment.include(hash_of("a\ufffd"), "big.g1")
        assert answer(environment.reader(), Context.create("a\ud800")) == ("in", "HEALTHY")

    def test_a_context_without_the_kind_is_not_in_and_nobody_is_asked(self) -> None:
        store = RecordingStore({USER_HASH: {"big.g1": True}})
        about_orgs = big(unboundedContextKind="org", rules=[matching("key", "user-key")])
        reader = FlagReader(flags_in_memory(flag("big"), segments=[about_orgs]), big_segments=store)
        assert answer(reader) == ("out", None)
        assert store.asked == []

    def test_without_a_generation_nobody_is_in_and_nobody_is_asked(self) -> None:
        store = RecordingStore({USER_HASH: {"big.g1": True, "big.gNone": True}})
        segment = big(generation=None, rules=[matching("key", "user-key")])
        reader = FlagReader(flags_in_memory(flag("big"), segments=[segment]), big_segments=store)
        assert answer(reader) == ("out", "NOT_CONFIGURED")
        assert store.asked == []

    def test_a_regular_segment_asks_nobody(self) -> None:
        store = RecordingStore({USER_HASH: {"big.g1": True}})
        reader = FlagReader(flags_in_memory(flag("big"), segments=[big(unbounded=False)]), big_segments=store)
        assert answer(reader) == ("out", None)
        assert store.asked == []

    def test_a_change_shows_in_the_next_request(self, environment: Environment) -> None:
        reader = environment.reader()
        assert answer(reader)[0] == "out"
        environment.include(USER_HASH, "big.g1")
        assert answer(reader)[0] == "in"

    def test_a_client_that_decodes_replies_reads_the_same(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        with redis.Redis.from_url(environment.server.url, decode_responses=True) as client:
            reader = FlagReader(RedisRequester(client, prefix=environment.prefix))
            assert answer(reader) == ("in", "HEALTHY")


class TestFreshness:
    """Whether memberships in Redis count as stale."""

    def test_a_store_that_was_never_synchronised_is_stale(self, environment: Environment) -> None:
        environment.client.delete(f"{environment.prefix}:big_segments_synchronized_on")
        environment.include(USER_HASH, "big.g1")
        assert answer(environment.reader()) == ("in", "STALE")

    @pytest.mark.parametrize(("ago", "status"), [(0.0, "HEALTHY"), (119.999, "HEALTHY"), (120.0, "STALE")])
    def test_the_limit_is_two_minutes(
        self, environment: Environment, monkeypatch: pytest.MonkeyPatch, ago: float, status: str
    ) -> None:
        environment.synchronize("1700000000000")
        monkeypatch.setattr(time, "time", lambda: 1700000000 + ago)
        assert answer(environment.reader()) == ("out", status)

    @pytest.mark.parametrize(("stale_after", "status"), [(5, "STALE"), (20, "HEALTHY"), (0.5, "STALE")])
    def test_the_application_may_set_another_limit(
        self, environment: Environment, stale_after: float, status: str
    ) -> None:
        environment.synchronize(ago=10)
        config = BigSegmentsConfig(environment.official_store(), stale_after=stale_after)
        with environment.reader(big_segments=config) as reader:
            assert answer(reader) == ("out", status)
            assert reader.big_segment_store_status().stale is (status == "STALE")

    def test_a_time_in_milliseconds_is_not_taken_for_seconds(self, environment: Environment) -> None:
        environment.synchronize(ago=3600)
        assert answer(environment.reader()) == ("out", "STALE")

    def test_a_time_in_seconds_is_one_of_long_ago(self, environment: Environment) -> None:
        environment.synchronize(str(int(time.time())))
        assert answer(environment.reader()) == ("out", "STALE")

    def test_a_time_ahead_of_our_clock_is_fresh(self, environment: Environment) -> None:
        environment.synchronize(ago=-3600)
        assert answer(environment.reader()) == ("out", "HEALTHY")

    @pytest.mark.parametrize("text", ["yesterday", "1.5", "", "0x10", "2026-11-23T12:00:00Z"])
    def test_what_is_no_integer_is_an_error_of_the_store(
        self, environment: Environment, caplog: pytest.LogCaptureFixture, text: str
    ) -> None:
        environment.synchronize(text)
        assert answer(environment.reader()) == ("out", "STORE_ERROR")
        (line,) = lines(caplog)
        assert "no integer" in line
        assert repr(text) in line

    def test_stale_memberships_are_used(self, environment: Environment) -> None:
        environment.synchronize(ago=3600)
        environment.include(USER_HASH, "big.g1")
        assert answer(environment.reader()) == ("in", "STALE")

    def test_metadata_that_a_store_does_not_have_are_stale(self) -> None:
        class Absent(RecordingStore):
            def get_metadata(self) -> Metadata | None:
                return None

        reader = FlagReader(flags_in_memory(flag("big"), segments=[big()]), big_segments=Absent())
        assert answer(reader) == ("out", "STALE")
        assert reader.big_segment_store_status().stale


class TestTheWorstStatus:
    """Of several big segments met in one evaluation, the worst status counts."""

    BOTH = Context.create_multi(USER, Context.create("acme", "org"))

    @pytest.mark.parametrize("order", [("big", "none"), ("none", "big")])
    @pytest.mark.parametrize("ago", [0.0, 3600.0])
    def test_no_generation_is_worse_than_fresh_and_stale(self, order: tuple[str, ...], ago: float) -> None:
        segments = [big(), big("none", generation=None)]
        reader = FlagReader(flags_in_memory(flag(*order), segments=segments), big_segments=RecordingStore(ago=ago))
        assert answer(reader) == ("out", "NOT_CONFIGURED")

    @pytest.mark.parametrize("order", [("big", "of-org"), ("of-org", "big")])
    @pytest.mark.parametrize("ago", [0.0, 3600.0])
    @pytest.mark.parametrize("failing", ["user-key", "acme"])
    def test_a_failure_is_worse_than_fresh_and_stale(self, order: tuple[str, ...], ago: float, failing: str) -> None:
        segments = [big(), big("of-org", unboundedContextKind="org")]
        store = RecordingStore(ago=ago, fails_at=[hash_of(failing)])
        reader = FlagReader(flags_in_memory(flag(*order), segments=segments), big_segments=store)
        assert answer(reader, self.BOTH) == ("out", "STORE_ERROR")

    @pytest.mark.parametrize("order", [("big", "none"), ("none", "big")])
    def test_no_generation_is_worse_than_a_failure(self, order: tuple[str, ...]) -> None:
        segments = [big(), big("none", generation=None)]
        store = RecordingStore(fails_at=[USER_HASH])
        reader = FlagReader(flags_in_memory(flag(*order), segments=segments), big_segments=store)
        assert answer(reader) == ("out", "NOT_CONFIGURED")

    def test_a_segment_that_is_not_reached_does_not_count(self) -> None:
        segments = [big(), big("none", generation=None)]
        store = RecordingStore({USER_HASH: {"big.g1": True}})
        reader = FlagReader(flags_in_memory(flag("big", "none"), segments=segments), big_segments=store)
        assert answer(reader) == ("in", "HEALTHY")

    def test_that_of_a_prerequisite_counts(self) -> None:
        first = flag("big", key="first")
        second = flag("nowhere", prerequisites=[{"key": "first", "variation": 0}])
        reader = FlagReader(flags_in_memory(first, second, segments=[big()]), big_segments=RecordingStore(ago=None))
        assert answer(reader) == ("out", "STALE")

    def test_that_of_one_flag_is_not_that_of_the_next(self) -> None:
        flags = (flag("none"), flag("big", key="other"), flag("nowhere", key="plain"))
        segments = [big(), big("none", generation=None)]
        with FlagReader(flags_in_memory(*flags, segments=segments), big_segments=RecordingStore()) as reader:
            request = reader.request(USER)
            for key, status in (("flag", "NOT_CONFIGURED"), ("other", "HEALTHY"), ("plain", None)):
                assert request.variation_detail(key, "default").reason.get("bigSegmentsStatus") == status


class TestTheReason:
    """The status stands in the reason, whatever the reason is."""

    def test_a_matched_rule_has_it(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        reason = {"kind": "RULE_MATCH", "ruleIndex": 0, "ruleId": "rule-id", "bigSegmentsStatus": "HEALTHY"}
        assert environment.reader().variation_detail("flag", USER, None).reason == reason

    def test_a_flag_that_falls_through_has_it(self, environment: Environment) -> None:
        reason = environment.reader().variation_detail("flag", USER, None).reason
        assert reason == {"kind": "FALLTHROUGH", "bigSegmentsStatus": "HEALTHY"}

    def test_a_failed_prerequisite_has_it(self, environment: Environment) -> None:
        environment.put(flag(key="top", prerequisites=[{"key": "flag", "variation": 1}]))
        reason = environment.reader().variation_detail("top", USER, None).reason
        assert reason == {"kind": "PREREQUISITE_FAILED", "prerequisiteKey": "flag", "bigSegmentsStatus": "HEALTHY"}

    @pytest.mark.parametrize(
        "broken",
        [
            {"fallthrough": {"variation": 7}},
            {"fallthrough": {}},
            {"rules": [flag("big")["rules"][0], {"variation": 1, "clauses": [{"attribute": "", "op": "in"}]}]},
            {"rules": [flag("big")["rules"][0], {"variation": 1, "clauses": 7}]},
            {"rules": [flag("big")["rules"][0], flag("circle")["rules"][0]]},
        ],
        ids=["bad index", "nothing to serve", "bad attribute", "wrong type", "circle of segments"],
    )
    def test_an_evaluation_that_was_given_up_has_it(self, environment: Environment, broken: Item) -> None:
        circle = {"key": "circle", "version": 1, "rules": [{"clauses": [in_any("circle")]}]}
        environment.put(flag("big", **broken), segments=[circle])
        detail = environment.reader().variation_detail("flag", USER, "default")
        assert detail.value == "default"
        assert detail.reason == {"kind": "ERROR", "errorKind": "MALFORMED_FLAG", "bigSegmentsStatus": "HEALTHY"}

    def test_an_item_that_cannot_be_had_keeps_it(self) -> None:
        flags = texts(flag("big", "unreadable"), segments=[big()])
        flags["segments"]["unreadable"] = StoreError("refused")  # type: ignore[assignment]
        reader = FlagReader(MemoryRequester(flags), big_segments=RecordingStore(ago=None))
        reason = reader.variation_detail("flag", USER, "default").reason
        assert reason == {"kind": "ERROR", "errorKind": "EXCEPTION", "bigSegmentsStatus": "STALE"}

    def test_a_flag_without_big_segments_has_none(self, environment: Environment) -> None:
        environment.put(flag("nowhere", key="plain"))
        assert environment.reader().variation_detail("plain", USER, None).reason == {"kind": "FALLTHROUGH"}

    def test_the_state_of_all_flags_has_it(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        state = environment.reader().all_flags_state(USER, with_reasons=True)
        assert state.to_values_map() == {"flag": "in"}
        assert (state.get_flag_reason("flag") or {})["bigSegmentsStatus"] == "HEALTHY"


@pytest.mark.parametrize("kind_of_store", [RecordingStore, JoiningStore])
class TestQueries:
    """How often a store is asked in one request."""

    ORG = Context.create("acme", "org")

    def flags(self) -> MemoryRequester:
        segments = [big("a"), big("b"), big("c", unboundedContextKind="org")]
        return flags_in_memory(
            flag("a", "b", key="ab"),
            flag("b", "a", key="ba"),
            flag("c", key="c"),
            flag("a", "c", key="ac"),
            segments=segments,
        )

    def test_once_for_a_key_however_many_segments_and_flags(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store()
        with FlagReader(self.flags(), big_segments=store).request(USER) as request:
            for key in ("ab", "ba", "ab"):
                assert request.variation(key, None) == "out"
            assert request.all_flags_state().to_values_map() == {"ab": "out", "ba": "out", "c": "out", "ac": "out"}
        assert [asked for asked in store.asked if asked != "get_metadata"] == [USER_HASH]

    def test_once_for_a_key_of_two_kinds(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store({USER_HASH: {"c.g1": True}})
        both = Context.create_multi(USER, Context.create("user-key", "org"))
        assert FlagReader(self.flags(), big_segments=store).variation("ac", both, None) == "in"
        assert [asked for asked in store.asked if asked != "get_metadata"] == [USER_HASH]

    def test_once_for_each_of_two_keys(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store({hash_of("acme"): {"c.g1": True}})
        both = Context.create_multi(USER, self.ORG)
        assert FlagReader(self.flags(), big_segments=store).variation("ac", both, None) == "in"
        asked = " ".join(asked for asked in store.asked if asked != "get_metadata")
        assert asked == f"{USER_HASH} {hash_of('acme')}"

    def test_for_the_status_once(self, kind_of_store: type[RecordingStore], monkeypatch: pytest.MonkeyPatch) -> None:
        store = kind_of_store()
        with FlagReader(self.flags(), big_segments=store).request(Context.create_multi(USER, self.ORG)) as request:
            assert request.variation_detail("ab", None).reason["bigSegmentsStatus"] == "HEALTHY"
            store.ago = 3600  # one request, one answer
            assert request.variation_detail("c", None).reason["bigSegmentsStatus"] == "HEALTHY"
        assert store.asked.count("get_metadata") <= 1
        assert answer(FlagReader(self.flags(), big_segments=store), key="ab") == ("out", "STALE")

    def test_an_answer_of_nothing_is_remembered_too(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store({USER_HASH: None})
        with FlagReader(self.flags(), big_segments=store).request(USER) as request:
            request.variation("ab", None)
            asked = list(store.asked)
            request.variation("ba", None)
        assert store.asked == asked

    def test_the_next_request_asks_again(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store()
        reader = FlagReader(self.flags(), big_segments=store)
        reader.variation("ab", USER, None)
        asked = list(store.asked)
        reader.variation("ab", USER, None)
        assert store.asked == asked * 2

    def test_a_request_that_was_closed_asks_again(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store()
        request = FlagReader(self.flags(), big_segments=store).request(USER)
        request.variation("ab", None)
        asked = list(store.asked)
        request.close()
        request.variation("ab", None)
        assert store.asked == asked * 2

    def test_an_offline_reader_asks_nothing(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store()
        reader = FlagReader(self.flags(), big_segments=store, offline=True)
        assert reader.variation("ab", USER, "default") == "default"
        status = reader.big_segment_store_status()
        assert (status.available, status.stale) == (False, False)
        assert store.asked == []


class TestAStoreThatFails:
    """It costs the status, never the application."""

    ORG = Context.create("acme", "org")

    def flags(self, **fields: Any) -> MemoryRequester:
        segments = [big(**fields), big("of-org", unboundedContextKind="org")]
        return flags_in_memory(flag("big"), flag("of-org", key="org-flag"), segments=segments)

    @pytest.mark.parametrize("kind_of_store", [RecordingStore, JoiningStore])
    @pytest.mark.parametrize("strict", [False, True])
    def test_rules_decide(self, kind_of_store: type[RecordingStore], strict: bool) -> None:
        store = kind_of_store({USER_HASH: {"big.g1": True}}, fails_at=[USER_HASH])
        assert answer(FlagReader(self.flags(), big_segments=store, strict=strict)) == ("out", "STORE_ERROR")
        by_rule = self.flags(rules=[matching("key", "user-key")], excluded=["user-key"])
        assert answer(FlagReader(by_rule, big_segments=store, strict=strict)) == ("in", "STORE_ERROR")

    @pytest.mark.parametrize("kind_of_store", [RecordingStore, JoiningStore])
    def test_it_is_not_asked_again_in_the_request(self, kind_of_store: type[RecordingStore]) -> None:
        store = kind_of_store(fails_at=[USER_HASH])
        reader = FlagReader(self.flags(), big_segments=store)
        with reader.request(Context.create_multi(USER, self.ORG)) as request:
            for key in ("flag", "org-flag", "flag"):
                assert request.variation_detail(key, None).reason["bigSegmentsStatus"] == "STORE_ERROR"
            assert request.all_flags_state().valid
        assert store.asked == [USER_HASH]
        store.fails_at.clear()
        assert answer(reader) == ("out", "HEALTHY")

    def test_one_that_cannot_tell_its_status_is_not_asked_again_in_the_request(self) -> None:
        store = RecordingStore({USER_HASH: {"big.g1": True}}, fails_at=["get_metadata"])
        reader = FlagReader(self.flags(), big_segments=store)
        with reader.request(Context.create_multi(USER, self.ORG)) as request:
            assert request.variation("flag", None) == "in"
            for key in ("flag", "org-flag"):
                assert request.variation_detail(key, None).reason["bigSegmentsStatus"] == "STORE_ERROR"
        assert store.asked == [USER_HASH, "get_metadata"]

    @pytest.mark.parametrize("at", [USER_HASH, "get_metadata"])
    @pytest.mark.parametrize("kind_of_store", [RecordingStore, JoiningStore])
    def test_one_line_is_logged_which_names_no_context(
        self, kind_of_store: type[RecordingStore], at: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        reader = FlagReader(self.flags(), big_segments=kind_of_store(fails_at=[at]))
        with reader.request(Context.create_multi(USER, self.ORG)) as request:
            for key in ("flag", "org-flag", "flag"):
                request.variation(key, None)
            request.all_flags_state()
        (line,) = lines(caplog)
        assert line.startswith("the store of big segments failed: ")
        assert "OSError" in line
        assert "user-key" not in line
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    def test_a_time_that_is_no_number_leaves_the_memberships(self, caplog: pytest.LogCaptureFixture) -> None:
        class Confused(JoiningStore):
            def get_metadata(self) -> Metadata:
                return Metadata("noon")  # type: ignore[arg-type]

        both = Context.create_multi(USER, self.ORG)
        memberships = {USER_HASH: {"big.g1": True}, hash_of("acme"): {"of-org.g1": True}}
        with FlagReader(self.flags(), big_segments=Confused(memberships)).request(both) as request:
            for key in ("flag", "org-flag"):
                detail = request.variation_detail(key, None)
                assert (detail.value, detail.reason["bigSegmentsStatus"]) == ("in", "STORE_ERROR")
        assert len(lines(caplog)) == 1

    def test_a_membership_that_a_joining_store_left_out_is_an_error(self) -> None:
        class Forgetful(JoiningStore):
            def get_big_segments(self, context_hashes: Iterable[str]) -> tuple[Metadata | None, Memberships]:
                return self.get_metadata(), {}

        assert answer(FlagReader(self.flags(), big_segments=Forgetful())) == ("out", "STORE_ERROR")

    def test_a_dead_redis_is_an_error_of_the_store(self, caplog: pytest.LogCaptureFixture) -> None:
        store = RedisRequester.from_url(f"redis://127.0.0.1:{free_port()}")
        reader = FlagReader(self.flags(rules=[matching("key", "user-key")]), big_segments=store)
        assert answer(reader) == ("in", "STORE_ERROR")
        assert len(lines(caplog)) == 1
        status = reader.big_segment_store_status()
        assert (status.available, status.stale) == (False, False)

    def test_the_official_store_over_a_dead_redis_is_one_too(self) -> None:
        store = OfficialRedis.new_big_segment_store(url=f"redis://127.0.0.1:{free_port()}")
        with FlagReader(self.flags(), big_segments=store) as reader:
            assert answer(reader) == ("out", "STORE_ERROR")
            assert not reader.big_segment_store_status().available

    @pytest.mark.parametrize("which", ["include", "exclude"])
    def test_a_set_that_is_none_is_an_error_of_the_store(
        self, environment: Environment, which: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        environment.client.set(f"{environment.prefix}:big_segment_{which}:{USER_HASH}", "no set")
        environment.put(flag("nowhere", key="plain"))
        reader = environment.reader()
        with reader.request(USER) as request:
            detail = request.variation_detail("flag", None)
            assert (detail.value, detail.reason["bigSegmentsStatus"]) == ("out", "STORE_ERROR")
            assert request.variation("plain", None) == "out"
        assert len(lines(caplog)) == 1
        assert "WRONGTYPE" in lines(caplog)[0]
        assert answer(reader, Context.create("user1")) == ("out", "HEALTHY")

    def test_a_silent_store_costs_the_bound_once(
        self, environment: Environment, caplog: pytest.LogCaptureFixture
    ) -> None:
        environment.put(flag("of-org", key="org-flag"), segments=[big("of-org", unboundedContextKind="org")])
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent_url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            store = RedisRequester.from_url(silent_url, timeout=0.5)
            with environment.reader(big_segments=store) as reader:
                started = time.monotonic()
                with reader.request(Context.create_multi(USER, self.ORG)) as request:
                    for key in ("flag", "org-flag"):
                        assert request.variation_detail(key, None).reason["bigSegmentsStatus"] == "STORE_ERROR"
                    assert request.all_flags_state().to_values_map() == {"flag": "out", "org-flag": "out"}
                assert 0.5 <= time.monotonic() - started < 0.9  # twice would be 1.0
        assert len(lines(caplog)) == 1

    def test_a_time_that_is_no_number_is_stale(self) -> None:
        class Unclear(RecordingStore):
            def get_metadata(self) -> Metadata | None:
                return Metadata(float("nan"))  # type: ignore[arg-type]

        reader = FlagReader(flags_in_memory(flag("big"), segments=[big()]), big_segments=Unclear())
        assert answer(reader) == ("out", "STALE")

    def test_a_limit_of_none_is_the_usual_one(self) -> None:
        class Config:
            store = RecordingStore(ago=60)
            stale_after = None

        reader = FlagReader(flags_in_memory(flag("big"), segments=[big()]), big_segments=Config())
        assert answer(reader) == ("out", "HEALTHY")
        Config.store.ago = 180
        assert answer(reader) == ("out", "STALE")


class TestConfiguration:
    """Which store is asked."""

    def test_a_store_that_has_nothing_to_let_go_of_may_lack_a_way_to_do_so(self) -> None:
        class Plain:
            def get_metadata(self) -> None: ...

            def get_membership(self, context_hash: str) -> None: ...

        FlagReader(flags_in_memory(), big_segments=Plain()).close()

    def test_the_store_of_the_flags_by_default(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        url = f"{environment.server.url}?prefix={environment.prefix}"
        with FlagReader.from_url(url) as reader:
            assert answer(reader) == ("in", "HEALTHY")

    def test_a_store_of_ones_own(self) -> None:
        store = RecordingStore({USER_HASH: {"big.g1": True}})
        reader = FlagReader(flags_in_memory(flag("big"), segments=[big()]), big_segments=store)
        assert answer(reader) == ("in", "HEALTHY")

    def test_a_store_of_ones_own_goes_before_that_of_the_flags(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        assert answer(environment.reader(big_segments=RecordingStore(ago=None))) == ("out", "STALE")

    def test_another_prefix(self, environment: Environment) -> None:
        other = Environment(environment.server)
        other.include(USER_HASH, "big.g1")
        other.synchronize(ago=3600)
        assert answer(environment.reader(big_segments=other.requester())) == ("in", "STALE")
        other.close()

    def test_a_store_given_with_a_url(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        url = f"{environment.server.url}?prefix={environment.prefix}"
        with FlagReader.from_url(url, big_segments=RecordingStore()) as reader:
            assert answer(reader) == ("out", "HEALTHY")

    def test_the_official_store_for_redis(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        flags = flags_in_memory(flag("big"), segments=[big()])
        with FlagReader(flags, big_segments=environment.official_store()) as reader:
            assert answer(reader) == ("in", "HEALTHY")
            assert answer(reader, Context.create("user1")) == ("out", "HEALTHY")

    def test_the_official_configuration(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        config = BigSegmentsConfig(store=environment.official_store(), context_cache_size=5, status_poll_interval=1)
        with FlagReader(flags_in_memory(flag("big"), segments=[big()]), big_segments=config) as reader:
            assert answer(reader) == ("in", "HEALTHY")
        assert "status-poll" not in {thread.name for thread in threading.enumerate()}

    @pytest.mark.parametrize("store", [None, BigSegmentsConfig()], ids=["nothing", "a configuration without one"])
    def test_none_gives_not_configured_and_rules_decide(self, store: Any) -> None:
        segments = [big(), big("by-rule", included=["user1"], rules=[matching("key", "user-key")])]
        flags = flags_in_memory(flag("big"), flag("by-rule", key="by-rule"), segments=segments)
        reader = FlagReader(flags, big_segments=store)
        assert answer(reader) == ("out", "NOT_CONFIGURED")
        assert answer(reader, key="by-rule") == ("in", "NOT_CONFIGURED")
        assert answer(reader, Context.create("user1"), "by-rule") == ("out", "NOT_CONFIGURED")

    def test_a_configuration_without_one_goes_before_the_store_of_the_flags(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        assert answer(environment.reader(big_segments=BigSegmentsConfig())) == ("out", "NOT_CONFIGURED")

    @pytest.mark.parametrize("wrong", ["redis://localhost", 7, RecordingStore().get_membership, {}])
    def test_anything_else_is_refused_at_once(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="big_segments takes a store"):
            FlagReader(flags_in_memory(), big_segments=wrong)

    def test_closing_the_reader_stops_the_store(self, environment: Environment) -> None:
        store = RecordingStore()
        environment.reader(big_segments=BigSegmentsConfig(store)).close()  # type: ignore[arg-type]
        assert store.stopped == 1

    def test_closing_the_reader_closes_a_store_of_both_once(self) -> None:
        class Both(RecordingStore):
            def close(self) -> None:
                self.stopped += 1

        store: Any = Both()
        FlagReader(store).close()
        assert store.stopped == 1


class TestStoreStatus:
    """What a health check is told."""

    @pytest.mark.parametrize(
        ("store", "available", "stale"),
        [
            (RecordingStore(), True, False),
            (RecordingStore(ago=119), True, False),
            (RecordingStore(ago=121), True, True),
            (RecordingStore(ago=None), True, True),
            (RecordingStore(fails_at=["get_metadata"]), False, False),
            (None, False, False),
        ],
        ids=["fresh", "nearly stale", "stale", "never synchronised", "failing", "none"],
    )
    def test_it_is_available_and_stale_or_not(self, store: Any, available: bool, stale: bool) -> None:
        status = FlagReader(flags_in_memory(), big_segments=store).big_segment_store_status()
        assert (status.available, status.stale) == (available, stale)
        assert repr(status) == f"BigSegmentStoreStatus(available={available}, stale={stale})"

    def test_it_is_that_of_now(self, environment: Environment) -> None:
        with environment.reader() as reader:
            assert not reader.big_segment_store_status().stale
            environment.synchronize(ago=3600)
            assert reader.big_segment_store_status().stale
            environment.synchronize("noon")
            assert not reader.big_segment_store_status().available

    def test_no_membership_is_asked_for(self) -> None:
        store = RecordingStore()
        FlagReader(flags_in_memory(), big_segments=store).big_segment_store_status()
        assert store.asked == ["get_metadata"]

    def test_it_cannot_be_changed(self) -> None:
        status = FlagReader(flags_in_memory()).big_segment_store_status()
        with pytest.raises(AttributeError):
            status.available = True  # type: ignore[misc]


class CountingProxy:
    """A way to a server that notes the commands of each round trip."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.round_trips: list[list[str]] = []

    def __enter__(self) -> CountingProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the reader was closed and its connection was not"

    def _serve(self) -> None:
        """Passes one connection on, until the client ends it."""
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            answered = True
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is client:
                        if answered:
                            self.round_trips.append([])
                        names = re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n", data)
                        self.round_trips[-1] += [name.decode() for name in names]
                    answered = ready is server
                    (server if ready is client else client).sendall(data)


class TestRoundTrips:
    """What big segments cost on Redis."""

    @pytest.fixture
    def proxy(self, redis_server: RedisServer) -> Iterator[CountingProxy]:
        with CountingProxy(redis_server.port) as proxy:
            yield proxy

    def connected(self, proxy: CountingProxy, environment: Environment) -> FlagReader:
        """A reader through the proxy, after the connection's own opening."""
        reader = FlagReader.from_url(proxy.url, prefix=environment.prefix)
        reader.variation("nothing", USER, None)
        proxy.round_trips.clear()
        return reader

    def test_membership_and_status_are_one_more(self, environment: Environment, proxy: CountingProxy) -> None:
        environment.include(USER_HASH, "big.g1")
        with self.connected(proxy, environment) as reader:
            assert answer(reader) == ("in", "HEALTHY")
        assert proxy.round_trips == [["HGET"], ["HGET"], ["GET", "SMEMBERS", "SMEMBERS"]]

    def test_the_memberships_of_two_contexts_are_one_more(self, environment: Environment, proxy: CountingProxy) -> None:
        environment.put(flag("big", "of-org"), segments=[big("of-org", unboundedContextKind="org")])
        environment.include(hash_of("acme"), "of-org.g1")
        with self.connected(proxy, environment) as reader:
            assert answer(reader, Context.create_multi(USER, Context.create("acme", "org"))) == ("in", "HEALTHY")
        assert proxy.round_trips == [["HGET"], ["HGET", "HGET"], ["GET", *["SMEMBERS"] * 4]]

    def test_the_state_of_all_flags_takes_one_more(self, environment: Environment, proxy: CountingProxy) -> None:
        environment.put(*(flag("big", key=f"flag-{number}") for number in range(5)))
        with self.connected(proxy, environment) as reader:
            assert len(reader.all_flags_state(USER).to_values_map()) == 6
        assert proxy.round_trips == [["HGETALL", "HGETALL"], ["GET", "SMEMBERS", "SMEMBERS"]]

    def test_the_status_alone_takes_one(self, environment: Environment, proxy: CountingProxy) -> None:
        with self.connected(proxy, environment) as reader:
            assert reader.big_segment_store_status().available
        assert proxy.round_trips == [["GET"]]

    def test_only_reads_are_sent(self, environment: Environment) -> None:
        environment.include(USER_HASH, "big.g1")
        with environment.reader() as reader, environment.client.monitor() as monitor:  # type: ignore[no-untyped-call]
            assert answer(reader) == ("in", "HEALTHY")
            environment.client.echo("the end")
            sent = []
            while "the end" not in (command := monitor.next_command()["command"]):
                sent.append(command)
        reads = [command for command in sent if not command.startswith(("HELLO", "CLIENT SETINFO"))]
        assert reads == [
            f"HGET {environment.prefix}:features flag",
            f"HGET {environment.prefix}:segments big",
            f"GET {environment.prefix}:big_segments_synchronized_on",
            f"SMEMBERS {environment.prefix}:big_segment_include:{USER_HASH}",
            f"SMEMBERS {environment.prefix}:big_segment_exclude:{USER_HASH}",
        ]


class OfficialClient:
    """The official SDK in daemon mode over the same Redis, flags and big segments."""

    def __init__(self, environment: Environment) -> None:
        flags = OfficialRedis.new_feature_store(
            url=environment.server.url, prefix=environment.prefix, caching=CacheConfig.disabled()
        )
        big_segments = BigSegmentsConfig(environment.official_store())
        self._client = LDClient(
            Config("sdk-key", use_ldd=True, feature_store=flags, send_events=False, big_segments=big_segments)
        )

    def __enter__(self) -> OfficialClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def answer(self, context: Item, key: str) -> Item:
        return shown(self._client.variation_detail(key, OfficialContext.from_dict(context), "default"))


def shown(detail: Any) -> Item:
    return {"value": detail.value, "index": detail.variation_index, "reason": detail.reason}


class TestTheOfficialSdk:
    """Memberships in the Relay Proxy's layout mean the same to the official SDK and to us."""

    SEGMENTS = (
        big("plain"),
        big("third", generation=3),
        big("zeroth", generation=0),
        big("by-rule", rules=[matching("plan", "gold")], excluded=["key-1"], included=["key-2"]),
        big("of-org", unboundedContextKind="org", rules=[matching("key", "key-3")]),
        big("nested", rules=[{"clauses": [in_any("plain", "of-org")]}]),
    )
    REFS = ("plain.g1", "third.g3", "third.g2", "zeroth.g0", "by-rule.g1", "of-org.g1", "nested.g1")

    def fill(self, environment: Environment, seed: str) -> tuple[list[Item], list[str]]:
        """Writes a world; gives its contexts and its flags' keys."""
        dice = random.Random(seed)
        keys = [segment["key"] for segment in self.SEGMENTS]
        flags = [flag(key, key=f"in-{key}") for key in keys]
        flags += [flag(*dice.sample(keys, 3), key=f"in-any-{number}") for number in range(4)]
        flags += [
            flag("third", key=f"after-{key}", prerequisites=[{"key": f"in-{key}", "variation": 1}]) for key in keys
        ]
        environment.put(*flags, segments=self.SEGMENTS)
        contexts: list[Item] = []
        for number in range(12):
            user = {"kind": "user", "key": f"key-{number}", "plan": dice.choice(["gold", "tin"])}
            org = {"kind": "org", "key": f"key-{dice.randrange(12)}"}
            both = {"kind": "multi", "user": _member(user), "org": _member(org)}
            contexts.append(dice.choice([user, org, both]))
            for write in (environment.include, environment.exclude):
                refs = [ref for ref in self.REFS if dice.random() < 0.3]
                if refs:
                    write(hash_of(f"key-{number}"), *refs)
        return contexts, [item["key"] for item in flags]

    @pytest.mark.parametrize("seed", ["one", "two", "three"])
    @pytest.mark.parametrize(
        ("synchronized", "status"),
        [("now", "HEALTHY"), ("an hour ago", "STALE"), ("never", "STALE"), ("1.5", "STORE_ERROR")],
    )
    def test_every_flag_gives_every_context_the_same_answer(
        self,
        environment: Environment,
        caplog: pytest.LogCaptureFixture,
        synchronized: str,
        status: str,
        seed: str,
    ) -> None:
        caplog.set_level(logging.CRITICAL + 1)
        contexts, keys = self.fill(environment, seed)
        if synchronized == "never":
            environment.client.delete(f"{environment.prefix}:big_segments_synchronized_on")
        else:
            text = None if synchronized in ("now", "an hour ago") else synchronized
            environment.synchronize(text, ago=3600 if synchronized == "an hour ago" else 0)
        seen = set()
        with OfficialClient(environment) as official, environment.reader() as reader:
            for context in contexts:
                with reader.request(context) as request:
                    for key in keys:
                        ours = shown(request.variation_detail(key, "default"))
                        assert ours == official.answer(context, key), (context, key)
                        seen.add((ours["value"], ours["reason"].get("bigSegmentsStatus")))
        assert {("in", status), ("out", status)} <= seen


def _member(context: Item) -> Item:
    return {name: value for name, value in context.items() if name != "kind"}
