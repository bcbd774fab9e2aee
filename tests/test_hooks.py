"""Hooks: when they are called, with what, in which order, and that a bad one harms nobody."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ldclient.hook
import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.migrations import Stage as OfficialStage
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from ldreader import (
    Context,
    EvaluationDetail,
    FlagNotFound,
    FlagReader,
    Hook,
    MemoryRequester,
    Stage,
    StoreError,
    WrongType,
)
from ldreader.hooks import EvaluationSeriesContext, Metadata, TrackSeriesContext
from ldreader.request import Request
from tests.flags import FALL, USER, Item, flag, needs, reader_of, result


class Recording(Hook):
    """Writes down what it is called with; all hooks of a test write into one list."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]], returns: Any = None) -> None:
        self._name = name
        self._calls = calls
        self._returns = returns

    @property
    def metadata(self) -> Metadata:
        return Metadata(self._name)

    def before_evaluation(self, series_context: EvaluationSeriesContext, data: dict[str, Any]) -> dict[str, Any]:
        self._calls.append((self._name, "before", series_context, dict(data)))
        return {**data, "from": self._name} if self._returns is None else self._returns

    def after_evaluation(
        self, series_context: EvaluationSeriesContext, data: dict[str, Any], detail: EvaluationDetail
    ) -> dict[str, Any]:
        self._calls.append((self._name, "after", series_context, data, detail))
        return {"not": "used"}

    def after_track(self, series_context: TrackSeriesContext) -> None:
        self._calls.append((self._name, "track", series_context))


class Failing(Hook):
    """Raises at every stage; its message must not end up in the log."""

    def before_evaluation(self, series_context: EvaluationSeriesContext, data: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("secret")

    def after_evaluation(self, *_: Any) -> dict[str, Any]:
        raise RuntimeError("secret")

    def after_track(self, series_context: TrackSeriesContext) -> None:
        raise RuntimeError("secret")


def stages(calls: list[tuple[Any, ...]]) -> list[tuple[str, str]]:
    return [(call[0], call[1]) for call in calls]


@pytest.fixture
def calls() -> list[tuple[Any, ...]]:
    return []


class TestOrder:
    def test_before_in_order_and_after_in_reverse(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls), Recording("b", calls)])
        assert reader.variation("flag", USER, None) == "fall"
        assert stages(calls) == [("a", "before"), ("b", "before"), ("b", "after"), ("a", "after")]

    def test_a_hook_added_later_comes_last(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls)])
        reader.variation("flag", USER, None)
        reader.add_hook(Recording("b", calls))
        del calls[:]
        reader.variation("flag", USER, None)
        assert stages(calls) == [("a", "before"), ("b", "before"), ("b", "after"), ("a", "after")]

    def test_the_first_hook_may_be_added_later(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag())
        with reader.request(USER) as early:
            reader.add_hook(Recording("a", calls))
            early.variation("flag", None)
            assert calls == []
        reader.variation("flag", USER, None)
        assert stages(calls) == [("a", "before"), ("a", "after")]

    def test_one_added_later_takes_nothing_from_the_event_sink(self, calls: list[tuple[Any, ...]]) -> None:
        events: list[Item] = []
        reader = reader_of(flag(), events=events.extend, private_attributes=["plan"])
        reader.add_hook(Recording("a", calls))
        reader.variation("flag", {"kind": "user", "key": "u", "plan": "gold"}, None)
        assert stages(calls) == [("a", "before"), ("a", "after")]
        assert [event["context"]["_meta"] for event in events] == [{"redactedAttributes": ["plan"]}]

    def test_one_added_during_an_evaluation_waits_for_the_next(self, calls: list[tuple[Any, ...]]) -> None:
        class Adding(Hook):
            def before_evaluation(self, series_context: Any, data: dict[str, Any]) -> dict[str, Any]:
                reader.add_hook(Recording("late", calls))
                return data

        reader = reader_of(flag(), hooks=[Adding()])
        reader.variation("flag", USER, None)
        assert calls == []

    def test_tracking_is_told_in_order(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(hooks=[Recording("a", calls), Recording("b", calls)])
        reader.track("bought", USER, {"items": 2}, 9.5)
        with reader.request(USER) as request:
            request.track("left")
        assert stages(calls) == [("a", "track"), ("b", "track")] * 2
        series = calls[0][2]
        assert (series.context, series.key, series.data, series.metric_value) == (USER, "bought", {"items": 2}, 9.5)
        assert (calls[2][2].data, calls[2][2].metric_value) == (None, None)


class TestData:
    def test_what_before_returns_is_given_to_the_same_hooks_after(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls), Recording("b", calls)])
        reader.variation("flag", USER, None)
        assert [call[3] for call in calls] == [{}, {}, {"from": "b"}, {"from": "a"}]

    def test_one_that_returns_nothing_is_given_an_empty_dict(self, calls: list[tuple[Any, ...]]) -> None:
        class Forgetful(Recording):
            def before_evaluation(self, *_: Any) -> Any:
                return None

        reader_of(flag(), hooks=[Forgetful("a", calls)]).variation("flag", USER, None)
        assert [call[3] for call in calls] == [{}]

    def test_both_stages_see_the_same_series(self, calls: list[tuple[Any, ...]]) -> None:
        reader_of(flag(), hooks=[Recording("a", calls)]).variation("flag", USER, "default")
        series = calls[0][2]
        assert series is calls[1][2]
        assert series == EvaluationSeriesContext("flag", USER, "default", "variation", None)
        with pytest.raises(AttributeError):
            series.key = "other"

    def test_after_sees_what_the_caller_gets(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls)])
        detail = reader.variation_detail("flag", USER, None)
        missing = reader.variation_detail("none", USER, "default")
        wrong = reader.bool_variation_detail("flag", USER, True)
        assert [call[4] for call in calls if call[1] == "after"] == [detail, missing, wrong]
        assert result(wrong) == (True, None, {"kind": "ERROR", "errorKind": "WRONG_TYPE"})

    def test_the_default_is_the_callers_not_the_readers(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(hooks=[Recording("a", calls)], defaults={"flag": "the reader's"})
        assert reader.variation("flag", USER, "mine") == "the reader's"
        assert calls[0][2].default_value == "mine"
        assert calls[1][4].value == "the reader's"


METHODS = [
    f"{kind}variation{ending}"
    for kind in ("", "bool_", "string_", "int_", "float_", "json_")
    for ending in ("", "_detail")
]


class TestMethods:
    @pytest.mark.parametrize("method", METHODS)
    def test_each_evaluation_is_told_by_its_methods_name(self, method: str, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls)])
        getattr(reader, method)("flag", USER, None)
        with reader.request(USER) as request:
            getattr(request, method)("flag", None)
        assert [call[2].method for call in calls] == [method] * 4

    def test_no_public_evaluation_is_forgotten(self) -> None:
        assert {name for name in dir(Request) if "variation" in name and name[0] != "_"} == {
            *METHODS,
            "migration_variation",
        }

    def test_a_migration_is_told_with_its_stage_as_a_string(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(variations=["live"] * 4), hooks=[Recording("a", calls)])
        assert reader.migration_variation("flag", USER, Stage.OFF)[0] is Stage.LIVE
        assert (calls[0][2].method, calls[0][2].default_value) == ("migration_variation", "off")
        assert calls[1][4].value == "live"

    def test_a_migration_whose_value_is_no_stage_is_shown_corrected(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls)])
        reader.migration_variation("flag", USER, Stage.SHADOW)
        assert result(calls[1][4]) == ("shadow", None, {"kind": "ERROR", "errorKind": "WRONG_TYPE"})

    @pytest.mark.parametrize("offline", [True, False])
    def test_they_run_for_invalid_contexts_and_offline_too(self, offline: bool, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls)], offline=offline)
        reader.variation("flag", Context.create(""), "default")
        reader.variation("flag", USER, "default")
        assert stages(calls) == [("a", "before"), ("a", "after")] * 2
        assert calls[1][4].reason["errorKind"] == "USER_NOT_SPECIFIED"

    def test_they_do_not_run_for_prerequisites_all_flags_and_identify(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(prerequisites=[needs("p")]), flag("p"), hooks=[Recording("a", calls)])
        reader.variation("flag", USER, None)
        assert [call[2].key for call in calls] == ["flag", "flag"]
        del calls[:]
        reader.all_flags_state(USER)
        reader.identify(USER)
        assert calls == []

    def test_an_invalid_context_is_not_tracked(
        self, calls: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
    ) -> None:
        reader_of(hooks=[Recording("a", calls)]).track("bought", Context.create(""))
        assert calls == []
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "bought" in caplog.text

    def test_tracking_runs_them_offline_too(self, calls: list[tuple[Any, ...]]) -> None:
        reader_of(hooks=[Recording("a", calls)], offline=True).track("bought", USER)
        assert stages(calls) == [("a", "track")]


class TestFailures:
    def test_one_that_raises_is_logged_and_the_others_run(
        self, calls: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
    ) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls), Failing(), Recording("b", calls)])
        assert reader.variation("flag", USER, None) == "fall"
        reader.track("bought", USER)
        assert [name for name, _ in stages(calls)] == ["a", "b", "b", "a", "a", "b"]
        said = [record.getMessage() for record in caplog.records]
        for stage, message in zip(("before_evaluation", "after_evaluation", "after_track"), said, strict=True):
            assert message.startswith(f"{stage} of the hook 'Failing' failed: unexpected RuntimeError at ")
        assert "secret" not in caplog.text

    def test_one_that_fails_before_is_given_an_empty_dict_after(self, calls: list[tuple[Any, ...]]) -> None:
        class FailingBefore(Recording):
            def before_evaluation(self, *_: Any) -> Any:
                raise RuntimeError

        reader_of(flag(), hooks=[FailingBefore("a", calls)]).variation("flag", USER, None)
        assert [call[3] for call in calls] == [{}]

    def test_one_whose_name_cannot_be_had_is_logged_by_its_class(self, caplog: pytest.LogCaptureFixture) -> None:
        class Nameless(Failing):
            @property
            def metadata(self) -> Metadata:
                raise RuntimeError

        assert reader_of(flag(), hooks=[Nameless()]).variation("flag", USER, None) == "fall"
        assert "the hook a Nameless failed" in caplog.text

    def test_what_ends_the_process_is_let_through(self) -> None:
        class Exiting(Hook):
            def before_evaluation(self, *_: Any) -> Any:
                raise SystemExit

        with pytest.raises(SystemExit):
            reader_of(flag(), hooks=[Exiting()]).variation("flag", USER, None)

    @pytest.mark.parametrize("no_hook", [None, 7, "hook", object(), Recording, Hook])
    def test_what_is_no_hook_is_logged_and_left_out(
        self, no_hook: Any, calls: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
    ) -> None:
        reader = reader_of(flag(), hooks=[no_hook, Recording("a", calls)])
        reader.add_hook(no_hook)
        assert reader.variation("flag", USER, None) == "fall"
        assert len(calls) == 2
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 2

    def test_a_stage_that_is_lacking_is_passed_over(
        self, calls: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
    ) -> None:
        class OnlyAfter:
            def after_evaluation(self, series_context: Any, data: Any, detail: Any) -> None:
                calls.append(("only", "after", data))

        reader = reader_of(flag(), hooks=[OnlyAfter()])
        assert reader.variation("flag", USER, None) == "fall"
        reader.track("bought", USER)
        assert calls == [("only", "after", {})]
        assert caplog.records == []

    def test_a_strict_reader_raises_after_all_stages_have_run(self, calls: list[tuple[Any, ...]]) -> None:
        reader = reader_of(flag(), hooks=[Recording("a", calls)], strict=True)
        with pytest.raises(FlagNotFound):
            reader.variation("none", USER, "default")
        with pytest.raises(WrongType):
            reader.migration_variation("flag", USER, Stage.LIVE)
        assert stages(calls) == [("a", "before"), ("a", "after")] * 2
        assert calls[1][4].value == "default"
        assert calls[3][4].value == "live"

    def test_a_store_that_fails_is_told_like_any_result(self, calls: list[tuple[Any, ...]]) -> None:
        requester = MemoryRequester({"features": {"flag": StoreError("gone")}})
        FlagReader(requester, hooks=[Recording("a", calls)]).variation("flag", USER, "default")
        assert calls[1][4].reason == {"kind": "ERROR", "errorKind": "EXCEPTION"}


def test_without_hooks_and_sink_a_request_is_a_plain_one() -> None:
    assert type(reader_of().request(USER)) is Request
    assert type(reader_of(hooks=[Hook()]).request(USER)) is not Request


def test_without_hooks_and_sink_nothing_of_theirs_runs() -> None:
    """However much of it is loaded: another reader of this process has both."""
    items = [flag(prerequisites=[needs("p")]), flag("p")]

    def use(**options: Any) -> set[str]:
        reader = reader_of(*items, **options)
        ran = set()

        def note(frame: FrameType, event: str, _: Any) -> None:
            if event == "call":
                ran.add(Path(frame.f_code.co_filename).name)

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            assert reader.variation_detail("flag", USER, None).value == "fall"
            reader.track("bought", USER)
            reader.identify(USER)
            with reader.request(USER) as request:
                request.bool_variation("flag", False)
        finally:
            sys.setprofile(before)
        return ran & {"hooks.py", "events.py", "observed.py", "sampling.py"}

    assert use(hooks=[Hook()], events=lambda events: None) == {"hooks.py", "events.py", "observed.py", "sampling.py"}
    assert use() == set()


def test_the_request_module_does_not_know_who_observes_it() -> None:
    source = (Path(__file__).parent.parent / "ldreader" / "request.py").read_text(encoding="utf-8")
    names = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert not names & {"hooks", "events", "observed"}


def test_a_hook_does_nothing_unless_told_otherwise() -> None:
    hook = Hook()
    series = EvaluationSeriesContext("flag", USER, None, "variation")
    assert hook.metadata.name == "Hook"
    assert hook.before_evaluation(series, {"a": 1}) == {"a": 1}
    assert hook.after_evaluation(series, {"a": 1}, EvaluationDetail(1, 0, {})) == {"a": 1}
    hook.after_track(TrackSeriesContext(USER, "bought", None, None))


class OfficialHook(ldclient.hook.Hook):
    """A hook as people write it for the official SDK; it notes what both libraries can tell it."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self._name = name
        self._seen = seen

    @property
    def metadata(self) -> ldclient.hook.Metadata:
        return ldclient.hook.Metadata(name=self._name)

    def before_evaluation(self, series_context: ldclient.hook.EvaluationSeriesContext, data: Item) -> Item:
        self._note("before", series_context, data)
        return {**data, "name": self._name}

    def after_evaluation(self, series_context: ldclient.hook.EvaluationSeriesContext, data: Item, detail: Any) -> Item:
        self._note("after", series_context, data)
        self._seen.append((detail.value, detail.variation_index, detail.reason))
        return data

    def _note(self, stage: str, series: ldclient.hook.EvaluationSeriesContext, data: Item) -> None:
        key = series.context.fully_qualified_key
        self._seen.append((self._name, stage, series.key, key, series.default_value, series.method, dict(data)))
        self._seen.append(series.environment_id)


@contextmanager
def official_client(flags: dict[str, Item], hooks: list[Any]) -> Iterator[LDClient]:
    store = InMemoryFeatureStore()  # type: ignore[no-untyped-call]
    store.init({FEATURES: flags, SEGMENTS: {}})  # type: ignore[no-untyped-call]
    client = LDClient(Config("sdk-key", use_ldd=True, feature_store=store, send_events=False, hooks=hooks))
    try:
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]


class TestBesideTheOfficialSdk:
    def test_a_hook_written_for_it_sees_the_same_here(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL)
        flags = {
            "flag": flag(),
            "off": flag("off", on=False, offVariation=None),
            "stage": flag("stage", variations=["off", "live", "live", "live"]),
            "bad": flag("bad", variations=["no stage"] * 4),
        }
        theirs: list[Any] = []
        ours: list[Any] = []
        official, own = OfficialContext.create("u"), Context.create("u")
        with official_client(flags, [OfficialHook("a", theirs), OfficialHook("b", theirs)]) as client:
            for key in ("flag", "off", "none"):
                client.variation(key, official, "default")
                client.variation_detail(key, official, "default")
            client.variation("flag", OfficialContext.create(""), "default")
            for key in ("stage", "bad", "none"):
                client.migration_variation(key, official, OfficialStage.SHADOW)
        reader = reader_of(*flags.values(), hooks=[OfficialHook("a", ours), OfficialHook("b", ours)])
        for key in ("flag", "off", "none"):
            reader.variation(key, own, "default")
            reader.variation_detail(key, own, "default")
        reader.variation("flag", Context.create(""), "default")
        for key in ("stage", "bad", "none"):
            reader.migration_variation(key, own, Stage.SHADOW)
        assert len(ours) == 10 * 2 * 5
        assert ours == theirs
        assert ours[0] == ("a", "before", "flag", "u", "default", "variation", {})

    def test_it_is_not_told_of_what_it_has_no_stage_for(self, caplog: pytest.LogCaptureFixture) -> None:
        seen: list[Any] = []
        reader_of(hooks=[OfficialHook("a", seen)]).track("bought", USER)
        assert (seen, caplog.records) == ([], [])


def test_the_index_is_told_too(calls: list[tuple[Any, ...]]) -> None:
    reader_of(flag(), hooks=[Recording("a", calls)]).variation("flag", USER, None)
    assert calls[1][4].variation_index == FALL
