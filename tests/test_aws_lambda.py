"""Flags in AWS Lambda: the decorator, what freezing does to connections, SnapStart, and the real runtime client."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.integrations import Consul, DynamoDB, Redis
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from ldreader import ConfigurationError, FlagReader, InvalidContext, MemoryRequester, Request, StoreError
from ldreader.integrations.aws_lambda import MARGIN, with_flags
from ldreader.requesters.protocol import ItemRef, JsonText
from ldreader.wire import connection as wire_connection
from tests import sam
from tests.aws import ENVIRONMENT
from tests.lambda_runtime import Answer, Environment, need_the_runtime_client
from tests.proxy import Proxy, Relay
from tests.servers import RedisServer, until
from tests.test_wire_dynamodb import SECRETS, Lender

PROJECT = Path(__file__).parent.parent
DEFAULT = "the default"  # as in tests/lambda_function.py, which needs a store to be imported
INVOCATIONS = int(os.environ.get("LDREADER_INVOCATIONS") or 2400)
"""How many the longest test makes, from Redis; the others a part of it."""
SHOP = json.loads((PROJECT / "examples" / "shop.json").read_text(encoding="utf-8"))
TABLE = f"lambda-{uuid.uuid4().hex[:8]}"
FLAGS = [*SHOP["flags"], "no-such-flag"]
USERS = [
    {"kind": "user", "key": f"user-{number}", "country": country, "plan": plan, "locale": locale}
    for number, (country, plan, locale) in enumerate(
        (country, plan, locale)
        for country in ("GB", "IE", "DE", "BR", "US")
        for plan in ("gold", "basic")
        for locale in ("de-CH", "en-GB", "pt-BR")
    )
]
Handler = Callable[..., Any]


class Remaining:
    """A Lambda context that knows only how much time is left."""

    def __init__(self, milliseconds: Any) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> Any:
        return self._milliseconds


class Notes(MemoryRequester):
    """A requester that notes by when it is to answer."""

    keeps_deadlines = True

    def __init__(self) -> None:
        super().__init__({"features": SHOP["flags"], "segments": SHOP["segments"]})
        self.deadlines: list[float | None] = []
        self.closed = 0

    def get_many(self, refs: Sequence[ItemRef], deadline: float | None = None) -> dict[ItemRef, JsonText | StoreError]:
        self.deadlines.append(deadline)
        return dict(super().get_many(refs))

    def close(self) -> None:
        self.closed += 1


def user_of(event: dict[str, Any]) -> Any:
    return event["user"]


class TestTheDecorator:
    def test_the_handler_gets_the_flags_for_the_event(self) -> None:
        @with_flags(FlagReader(Notes()), context=user_of)
        def handler(event: Any, lambda_context: Any, flags: Request) -> Any:
            """What the handler does."""
            return [event, lambda_context, flags.variation("shipping-prices", None), flags.context.key]

        context = Remaining(3000)
        for user, standard in ((USERS[0], 3.95), (USERS[-1], 9)):
            event = {"user": user}
            *rest, prices, key = handler(event, context)
            assert (rest, key) == ([event, context], user["key"])
            assert prices["standard"] == standard
        assert (handler.__name__, handler.__doc__, handler.__module__) == (
            "handler",
            "What the handler does.",
            __name__,
        )
        assert handler.__qualname__.endswith("flags_for_the_event.<locals>.handler")

    def test_what_was_decorated_can_be_tried_alone(self) -> None:
        handler: Any = with_flags(FlagReader(Notes()), context=user_of)(lambda event, lambda_context, flags: flags)
        assert handler.__wrapped__(None, None, 7) == 7

    def test_each_invocation_is_a_request_that_ends_with_it(self) -> None:
        events: list[Any] = []
        requests: list[Request] = []
        reader = FlagReader(Notes(), events=events.extend)

        @with_flags(reader, context=user_of)
        def handler(event: Any, lambda_context: Any, flags: Request) -> None:
            requests.append(flags)
            flags.variation("gift-cards", None)
            assert len(events) == len(requests) - 1

        for number in range(3):
            handler({"user": USERS[number]}, None)
        assert len({id(request) for request in requests}) == 3
        assert [event["context"]["key"] for event in events] == ["user-0", "user-1", "user-2"]
        assert [request._items for request in requests] == [{}] * 3

    def test_what_the_handler_raises_passes_and_its_events_are_kept(self) -> None:
        events: list[Any] = []
        own = KeyError("own")

        @with_flags(FlagReader(Notes(), events=events.extend), context=user_of)
        def handler(event: Any, lambda_context: Any, flags: Request) -> None:
            flags.variation("gift-cards", None)
            raise own

        with pytest.raises(KeyError) as caught:
            handler({"user": USERS[0]}, None)
        assert caught.value is own
        assert own.__cause__ is None
        assert own.__context__ is None
        assert len(events) == 1

    @pytest.mark.parametrize("event", [{}, {"user": None}, None, {"secret": "s3cret"}, {"user": "s3cret"}])
    def test_an_event_without_a_context_gives_defaults_and_one_line(
        self, event: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        @with_flags(FlagReader(Notes()), context=user_of)
        def handler(event: Any, lambda_context: Any, flags: Request) -> Any:
            return [flags.variation_detail(key, 7) for key in FLAGS]

        details = handler(event, Remaining(3000))
        assert {detail.value for detail in details} == {7}
        assert {detail.reason["errorKind"] for detail in details} == {"USER_NOT_SPECIFIED"}
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("ldreader", "WARNING")
        assert "s3cret" not in caplog.text
        if not isinstance(event, dict) or "user" not in event:
            assert "the function that makes it of the event failed: unexpected " in caplog.text
            assert Path(__file__).name in caplog.text

    def test_a_strict_reader_tells_that_the_function_failed(self) -> None:
        @with_flags(FlagReader(Notes(), strict=True), context=user_of)
        def handler(event: Any, lambda_context: Any, flags: Request) -> Any:
            return flags.variation("gift-cards", 7)

        with pytest.raises(InvalidContext, match="failed: unexpected KeyError"):
            handler({}, None)

    @pytest.mark.parametrize(
        ("remaining", "margin", "waits"),
        [
            (3000, MARGIN, 3.0 - MARGIN),
            (3000, 1.0, 2.0),
            (3000, 0, 3.0),
            (2 * 1000 * MARGIN, MARGIN, MARGIN),
            (300, MARGIN, 0.15),
            (300, 10, 0.15),
            (20, MARGIN, 0.01),
        ],
    )
    def test_the_store_is_waited_for_as_long_as_the_handler_still_has_time_to_answer(
        self, remaining: int, margin: float, waits: float
    ) -> None:
        notes = Notes()
        handler = self.reading(FlagReader(notes), margin=margin)
        begin = time.monotonic()
        handler({"user": USERS[0]}, Remaining(remaining))
        end = time.monotonic()
        (deadline,) = notes.deadlines
        assert deadline is not None
        assert begin + waits <= deadline <= end + waits

    def test_where_no_time_is_left_the_store_is_not_asked(self, caplog: pytest.LogCaptureFixture) -> None:
        notes = Notes()
        assert self.reading(FlagReader(notes))({"user": USERS[0]}, Remaining(0)) == DEFAULT
        assert notes.deadlines == []
        assert "the 0 s that the request has are over" in caplog.text

    @pytest.mark.parametrize(("own", "waits"), [(0.5, 0.5), (10.0, 2.75), (None, 2.75)])
    def test_the_shorter_of_this_and_the_readers_own_time_counts(self, own: float | None, waits: float) -> None:
        notes = Notes()
        begin = time.monotonic()
        self.reading(FlagReader(notes, timeout=own))({"user": USERS[0]}, Remaining(3000))
        (deadline,) = notes.deadlines
        assert deadline is not None
        assert begin + waits <= deadline <= time.monotonic() + waits

    @pytest.mark.parametrize(
        "lambda_context",
        [
            None,
            object(),
            MagicMock(),
            Remaining(None),
            Remaining("3000"),
            SimpleNamespace(get_remaining_time_in_millis=1),
        ],
        ids=["None", "object", "mock", "nothing", "text", "no function"],
    )
    @pytest.mark.parametrize("own", [None, 5.0])
    def test_without_lambda_only_the_readers_own_time_counts(self, lambda_context: Any, own: float | None) -> None:
        notes = Notes()
        handler = self.reading(FlagReader(notes, timeout=own))
        assert handler({"user": USERS[0]}, lambda_context) is not DEFAULT
        (deadline,) = notes.deadlines
        assert (deadline is None) == (own is None)

    def test_a_test_may_leave_the_lambda_context_out(self) -> None:
        assert self.reading(FlagReader(Notes()))({"user": USERS[0]}) is not DEFAULT

    @pytest.mark.parametrize("margin", [-1, float("nan"), 1000, "1", None])
    def test_a_margin_that_makes_no_sense_is_refused(self, margin: Any) -> None:
        with pytest.raises(ConfigurationError, match="margin must be a number of seconds"):
            with_flags(FlagReader(Notes()), context=user_of, margin=margin)

    def test_what_would_go_on_after_the_call_is_refused(self) -> None:
        async def asynchronous(event: Any, lambda_context: Any, flags: Request) -> None: ...

        def streaming(event: Any, lambda_context: Any, flags: Request) -> Iterator[int]:
            yield 1

        async def both(event: Any, lambda_context: Any, flags: Request) -> Any:
            yield 1

        class Application:
            async def __call__(self, event: Any, lambda_context: Any, flags: Request) -> None: ...

        for handler in (asynchronous, streaming, both, partial(asynchronous), Application(), partial(Application())):
            with pytest.raises(ConfigurationError, match=r"with_flags is for plain functions.*reader\.request"):
                with_flags(FlagReader(Notes()), context=user_of)(handler)

    def test_a_context_that_no_function_makes_is_refused(self) -> None:
        async def asynchronous(event: Any) -> Any: ...

        wrong: Any
        for wrong in ({"kind": "user", "key": "ada"}, None, asynchronous):
            with pytest.raises(ConfigurationError, match="context must be a function of the event"):
                with_flags(FlagReader(Notes()), context=wrong)

    def test_anything_that_can_be_called_is_a_handler(self) -> None:
        class Application:
            def __call__(self, event: Any, lambda_context: Any, flags: Request) -> Any:
                return flags.variation("gift-cards", DEFAULT)

        for application in (Application(), partial(Application())):
            handler: Any = with_flags(FlagReader(Notes()), context=user_of)(application)
            assert handler({"user": USERS[0]}, None) is not DEFAULT

    def test_invocations_at_the_same_time_do_not_meet(self) -> None:
        together = threading.Barrier(16, timeout=10)

        @with_flags(FlagReader(Notes()), context=user_of)
        def handler(event: Any, lambda_context: Any, flags: Request) -> Any:
            together.wait()
            first = [flags.variation_detail(key, DEFAULT) for key in FLAGS]
            together.wait()
            assert [flags.variation_detail(key, DEFAULT) for key in FLAGS] == first
            return flags.context.key, first

        alone = FlagReader(Notes())
        with ThreadPoolExecutor(16) as threads:
            done = list(threads.map(lambda user: handler({"user": user}, Remaining(5000)), [*USERS, *USERS[:2]]))
        for user, (key, details) in zip([*USERS, *USERS[:2]], done, strict=True):
            assert key == user["key"]
            assert details == [alone.variation_detail(key, user, DEFAULT) for key in FLAGS]

    def reading(self, reader: FlagReader, **options: Any) -> Handler:
        @with_flags(reader, context=user_of, **options)
        def handler(event: Any, lambda_context: Any, flags: Request) -> Any:
            return flags.variation("gift-cards", DEFAULT)

        return handler


class Served(NamedTuple):
    """The shop's flags in a real store, where the official SDK has put them."""

    name: str
    port: int
    query: str
    package: str
    """The client by the package."""
    variables: dict[str, str]

    def url(self, port: int = 0, **options: Any) -> str:
        """The store URL, by another port if need be."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        if self.name == "dynamodb":
            return f"dynamodb://{TABLE}?endpoint_url=http%3A%2F%2F127.0.0.1%3A{port or self.port}&{self.query}{more}"
        return f"{self.name}://127.0.0.1:{port or self.port}?{self.query}{more}"


def serve(name: str, request: pytest.FixtureRequest) -> Served:
    """The store of that name, filled anew."""
    items: Any = {FEATURES: SHOP["flags"], SEGMENTS: SHOP["segments"]}
    if name == "redis":
        server = request.getfixturevalue("redis_server")
        Redis.new_feature_store(server.url, prefix="lambda").init(items)
        return Served(name, server.port, "prefix=lambda", "redis-py", {})
    if name == "consul":
        server = request.getfixturevalue("consul_server")
        Consul.new_feature_store(host="127.0.0.1", port=server.port, prefix="lambda").init(items)
        return Served(name, server.port, "prefix=lambda", "python-consul", {})
    server = request.getfixturevalue("other_dynamodb")  # which keeps connections, as the real one does
    server.create_table(TABLE)
    options = {"endpoint_url": server.endpoint_url, "region_name": "us-east-1"}
    DynamoDB.new_feature_store(TABLE, prefix="lambda", dynamodb_opts=options).init(items)
    return Served(name, server.port, "prefix=lambda&region=us-east-1", "boto3", dict(ENVIRONMENT))


@pytest.fixture(params=["redis", "consul", "dynamodb"])
def served(request: pytest.FixtureRequest) -> Served:
    """Each store in turn."""
    return serve(request.param, request)


@pytest.fixture
def relay(served: Served) -> Iterator[Relay]:
    """The way to it, on which connections may die."""
    with Relay(served.port) as relay:
        yield relay


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, list[Any]]]:
    """What the official SDK answers to each user, and the kinds of its reasons."""
    logging.getLogger("ldclient.util").setLevel(logging.CRITICAL)
    store: Any = InMemoryFeatureStore()  # type: ignore[no-untyped-call]
    store.init({FEATURES: SHOP["flags"], SEGMENTS: SHOP["segments"]})
    client = LDClient(Config("sdk-key", use_ldd=True, feature_store=store, send_events=False))
    answers: dict[str, dict[str, list[Any]]] = {}
    for user in USERS:
        context = OfficialContext.from_dict(user)
        details = {key: client.variation_detail(key, context, DEFAULT) for key in FLAGS}
        answers[user["key"]] = {key: [detail.value, detail.reason["kind"]] for key, detail in details.items()}
    client.close()  # type: ignore[no-untyped-call]
    return answers


class TestFreezeAndThaw:
    """A frozen environment does not hear what became of its connections."""

    def handler(self, reader: FlagReader) -> Handler:
        @with_flags(reader, context=user_of)
        def handler(event: Any, lambda_context: Any, flags: Request) -> Any:
            flags.prefetch(*FLAGS)
            return {key: flags.variation(key, DEFAULT) for key in FLAGS}

        return handler

    def right(self, expected: Any, user: Any) -> Any:
        return {key: value for key, (value, _) in expected[user["key"]].items()}

    def test_a_connection_is_kept(self, served: Served, relay: Relay, expected: Any) -> None:
        with FlagReader.from_url(served.url(relay.port)) as reader:
            handler = self.handler(reader)
            for user in USERS:
                assert handler({"user": user}, Remaining(5000)) == self.right(expected, user)
        assert relay.connections == 1

    @pytest.mark.parametrize("client", ["wire", "package"])
    def test_one_that_was_closed_costs_a_reconnect(
        self, served: Served, relay: Relay, expected: Any, client: str
    ) -> None:
        own = served.package if client == "package" else client
        with FlagReader.from_url(served.url(relay.port, client=own)) as reader:
            handler = self.handler(reader)
            for number, user in enumerate(USERS[:5]):
                assert handler({"user": user}, Remaining(5000)) == self.right(expected, user)
                assert relay.connections == number + 1
                relay.cut()
                until(lambda: relay.open == 0, "the end of the connection")

    def test_one_that_died_without_a_word_costs_a_reconnect(self, served: Served, relay: Relay, expected: Any) -> None:
        with FlagReader.from_url(served.url(relay.port, timeout=0.6)) as reader:
            handler = self.handler(reader)
            for number, user in enumerate(USERS[:3]):
                begin = time.monotonic()
                assert handler({"user": user}, Remaining(5000)) == self.right(expected, user)
                assert relay.connections == number + 1
                if number:
                    assert time.monotonic() - begin >= 0.3 - wire_connection.SLACK  # half of the timeout
                relay.swallow()

    def test_it_does_so_too_where_the_invocation_has_little_time(
        self, served: Served, relay: Relay, expected: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with FlagReader.from_url(served.url(relay.port, timeout=60)) as reader:
            handler = self.handler(reader)
            handler({"user": USERS[0]}, None)
            relay.swallow()
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + wire_connection.TRUSTED_FOR)
            assert handler({"user": USERS[1]}, Remaining(2000)) == self.right(expected, USERS[1])
        assert relay.connections == 2

    @pytest.mark.parametrize("clock", ["monotonic", "time"])
    def test_after_a_long_sleep_a_new_one_is_opened_at_once(
        self, served: Served, relay: Relay, expected: Any, clock: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with FlagReader.from_url(served.url(relay.port, timeout=60)) as reader:
            handler = self.handler(reader)
            handler({"user": USERS[0]}, None)
            relay.swallow()
            slept = wire_connection.KEPT_FOR + 1
            real = getattr(time, clock)
            # Which of the clocks goes on during the freeze depends on who freezes.
            monkeypatch.setattr(time, clock, lambda: real() + slept)
            begin = real()
            assert handler({"user": USERS[1]}, None) == self.right(expected, USERS[1])
            assert real() - begin < 20  # and not half of the timeout
        assert relay.connections == 2

    def test_through_a_package_silence_costs_the_timeout_and_the_default_once(
        self, served: Served, relay: Relay, expected: Any
    ) -> None:
        with FlagReader.from_url(served.url(relay.port, timeout=0.3, client=served.package)) as reader:

            @with_flags(reader, context=user_of)
            def handler(event: Any, lambda_context: Any, flags: Request) -> Any:
                return flags.variation("items-per-page", DEFAULT)

            right = expected["user-0"]["items-per-page"][0]
            assert handler({"user": USERS[0]}, Remaining(5000)) == right
            relay.swallow()
            assert handler({"user": USERS[0]}, Remaining(5000)) == DEFAULT
            assert handler({"user": USERS[0]}, Remaining(5000)) == right

    @pytest.mark.parametrize("client", ["wire", "package"])
    def test_a_reader_that_was_closed_connects_when_it_is_asked_again(
        self, served: Served, relay: Relay, expected: Any, client: str
    ) -> None:
        own = served.package if client == "package" else client
        reader = FlagReader.from_url(served.url(relay.port, client=own))
        handler = self.handler(reader)
        for number, user in enumerate(USERS[:3]):
            assert handler({"user": user}, Remaining(5000)) == self.right(expected, user)
            assert relay.connections == number + 1
            reader.close()
            until(lambda: relay.open == 0, "the end of the connection")


def environment(served: Served, url: str, **variables: str) -> Environment:
    """An execution environment of the function in tests/lambda_function.py."""
    need_the_runtime_client()
    return Environment("tests.lambda_function.handler", {"LDREADER_STORE": url, **served.variables, **variables})


def about(user: Any, *keys: str) -> dict[str, Any]:
    """An event."""
    return {"user": user, "flags": keys or FLAGS}


@pytest.fixture
def redis_store(request: pytest.FixtureRequest) -> Served:
    """Redis alone."""
    return serve("redis", request)


class TestSnapStart:
    """Before a snapshot nothing may be left that all environments restored from it would share."""

    @pytest.mark.parametrize("client", ["wire", "package"])
    def test_connections_are_dropped_and_the_next_invocation_has_others(
        self, served: Served, relay: Relay, expected: Any, client: str
    ) -> None:
        own = served.package if client == "package" else client
        variables = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "PRIMING": "gift-cards"}
        with environment(served, served.url(relay.port, client=own), **variables) as restored:
            assert restored.api.snapshot.wait(20), restored.log()
            until(lambda: relay.connections == 1 and relay.open == 0, "a dropped connection")
            restored.api.restore.set()
            for user in USERS[:3]:
                check(restored.invoke(about(user)), user, expected)
            assert relay.connections == 2

    def test_without_snapstart_a_primed_connection_is_kept(self, redis_store: Served, expected: Any) -> None:
        with (
            Relay(redis_store.port) as relay,
            environment(redis_store, redis_store.url(relay.port), PRIMING="gift-cards") as primed,
        ):
            check(primed.invoke(about(USERS[0])), USERS[0], expected)
            assert relay.connections == 1

    def test_borrowed_credentials_are_borrowed_anew(self, request: pytest.FixtureRequest, expected: Any) -> None:
        served = serve("dynamodb", request)
        with Proxy(0) as endpoint, Proxy(served.port) as proxy:
            lender = Lender(endpoint)
            own = {name: value for name, value in served.variables.items() if name not in SECRETS}
            variables = {
                "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": lender.url,
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t0ken",
                "PRIMING": "gift-cards",
            }
            served = served._replace(variables=own)
            with environment(served, served.url(proxy.port, client="wire"), **variables) as restored:
                assert restored.api.snapshot.wait(20), restored.log()
                restored.api.restore.set()
                for user in USERS[:2]:
                    check(restored.invoke(about(user)), user, expected)
            used = [sent.headers["Authorization"].partition("Credential=")[2].partition("/")[0] for sent in proxy.sent]
            assert used[0] == "LENT1"
            assert set(used[1:]) == {"LENT2"}

    def test_the_store_of_big_segments_lets_go_too(self, redis_store: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        runtime = pytest.importorskip("snapshot_restore_py")
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
        with Relay(redis_store.port) as relay, Relay(redis_store.port) as other:
            memberships = FlagReader.from_url(redis_store.url(other.port))._requester
            reader = FlagReader.from_url(redis_store.url(relay.port), big_segments=memberships)
            with_flags(reader, context=user_of)(lambda event, lambda_context, flags: None)
            reader.variation("gift-cards", USERS[0], DEFAULT)
            reader.big_segment_store_status()
            assert relay.open == other.open == 1
            function, arguments, options = runtime.get_before_snapshot().pop()
            function(*arguments, **options)
            until(lambda: relay.open == other.open == 0, "dropped connections")

    def test_a_store_that_fails_to_close_is_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Failing(Notes):
            reconnects = True

            def close(self) -> None:
                raise OSError("s3cret")

        runtime = pytest.importorskip("snapshot_restore_py")
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
        with_flags(FlagReader(Failing()), context=user_of)(lambda event, lambda_context, flags: None)
        function, arguments, options = runtime.get_before_snapshot().pop()
        function(*arguments, **options)
        assert "a store was not closed before the snapshot: unexpected OSError" in caplog.text
        assert "s3cret" not in caplog.text

    def test_a_store_of_ones_own_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What closing does to it is not known; it may be for good."""
        runtime = pytest.importorskip("snapshot_restore_py")
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
        notes = Notes()
        with_flags(FlagReader(notes), context=user_of)(lambda event, lambda_context, flags: None)
        function, arguments, options = runtime.get_before_snapshot().pop()
        function(*arguments, **options)
        assert notes.closed == 0

    def test_a_runtime_without_the_module_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
        monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)
        handler: Any = with_flags(FlagReader(Notes()), context=user_of)(lambda event, lambda_context, flags: 7)
        assert handler({"user": USERS[0]}, None) == 7


def check(answer: Answer, user: Any, expected: Any, keys: Sequence[str] = FLAGS) -> None:
    """Fails unless the answer is the official SDK's, and in time."""
    assert answer.error is None
    assert answer.value["answers"] == {key: expected[user["key"]][key] for key in keys}
    assert answer.spare > 0


def check_default(answer: Answer, keys: Sequence[str] = FLAGS) -> None:
    """Fails unless the answer is the default, because the store did not answer, and in time."""
    assert answer.error is None
    assert answer.value["answers"] == {key: [DEFAULT, "ERROR"] for key in keys}
    assert set(answer.value["errors"]) == {"EXCEPTION"}
    assert answer.spare > 0


class TestUnderTheRuntimeClient:
    """The process that Lambda starts, and the API that gives it invocations. No answer is wrong, and none is late."""

    def test_thousands_of_invocations_while_connections_die_and_time_gets_short(
        self, served: Served, relay: Relay, expected: Any
    ) -> None:
        count = INVOCATIONS if served.name == "redis" else INVOCATIONS // 6
        deaths = 0
        with environment(served, served.url(relay.port)) as running:
            for number in range(count):
                if number % 25 == 24:
                    deaths += 1
                    relay.cut()
                user = USERS[number % len(USERS)]
                remaining = 3.0 - 2.4 * number / count
                check(running.invoke(about(user), remaining), user, expected)
        assert deaths <= relay.connections - 1 <= deaths + 1

    def test_redis_kills_the_connections(self, redis_server: RedisServer, redis_store: Served, expected: Any) -> None:
        with environment(redis_store, redis_store.url()) as running:
            for number in range(INVOCATIONS // 6):
                if number % 5 == 4:
                    redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                user = USERS[number % len(USERS)]
                check(running.invoke(about(user)), user, expected)

    def test_a_freeze_in_which_the_connection_died_silently_costs_no_default_where_time_is_short(
        self, served: Served, relay: Relay, expected: Any
    ) -> None:
        with environment(served, served.url(relay.port)) as running:
            check(running.invoke(about(USERS[0])), USERS[0], expected)
            os.kill(running.process.pid, signal.SIGSTOP)
            relay.swallow()
            time.sleep(wire_connection.TRUSTED_FOR)
            os.kill(running.process.pid, signal.SIGCONT)
            check(running.invoke(about(USERS[1]), 1.0), USERS[1], expected)
            assert relay.connections == 2

    def test_a_store_that_hangs_gives_defaults_in_time_and_answers_once_it_is_well(
        self, served: Served, relay: Relay, expected: Any
    ) -> None:
        with environment(served, served.url(relay.port)) as running:
            check(running.invoke(about(USERS[0])), USERS[0], expected)
            relay.pause()
            for remaining in (1.0, 0.6, 0.3):
                answer = running.invoke(about(USERS[1]), remaining)
                check_default(answer)
                assert answer.seconds >= max(remaining - MARGIN, remaining / 2) * 0.9
            relay.resume()
            for user in USERS:
                check(running.invoke(about(user)), user, expected)

    def test_an_invocation_whose_time_is_over_does_not_ask_the_store(self, redis_store: Served, expected: Any) -> None:
        with Relay(redis_store.port) as relay, environment(redis_store, redis_store.url(relay.port)) as running:
            answer = running.invoke(about(USERS[0]), 0.0)
            assert answer.value["answers"] == {key: [DEFAULT, "ERROR"] for key in FLAGS}
            assert relay.connections == 0
            check(running.invoke(about(USERS[0])), USERS[0], expected)

    def test_the_example_is_run_as_its_template_says(self, redis_store: Served, expected: Any) -> None:
        need_the_runtime_client()
        properties = sam.function({"FlagsTable": TABLE, "Prefix": "lambda"})
        variables = {"LDREADER_STORE": redis_store.url(), "PYTHONPATH": str(PROJECT)}
        directory = sam.TEMPLATE.parent / properties["CodeUri"]
        with Environment(properties["Handler"], variables, directory=directory) as running:
            answer = running.invoke({"user": USERS[0]}, properties["Timeout"])
        assert (answer.error, answer.value["statusCode"], answer.value["headers"]) == (None, 200, {})
        assert json.loads(answer.value["body"]) == expected["user-0"]["shipping-prices"][0]

    def test_several_environments_at_once(self, redis_store: Served, expected: Any) -> None:
        def drive(start: int) -> int:
            with Relay(redis_store.port) as relay, environment(redis_store, redis_store.url(relay.port)) as running:
                for number in range(start, start + INVOCATIONS // 6):
                    user = USERS[number % len(USERS)]
                    check(running.invoke(about(user)), user, expected)
                    if number % 50 == 0:
                        relay.cut()
            return start

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(drive, range(4))) == [0, 1, 2, 3]

    def test_one_environment_with_several_invocations_at_once(self, redis_store: Served, expected: Any) -> None:
        """As Lambda Managed Instances have it: the runtime client forks a worker for each."""
        with environment(redis_store, redis_store.url(), AWS_LAMBDA_MAX_CONCURRENCY="4") as running:
            users = [USERS[number % len(USERS)] for number in range(INVOCATIONS // 6)]
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda user: running.invoke(about(user)), users))
        for user, answer in zip(users, answers, strict=True):
            check(answer, user, expected)

    def test_the_failure_of_a_handler_is_its_own_and_the_next_invocation_is_well(
        self, redis_store: Served, expected: Any
    ) -> None:
        with environment(redis_store, redis_store.url()) as running:
            answer = running.invoke(about(USERS[0]) | {"raise": "own"})
            assert (answer.error["errorType"], answer.error["errorMessage"]) == ("ValueError", "own")
            check(running.invoke(about(USERS[0])), USERS[0], expected)

    def test_an_event_without_a_user_gives_defaults_and_one_line(self, redis_store: Served) -> None:
        with environment(redis_store, redis_store.url()) as running:
            answer = running.invoke({"flags": FLAGS})
            assert set(answer.value["errors"]) == {"USER_NOT_SPECIFIED"}
            assert running.log().count("[WARNING]") == len(running.log().splitlines()) == 1
            assert "failed: unexpected KeyError" in running.log()


class TestTheLayer:
    def test_its_bytecode_is_used_whatever_becomes_of_the_dates_of_files(self, tmp_path: Path) -> None:
        """The command of docs/lambda.md; that the sources are not even looked at is seen when they are spoilt."""
        lines = (PROJECT / "docs" / "lambda.md").read_text(encoding="utf-8").splitlines()
        (command,) = (line.split() for line in lines if line.startswith("python -m compileall"))
        made = next(line for line in (PROJECT / "Makefile").read_text("utf-8").splitlines() if "compileall" in line)
        assert " ".join(command[3:6]) == "-q --invalidation-mode unchecked-hash"
        assert " ".join(command[3:6]) in made
        layer = tmp_path / "build" / "layer" / "python"
        shutil.copytree(PROJECT / "ldreader", layer / "ldreader", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
        for source in layer.rglob("*.py"):
            source.write_text("1 / 0", encoding="utf-8")
        program = (
            "from ldreader import FlagReader\n"
            "from ldreader.integrations.aws_lambda import with_flags\n"
            f"reader = FlagReader.from_url({f'file:{PROJECT}/examples/shop.json'!r})\n"
            "decorate = with_flags(reader, context=lambda event: event)\n"
            f"print(decorate(lambda event, _, flags: flags.variation('gift-cards', 7))({USERS[0]!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(layer), "PATH": os.defpath},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == ("False\n", "")
