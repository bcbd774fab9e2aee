"""The Flask extension: one request for the flags of each HTTP request, whatever contexts lie around or within it."""

from __future__ import annotations

import gc
import inspect
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    render_template_string,
    request,
    send_file,
    stream_template_string,
    stream_with_context,
)
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from ldreader import ConfigurationError, Context, FlagReader, Request, StoreError, TestData, override_flags
from ldreader.integrations.flask import Flags
from tests.flags import FALL, CountingRequester, ItemRef, Text, clause, flag, needs, reader_of, rule, store

PROJECT = Path(__file__).parent.parent
SHOP = f"file:{PROJECT / 'examples' / 'shop.json'}"

FOR_ADA = flag("for-ada", rules=[rule(clause("key", "in", "ada"))])
ON = flag("on", variations=[False, True])
DOWN = flag("down", on=False, variations=[False, True])


def by_the_query() -> dict[str, Any]:
    """The context of the HTTP request's query."""
    return {"kind": "user", "key": request.args["user"]}


def extension(reader: FlagReader | None = None, load: Callable[[], Any] = by_the_query) -> Flags:
    flags = Flags(reader=reader)
    flags.context_loader(load)
    return flags


def application(flags: Flags, reader: FlagReader | None = None, **config: Any) -> Flask:
    """An application with these flags, and a view that tells what ``for-ada`` is for the user."""
    app = Flask(__name__)
    app.config.update(config, TESTING=True)
    flags.init_app(app, reader=reader)

    @app.get("/")
    def home() -> ResponseReturnValue:
        return [flags.variation("for-ada", "default")]

    return app


class Sink:
    """An event sink that keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def __call__(self, events: Sequence[Any]) -> None:
        self.batches.append(list(events))

    @property
    def keys(self) -> list[list[str]]:
        """The flags of each batch."""
        return [[event["key"] for event in batch] for batch in self.batches]


class Broken:
    """A store that does not answer."""

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, Text]:
        raise StoreError("it is down")

    def get_all(self) -> dict[str, dict[str, Text]]:
        raise StoreError("it is down")

    def close(self) -> None:
        pass


class Timed(CountingRequester):
    """Keeps note of the deadlines that it is given."""

    keeps_deadlines = True

    def __init__(self, collections: Any) -> None:
        super().__init__(collections)
        self.deadlines: list[float | None] = []

    def get_many(self, refs: Sequence[ItemRef], deadline: float | None = None) -> dict[ItemRef, Text]:
        self.deadlines.append(deadline)
        return super().get_many(refs)


@pytest.fixture(autouse=True)
def _no_store_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDREADER_STORE", raising=False)


class TestSettingUp:
    def test_the_configuration_names_the_store(self) -> None:
        client = application(extension(), LDREADER_STORE=SHOP).test_client()
        assert client.get("/?user=ada").json == ["default"]  # the shop has no such flag

    def test_the_environment_does_where_the_configuration_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LDREADER_STORE", SHOP)
        app = application(extension())
        assert app.extensions["ldreader"].reader.variation("gift-cards", {"kind": "user", "key": "a"}, 1) is False

    def test_the_configuration_wins_over_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LDREADER_STORE", "file:/nowhere.json")
        app = application(extension(), LDREADER_STORE=SHOP)
        assert app.extensions["ldreader"].reader.variation("gift-cards", {"kind": "user", "key": "a"}, 1) is False

    def test_options_of_the_reader_are_configuration_too(self) -> None:
        app = application(extension(), LDREADER_STORE=SHOP, LDREADER_OPTIONS={"defaults": {"for-ada": "mine"}})
        assert app.test_client().get("/?user=ada").json == ["mine"]

    def test_a_reader_may_be_handed_over_instead(self) -> None:
        flags = extension(reader_of(FOR_ADA))
        assert application(flags).test_client().get("/?user=ada").json == ["match"]
        own = reader_of(flag("for-ada", on=False))
        assert application(flags, own).test_client().get("/?user=ada").json == ["off"]

    def test_an_application_may_be_given_at_once(self) -> None:
        app = Flask(__name__)
        Flags(app, reader=reader_of())
        assert "ldreader" in app.extensions

    def test_nothing_is_contacted_before_a_flag_is_asked_for(self) -> None:
        requester = CountingRequester(store(FOR_ADA))
        app = application(extension(), FlagReader(requester), LDREADER_PREFETCH=["for-ada"])

        @app.get("/plain")
        def plain() -> str:
            return "no flag"

        app.test_client().get("/plain?user=ada")
        assert requester.rounds == []

    def test_the_extension_holds_no_application(self) -> None:
        flags = extension(reader_of(FOR_ADA))
        app = application(flags)
        assert app.test_client().get("/?user=ada").json == ["match"]
        gone = weakref.ref(app)
        del app
        gc.collect()
        assert gone() is None

    def test_two_applications_with_different_stores_are_served_at_once(self) -> None:
        flags = extension()
        one, other = (application(flags, reader_of(item)) for item in (FOR_ADA, flag("for-ada", on=False)))

        @one.get("/both")
        def both() -> ResponseReturnValue:
            own = flags.variation("for-ada", "")
            with other.app_context():
                within = flags.variation("for-ada", "")
            called: Any = other.test_client().get("/?user=ada").json
            return [own, within, *called, flags.variation("for-ada", "")]

        assert one.test_client().get("/both?user=ada").json == ["match", "off", "off", "match"]
        assert other.test_client().get("/?user=ada").json == ["off"]

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({}, r"set LDREADER_STORE in app\.config or in the environment .* or hand a reader over"),
            ({"LDREADER_STORE": "reddis://h"}, "did you mean 'redis'"),
            ({"LDREADER_STORE": SHOP, "LDREADER_OPTIONS": ["prefix"]}, "LDREADER_OPTIONS must be a mapping"),
            ({"LDREADER_STORE": SHOP, "LDREADER_OPTIONS": {"prefx": ""}}, "unknown option"),
            ({"LDREADER_STORE": SHOP, "LDREADER_REQUEST_TIMEOUT": "soon"}, "LDREADER_REQUEST_TIMEOUT: .* not 'soon'"),
            ({"LDREADER_STORE": SHOP, "LDREADER_REQUEST_TIMEOUT": 0}, "LDREADER_REQUEST_TIMEOUT: .* above 0"),
            ({"LDREADER_STORE": SHOP, "LDREADER_PREFETCH": "banner-text"}, "LDREADER_PREFETCH must be a list"),
            ({"LDREADER_STORE": SHOP, "LDREADER_PREFETCH": [1]}, "LDREADER_PREFETCH must be a list"),
        ],
    )
    def test_a_wrong_configuration_is_an_error_at_once(self, config: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            application(extension(), **config)

    def test_setting_an_application_up_twice_is_an_error(self) -> None:
        flags = extension(reader_of())
        app = application(flags)
        with pytest.raises(ConfigurationError, match="call init_app once"):
            flags.init_app(app)

    def test_asking_for_a_flag_without_a_set_up_is_an_error(self) -> None:
        flags = extension(reader_of())
        with Flask(__name__).app_context(), pytest.raises(ConfigurationError, match=r"call flags\.init_app\(app\)"):
            flags.variation("on", False)
        with pytest.raises(ConfigurationError, match="stream_with_context"):
            flags.variation("on", False)
        with pytest.raises(ConfigurationError, match="app_context"):
            _ = flags.reader

    def test_every_method_of_a_request_is_there_with_its_signature(self) -> None:
        own = {name: function for name, function in vars(Request).items() if inspect.isfunction(function)}
        public = {name for name in own if not name.startswith("_")} - {"close"}
        for name in public:
            assert inspect.signature(getattr(Flags, name)) == inspect.signature(own[name])
        assert "migration_variation" in public


class TestTheContext:
    def test_it_is_loaded_once_for_each_http_request_that_asks_for_a_flag(self) -> None:
        calls = []

        def load() -> Context:
            calls.append(request.path)
            return Context.create("ada")

        flags = extension(reader_of(FOR_ADA, ON), load)
        app = application(flags)

        @app.get("/twice")
        def twice() -> ResponseReturnValue:
            return [flags.variation("for-ada", ""), flags.bool_variation("on", False)]

        @app.get("/never")
        def never() -> str:
            return ""

        client = app.test_client()
        assert client.get("/twice").json == ["match", True]
        assert client.get("/never").text == ""
        assert client.get("/").json == ["match"]
        assert calls == ["/twice", "/"]

    def test_without_a_loader_asking_for_a_flag_is_an_error(self) -> None:
        client = application(Flags(reader=reader_of(FOR_ADA))).test_client()
        with pytest.raises(ConfigurationError, match=r"register a function .* with @flags\.context_loader"):
            client.get("/")

    def test_none_is_an_anonymous_user(self) -> None:
        anonymous = flag("for-ada", rules=[rule(clause("anonymous", "in", True), clause("key", "in", "anonymous"))])
        assert application(extension(reader_of(anonymous), lambda: None)).test_client().get("/").json == ["match"]

    def test_a_loader_that_raises_gives_defaults_and_one_log_line_without_its_message(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls = []

        def load() -> None:
            calls.append(1)
            raise LookupError("ada@example.com")

        flags = extension(reader_of(FOR_ADA, ON), load)
        app = application(flags)

        @app.get("/many")
        def many() -> ResponseReturnValue:
            flags.prefetch("for-ada", "on")
            detail = flags.variation_detail("for-ada", "default")
            state = flags.all_flags_state()
            return [detail.value, detail.reason, flags.bool_variation("on", False), state.valid]

        reason = {"kind": "ERROR", "errorKind": "USER_NOT_SPECIFIED"}
        assert app.test_client().get("/many").json == ["default", reason, False, False]
        assert calls == [1]
        (line,) = caplog.messages
        assert "load failed: unexpected LookupError at " in line
        assert __file__ in line
        assert "example.com" not in line

    @pytest.mark.parametrize("given", ["ada", 7, {"key": "ada", "kind": 3}, {}])
    def test_what_is_no_context_gives_defaults(self, given: Any, caplog: pytest.LogCaptureFixture) -> None:
        client = application(extension(reader_of(FOR_ADA), lambda: given)).test_client()
        assert client.get("/").json == ["default"]
        assert len(caplog.messages) == 1

    def test_a_loader_that_asks_for_a_flag_is_told_so(self, caplog: pytest.LogCaptureFixture) -> None:
        flags = extension(reader_of(FOR_ADA), lambda: {"key": flags.variation("for-ada", "")})
        assert application(flags).test_client().get("/").json == ["default"]
        (line,) = caplog.messages
        assert "the context loader asks for a flag" in line

    def test_a_loader_cannot_be_async(self) -> None:
        async def load() -> None: ...

        with pytest.raises(ConfigurationError, match="not async"):
            Flags().context_loader(load)  # type: ignore[type-var]
        with pytest.raises(ConfigurationError, match="must be a function"):
            Flags().context_loader("ada")  # type: ignore[type-var]


class TestOneRequest:
    def test_its_evaluations_agree_and_the_next_sees_what_has_changed(self) -> None:
        data = TestData()
        data.update(data.flag("for-ada").value_for_all("old"))
        flags = extension(FlagReader(data))
        app = application(flags)

        @app.get("/change")
        def change() -> ResponseReturnValue:
            first = flags.variation("for-ada", "")
            data.update(data.flag("for-ada").value_for_all("new"))
            return [first, flags.variation("for-ada", "")]

        client = app.test_client()
        assert client.get("/change?user=u").json == ["old", "old"]
        assert client.get("/?user=u").json == ["new"]

    def test_the_sink_has_the_events_at_its_end(self) -> None:
        sink = Sink()
        flags = extension(reader_of(FOR_ADA, ON, events=sink))
        app = application(flags)

        @app.get("/two")
        def two() -> str:
            flags.variation("for-ada", "")
            flags.variation("on", "")
            flags.track("seen")
            assert sink.batches == []
            return ""

        client = app.test_client()
        client.get("/two?user=ada")
        assert sink.keys == [["for-ada", "on", "seen"]]
        client.get("/?user=eve")
        assert sink.keys[1:] == [["for-ada"]]
        assert [batch[0]["context"]["key"] for batch in sink.batches] == ["ada", "eve"]

    def test_it_ends_when_the_view_raises(self) -> None:
        sink = Sink()
        flags = extension(reader_of(FOR_ADA, events=sink))
        app = application(flags)

        @app.get("/fail")
        def fail() -> str:
            flags.variation("for-ada", "")
            raise RuntimeError("a bad day")

        client = app.test_client()
        with pytest.raises(RuntimeError, match="a bad day"):
            client.get("/fail?user=ada")
        app.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)
        assert client.get("/fail?user=ada").status_code == 500
        assert sink.keys == [["for-ada"], ["for-ada"]]

    def test_an_app_context_around_several_keeps_them_apart(self) -> None:
        sink = Sink()
        app = application(extension(reader_of(FOR_ADA, events=sink)))
        client = app.test_client()
        with app.app_context():
            assert client.get("/?user=ada").json == ["match"]
            assert len(sink.batches) == 1
            assert client.get("/?user=eve").json == ["fall"]
            assert len(sink.batches) == 2

    def test_an_app_context_within_has_its_own_and_leaves_the_other(self) -> None:
        sink = Sink()
        flags = extension(reader_of(FOR_ADA, events=sink))
        app = application(flags)

        @app.get("/nested")
        def nested() -> ResponseReturnValue:
            outer = flags.request
            flags.variation("for-ada", "")
            with app.app_context():
                inner = flags.variation("for-ada", "")
                assert flags.request is not outer
            assert flags.request is outer
            assert sink.keys == [["for-ada"]]
            return [inner]

        assert app.test_client().get("/nested?user=ada").json == ["match"]
        assert sink.keys == [["for-ada"]] * 2

    def test_an_http_request_within_another_has_its_own(self) -> None:
        flags = extension(reader_of(FOR_ADA))
        app = application(flags)

        @app.get("/nested")
        def nested() -> ResponseReturnValue:
            first = flags.variation("for-ada", "")
            inner: Any = app.test_client().get("/?user=eve").json
            return [first, *inner, flags.variation("for-ada", "")]

        assert app.test_client().get("/nested?user=ada").json == ["match", "fall", "match"]

    def test_a_request_context_of_a_test_is_one(self) -> None:
        sink = Sink()
        flags = extension(reader_of(FOR_ADA, events=sink))
        app = application(flags)
        with app.test_request_context("/?user=ada"):
            assert flags.variation("for-ada", "") == "match"
            assert flags.request.context.key == "ada"
            assert sink.batches == []
        assert sink.keys == [["for-ada"]]

    def test_outside_of_http_requests_the_reader_takes_any_context(self, caplog: pytest.LogCaptureFixture) -> None:
        flags = extension(reader_of(FOR_ADA))
        app = application(flags)

        @app.cli.command("job")
        def job() -> None:
            print(flags.reader.variation("for-ada", {"kind": "user", "key": "ada"}, ""))
            print(flags.variation("for-ada", "the loader finds no HTTP request"))

        assert app.test_cli_runner().invoke(args=["job"]).output == "match\nthe loader finds no HTTP request\n"
        assert "by_the_query failed: unexpected RuntimeError" in caplog.messages[0]

    def test_threads_have_their_own(self) -> None:
        app = application(extension(reader_of(FOR_ADA)))
        seen: list[object] = []

        def ask(user: str, expected: str) -> None:
            client = app.test_client()
            seen.extend(client.get(f"/?user={user}").json == [expected] for _ in range(50))

        threads = [threading.Thread(target=ask, args=who) for who in [("ada", "match"), ("eve", "fall")] * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [True] * 200

    def test_its_time_is_bounded_by_the_configuration(self) -> None:
        requester = Timed(store(FOR_ADA))
        client = application(extension(), FlagReader(requester), LDREADER_REQUEST_TIMEOUT=0.25).test_client()
        begin = time.monotonic()
        client.get("/?user=ada")
        (deadline,) = requester.deadlines
        assert deadline is not None
        assert begin <= deadline - 0.25 <= time.monotonic()

    def test_without_the_configuration_it_is_not(self) -> None:
        requester = Timed(store(FOR_ADA))
        application(extension(), FlagReader(requester)).test_client().get("/?user=ada")
        assert requester.deadlines == [None]

    def test_the_flags_of_the_configuration_are_fetched_together(self) -> None:
        requester = CountingRequester(store(FOR_ADA, ON, flag("top", prerequisites=[needs("on")])))
        flags = extension(FlagReader(requester))
        app = application(flags, LDREADER_PREFETCH=("for-ada", "on"))

        @app.get("/three")
        def three() -> ResponseReturnValue:
            values = [flags.variation("on", None), flags.variation("for-ada", None)]
            return [*values, flags.request.stats.round_trips]

        assert app.test_client().get("/three?user=ada").json == [True, "match", 1]
        assert requester.rounds == [[("features", "for-ada"), ("features", "on")]]

    def test_a_page_that_begins_with_the_bootstrap_reads_the_store_once(self) -> None:
        requester = CountingRequester(store(FOR_ADA, ON))
        flags = extension(FlagReader(requester))
        app = application(flags, LDREADER_PREFETCH=["for-ada", "on"])
        with app.test_request_context("/?user=ada"):
            page = "{% set bootstrap = flags_bootstrap() %}{{ flag('on') }} {{ flag('for-ada') }}"
            assert render_template_string(page) == "True match"
        assert (requester.reads_of_everything, requester.rounds) == (1, [])

    def test_a_tests_overridden_flag_is_seen(self) -> None:
        app = application(extension(reader_of(FOR_ADA)))
        with override_flags(app.extensions["ldreader"].reader, {"for-ada": "overridden"}):
            assert app.test_client().get("/?user=ada").json == ["overridden"]
        assert app.test_client().get("/?user=ada").json == ["match"]

    def test_a_store_that_is_down_gives_defaults_and_one_log_line(self, caplog: pytest.LogCaptureFixture) -> None:
        flags = extension(FlagReader(Broken()))
        app = application(flags, LDREADER_PREFETCH=["on"])

        @app.get("/three")
        def three() -> ResponseReturnValue:
            return [flags.variation("for-ada", 1), flags.variation("on", 2), flags.bootstrap()]

        nothing = '{"$flagsState": {}, "$valid": false}'
        assert app.test_client().get("/three?user=ada").json == [1, 2, nothing]
        assert len(caplog.messages) == 1


class TestStreaming:
    @pytest.fixture
    def sink(self) -> Sink:
        return Sink()

    @pytest.fixture
    def app(self, sink: Sink) -> Flask:
        flags = extension(reader_of(FOR_ADA, ON, events=sink))
        app = application(flags)

        @app.get("/stream")
        def stream() -> Response:
            first = flags.request
            flags.variation("on", "")

            def lines() -> Iterator[str]:
                yield f"{flags.request is first}\n"
                yield f"{flags.variation('for-ada', '')}\n"

            return Response(stream_with_context(lines()))

        @app.get("/wrapped")
        def wrapped() -> Response:
            first = flags.request
            flags.variation("on", "")

            def lines() -> Iterator[str]:
                yield f"{flags.request is first}\n"
                yield f"{flags.variation('for-ada', '')}\n"

            return Response(map(str.upper, stream_with_context(lines())))

        @app.get("/passed")
        def passed() -> Response:
            request = flags.request
            request.variation("on", "")
            return Response((request.variation("for-ada", "").encode() for _ in range(2)), direct_passthrough=True)

        @app.get("/late")
        def late() -> Response:
            return Response(stream_with_context(f"{flags.variation('for-ada', '')}\n" for _ in range(2)))

        @app.get("/plain")
        def plain() -> Response:
            return Response(f"{flags.variation('for-ada', '')}\n" for _ in range(2))

        @app.get("/kept")
        def kept() -> Response:
            request = flags.request
            request.variation("on", "")
            return Response(f"{request.variation('for-ada', '')}\n" for _ in range(2))

        return app

    def test_a_stream_with_context_is_part_of_the_request(self, app: Flask, sink: Sink) -> None:
        with app.test_client().get("/stream?user=ada") as response:
            assert response.get_data(as_text=True) == "True\nmatch\n"
        assert sink.keys == [["on", "for-ada"]]

    def test_so_it_is_in_an_iterator_of_another_kind(self, app: Flask, sink: Sink) -> None:
        with app.test_client().get("/wrapped?user=ada") as response:
            assert response.get_data(as_text=True) == "TRUE\nMATCH\n"
        assert sink.keys == [["on", "for-ada"]]

    def test_a_stream_that_is_passed_through_ends_it_too(self, app: Flask, sink: Sink) -> None:
        with app.test_client().get("/passed?user=ada") as response:
            assert response.data == b"matchmatch"
        assert sink.keys == [["on", "for-ada", "for-ada"]]

    @pytest.mark.parametrize("answer", [lambda: abort(404), lambda: send_file(__file__)], ids=["an error", "a file"])
    def test_what_is_no_stream_ends_before_it_is_sent(
        self, app: Flask, sink: Sink, answer: Callable[[], Response]
    ) -> None:
        @app.get("/answer")
        def view() -> Response:
            app.view_functions["home"]()
            return answer()

        with app.test_client().get("/answer?user=ada"):
            assert sink.keys == [["for-ada"]]

    def test_flags_may_be_asked_for_there_first(self, app: Flask, sink: Sink) -> None:
        with app.test_client().get("/late?user=ada") as response:
            assert response.get_data(as_text=True) == "match\nmatch\n"
        assert sink.keys == [["for-ada", "for-ada"]]

    def test_a_template_may_be_the_stream(self) -> None:
        flags = extension(reader_of(FOR_ADA))
        app = application(flags)
        app.add_url_rule("/page", "page", lambda: stream_template_string("{{ flag('for-ada') }}\n" * 2))
        with app.test_client().get("/page?user=ada") as response:
            assert response.get_data(as_text=True) == "match\nmatch"

    def test_a_client_that_leaves_ends_it(self, app: Flask, sink: Sink) -> None:
        with app.test_client().get("/stream?user=ada") as response:
            assert next(response.iter_encoded()) == b"True\n"
            assert sink.batches == []
        assert sink.keys == [["on"]]

    def test_a_generator_without_the_context_is_told_what_to_do(self, app: Flask) -> None:
        with (
            pytest.raises(ConfigurationError, match=r"to flask\.stream_with_context"),
            app.test_client().get("/plain?user=ada") as response,
        ):
            _ = response.data

    def test_or_it_keeps_the_request(self, app: Flask, sink: Sink) -> None:
        with app.test_client().get("/kept?user=ada") as response:
            assert response.get_data(as_text=True) == "match\nmatch\n"
        assert sink.keys == [["on", "for-ada", "for-ada"]]

    def test_an_error_after_it_began_leaves_nothing_open(self, app: Flask, sink: Sink) -> None:
        app.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)

        def fail_once(response: Response) -> Response:
            if response.status_code == 200:
                raise RuntimeError("after the stream was made")
            return response

        app.after_request_funcs[None].insert(0, fail_once)  # runs last
        assert app.test_client().get("/kept?user=ada").status_code == 500
        assert sink.keys == [["on"]]


class TestAsyncViews:
    def test_they_ask_for_flags_and_may_be_behind_some(self) -> None:
        flags = extension(reader_of(FOR_ADA, ON, DOWN))
        app = application(flags)

        @app.get("/async")
        async def view() -> ResponseReturnValue:
            return [flags.variation("for-ada", "")]

        @app.get("/on")
        @flags.required("on")
        async def behind_one_that_is_on() -> ResponseReturnValue:
            return [flags.variation("for-ada", "")]

        @app.get("/down")
        @flags.required("down")
        async def behind_one_that_is_not() -> str:
            return "never"

        client = app.test_client()
        assert client.get("/async?user=ada").json == ["match"]
        assert client.get("/on?user=ada").json == ["match"]
        assert client.get("/down?user=ada").status_code == 404


class TestTemplates:
    @staticmethod
    def rendered(template: str, *items: Any, reader: FlagReader | None = None) -> str:
        flags = extension(reader or reader_of(*items))
        app = application(flags)
        with app.test_request_context("/?user=ada"):
            return render_template_string(template)

    def test_flag_gives_the_value_and_nothing_or_the_default_where_there_is_none(self) -> None:
        template = "{{ flag('for-ada') }} {{ flag('nowhere') }} {{ flag('nowhere', 3) }} {{ 1 if flag('x') else 0 }}"
        assert self.rendered(template, FOR_ADA) == "match None 3 0"

    def test_a_text_is_escaped_as_any(self) -> None:
        assert self.rendered("{{ flag('a') }}", flag("a", variations=[0, "<b>"])) == "&lt;b&gt;"

    def test_macros_have_them_too(self, tmp_path: Path) -> None:
        (tmp_path / "macros.html").write_text("{% macro ask(key) %}{{ flag(key) }}{% endmacro %}")
        app = Flask(__name__, template_folder=str(tmp_path))
        flags = extension(reader_of(FOR_ADA))
        flags.init_app(app)
        with app.test_request_context("/?user=ada"):
            assert render_template_string("{% import 'macros.html' as m %}{{ m.ask('for-ada') }}") == "match"

    def test_the_bootstrap_is_what_browsers_may_see_and_no_more(self) -> None:
        seen = flag("seen", clientSideAvailability={"usingEnvironmentId": True}, trackEvents=True)
        state = {"seen": "fall", "$flagsState": {"seen": {"variation": FALL, "version": 1, "trackEvents": True}}}
        assert json.loads(self.rendered("{{ flags_bootstrap() }}", seen, FOR_ADA)) == state | {"$valid": True}
        with_reasons = json.loads(self.rendered("{{ flags_bootstrap(with_reasons=True) }}", seen))
        assert with_reasons["$flagsState"]["seen"]["reason"] == {"kind": "FALLTHROUGH"}

    def test_no_key_or_value_of_it_leaves_its_place(self) -> None:
        hostile = "</script><script>\u2028\u2029<!--'&\"😀]]>"
        item = flag(hostile, variations=[0, {hostile: [hostile]}], clientSide=True)
        text = self.rendered("{{ flags_bootstrap() }}", item)
        assert text.isascii()
        assert not set("<>&'") & set(text)
        assert json.loads(text)[hostile] == {hostile: [hostile]}


class TestRequired:
    @pytest.fixture
    def requester(self) -> CountingRequester:
        return CountingRequester(store(ON, DOWN, flag("also", variations=[False, True]), flag("text")))

    @pytest.fixture
    def app(self, requester: CountingRequester) -> Flask:
        flags = extension(FlagReader(requester))
        app = application(flags)
        shop = Blueprint("shop", __name__, url_prefix="/shop")

        def view(**values: Any) -> ResponseReturnValue:
            return {"view": values}

        for path, guard in {
            "/on/<int:number>": flags.required("on"),
            "/both": flags.required("on", "also"),
            "/one-of-two": flags.required("on", "down"),
            "/down": flags.required("down"),
            "/text": flags.required("text"),
            "/missing": flags.required("nowhere"),
            "/to-endpoint": flags.required("down", redirect="home"),
            "/to-url": flags.required("down", redirect="https://shop.example/soon"),
        }.items():
            app.add_url_rule(path, path, guard(view))

        shop.add_url_rule("/", "index", view)
        shop.add_url_rule("/new", "new", flags.required("down", redirect=".index")(view))
        app.register_blueprint(shop)

        class Class(MethodView):
            decorators = [flags.required("down")]

            def get(self) -> str:
                return "never"

        class Method(MethodView):
            @flags.required("on")
            def get(self) -> str:
                return type(self).__name__

        app.add_url_rule("/class", view_func=Class.as_view("class"))
        app.add_url_rule("/method", view_func=Method.as_view("method"))
        return app

    @pytest.mark.parametrize(
        ("path", "status", "location"),
        [
            ("/on/7", 200, None),
            ("/both", 200, None),
            ("/one-of-two", 404, None),
            ("/down", 404, None),
            ("/text", 404, None),
            ("/missing", 404, None),
            ("/class", 404, None),
            ("/method", 200, None),
            ("/to-endpoint", 302, "/"),
            ("/to-url", 302, "https://shop.example/soon"),
            ("/shop/new", 302, "/shop/"),
        ],
    )
    def test_the_view_is_there_only_where_all_are_true(
        self, app: Flask, path: str, status: int, location: str | None
    ) -> None:
        response = app.test_client().get(f"{path}?user=ada")
        assert (response.status_code, response.headers.get("Location")) == (status, location)

    def test_the_view_gets_its_arguments_and_keeps_its_name(self, app: Flask) -> None:
        assert app.test_client().get("/on/7?user=ada").json == {"view": {"number": 7}}
        assert app.view_functions["/both"].__name__ == "view"

    def test_several_flags_are_one_round_trip(self, app: Flask, requester: CountingRequester) -> None:
        app.test_client().get("/both?user=ada")
        assert len(requester.rounds) == 1

    def test_nothing_is_there_when_the_store_is_down(self) -> None:
        flags = extension(FlagReader(Broken()))
        app = application(flags)
        app.add_url_rule("/on", "on", flags.required("on")(lambda **_: "never"))
        assert app.test_client().get("/on?user=ada").status_code == 404

    def test_it_must_name_flags(self) -> None:
        with pytest.raises(ConfigurationError, match=r'@flags\.required\("new-checkout"\)'):
            Flags().required()
        with pytest.raises(ConfigurationError, match="name the flags"):
            Flags().required(lambda: "a view")  # type: ignore[arg-type]


class TestCommands:
    def invoke(self, app: Flask, *words: str) -> tuple[int, str, str]:
        result = app.test_cli_runner().invoke(args=["flags", *words])
        return result.exit_code, result.stdout, result.stderr

    def test_they_read_the_applications_store(self) -> None:
        app = application(extension(), LDREADER_STORE=SHOP)
        assert self.invoke(app, "variation", "items-per-page", "--context", "ada") == (0, "24\n", "")
        code, printed, _ = self.invoke(app, "all", "--context={}".format('{"kind": "user", "key": "ada"}'))
        assert (code, json.loads(printed)["$valid"]) == (0, True)

    def test_or_the_reader_that_it_was_given_with_its_options(self) -> None:
        requester = CountingRequester(store(FOR_ADA, ON))
        sink = Sink()
        app = application(extension(), FlagReader(requester, events=sink, defaults={"nowhere": 5}))
        assert self.invoke(app, "variation", "for-ada", "--context-key", "ada") == (0, '"match"\n', "")
        assert self.invoke(app, "variation", "nowhere", "--context", "ada", "--default", "1")[:2] == (3, "5\n")
        assert requester.rounds
        assert sink.batches == []

    def test_they_leave_its_reader_open(self) -> None:
        class Closed(CountingRequester):
            def close(self) -> None:
                raise AssertionError("closed")

        app = application(extension(), FlagReader(Closed(store(ON))))
        assert self.invoke(app, "variation", "on", "--context", "ada") == (0, "true\n", "")

    def test_many_contexts_take_one_round_trip_each(self) -> None:
        class Guessing(CountingRequester):
            guess_limit = 65536

        requester = Guessing(store(flag("top", prerequisites=[needs("on")]), ON))
        app = application(extension(), FlagReader(requester))
        words = ["flags", "variation", "top", "--context", "-"]
        assert app.test_cli_runner().invoke(args=words, input="ada\n" * 5).exit_code == 0
        assert len(requester.rounds) == 2 + 4  # the first does not know yet where the flag leads to

    def test_a_store_that_is_named_wins(self) -> None:
        app = application(extension(reader_of()))
        words = ["variation", "--store", SHOP, "items-per-page", "--context", "ada"]
        assert self.invoke(app, *words) == (0, "24\n", "")

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["variation", "nowhere", "--context", "ada"], 3),
            (["variation", "on"], 2),
            (["variation"], 2),
            (["variation", "on", "--context", '{"kind": 3}'], 5),
            (["nonsense"], 2),
        ],
    )
    def test_exit_codes_pass_through(self, words: list[str], code: int) -> None:
        assert self.invoke(application(extension(reader_of(ON))), *words)[0] == code

    def test_an_unreachable_store_has_its_exit_code(self) -> None:
        app = application(extension(FlagReader(Broken())))
        code, printed, said = self.invoke(app, "variation", "on", "--context", "ada", "--default", "-1")
        assert (code, printed) == (4, "-1\n")
        assert "it is down" in said

    def test_help_tells_of_them(self) -> None:
        app = application(extension(reader_of()))
        assert "Print the state of all flags" in self.invoke(app, "--help")[1]
        assert "--client-side-only" in self.invoke(app, "all", "--help")[1]

    def test_the_program_flask_has_them(self) -> None:
        command = [sys.executable, "-m", "flask", "--app", "examples/flask_app.py", "flags"]
        done = subprocess.run(
            [*command, "variation", "gift-cards", "--context", "ada"],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "false\n", "")
