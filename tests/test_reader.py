"""The reader: values by type, defaults, offline, contexts, strictness, and sharing it between threads."""

from __future__ import annotations

from collections import UserDict
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import pytest

from ldreader import (
    ConfigurationError,
    Context,
    EvaluationDetail,
    EvaluationError,
    FlagNotFound,
    FlagReader,
    InvalidContext,
    LdreaderError,
    MalformedItem,
    MemoryRequester,
    StoreError,
    WrongType,
)
from tests.flags import (
    FALL,
    USER,
    VARIATIONS,
    CountingRequester,
    Item,
    clause,
    everyone,
    flag,
    in_segment,
    malformed,
    needs,
    reader_of,
    result,
    rule,
    store,
)


def error(kind: str) -> Item:
    return {"kind": "ERROR", "errorKind": kind}


METHODS = ("bool", "string", "int", "float", "json")
HUGE = 10**400
INFINITE = float("inf")
NO = object()
"""Stands for the default and WRONG_TYPE."""


class TestTypes:
    """What each typed method makes of a value."""

    @pytest.mark.parametrize(
        ("stored", "wanted"),
        [
            ("true", (True, NO, NO, NO, True)),
            ("false", (False, NO, NO, NO, False)),
            ('"x"', (NO, "x", NO, NO, "x")),
            ('""', (NO, "", NO, NO, "")),
            ('"3"', (NO, "3", NO, NO, "3")),
            ("3", (NO, NO, 3, 3.0, 3)),
            ("0", (NO, NO, 0, 0.0, 0)),
            ("1", (NO, NO, 1, 1.0, 1)),
            ("3.0", (NO, NO, 3, 3.0, 3.0)),
            ("-2e3", (NO, NO, -2000, -2000.0, -2000.0)),
            ("3.7", (NO, NO, NO, 3.7, 3.7)),
            ("9007199254740993", (NO, NO, 9007199254740993, 9007199254740992.0, 9007199254740993)),
            (str(HUGE), (NO, NO, HUGE, NO, HUGE)),
            ("1e999", (NO, NO, NO, INFINITE, INFINITE)),
            ("null", (NO, NO, NO, NO, None)),
            ("[]", (NO, NO, NO, NO, [])),
            ('{"a": [1]}', (NO, NO, NO, NO, {"a": [1]})),
        ],
        ids=lambda value: str(value)[:24] if isinstance(value, str) else "",
    )
    def test_a_value_is_taken_or_gives_the_default(self, stored: str, wanted: tuple[Any, ...]) -> None:
        text = f'{{"on": false, "offVariation": 0, "variations": [{stored}]}}'
        reader = FlagReader(MemoryRequester({"features": {"flag": text}}))
        default = "the default"
        with reader.request(USER) as request:
            for name, value in zip(METHODS, wanted, strict=True):
                right = (default, None, error("WRONG_TYPE")) if value is NO else (value, 0, {"kind": "OFF"})
                for details in (
                    getattr(reader, f"{name}_variation_detail")("flag", USER, default),
                    getattr(request, f"{name}_variation_detail")("flag", default),
                ):
                    assert result(details) == right, name
                    assert type(details.value) is type(right[0])
                for got in (
                    getattr(reader, f"{name}_variation")("flag", USER, default),
                    getattr(request, f"{name}_variation")("flag", default),
                ):
                    assert (got, type(got)) == (right[0], type(right[0])), name

    @pytest.mark.parametrize("name", METHODS)
    def test_a_result_without_a_value_keeps_its_reason(self, name: str) -> None:
        flags = [
            flag("off", on=False, offVariation=None),
            flag("failed", prerequisites=[needs("none")], offVariation=None),
            flag("bad", fallthrough={}),
        ]
        reasons = {
            "off": {"kind": "OFF"},
            "failed": {"kind": "PREREQUISITE_FAILED", "prerequisiteKey": "none"},
            "bad": error("MALFORMED_FLAG"),
            "none": error("FLAG_NOT_FOUND"),
        }
        for key, reason in reasons.items():
            detail = getattr(reader_of(*flags), f"{name}_variation_detail")(key, USER, "default")
            assert result(detail) == ("default", None, reason)
            assert detail.is_default_value()

    def test_a_default_may_be_of_any_type(self) -> None:
        for default in (None, True, 7, object(), ["x"]):
            assert reader_of().bool_variation("none", USER, default) is default  # type: ignore[arg-type]

    def test_the_log_names_the_types_and_not_the_value(self, caplog: pytest.LogCaptureFixture) -> None:
        reader_of(flag(variations=["secret", "secret"])).bool_variation("flag", USER, False)
        assert [record.getMessage() for record in caplog.records] == [
            "flag 'flag' gives the default: its value is a string, not a boolean"
        ]


class TestDetails:
    DETAIL = EvaluationDetail([1], 0, {"kind": "OFF"})

    def test_one_cannot_be_changed_nor_hashed(self) -> None:
        for name in ("value", "variation_index", "reason", "new"):
            with pytest.raises(AttributeError):
                setattr(self.DETAIL, name, None)
        with pytest.raises(TypeError):
            hash(self.DETAIL)

    def test_those_that_say_the_same_are_equal(self) -> None:
        assert EvaluationDetail([1], 0, {"kind": "OFF"}) == self.DETAIL
        for other in (
            EvaluationDetail([2], 0, {"kind": "OFF"}),
            EvaluationDetail([1], 1, {"kind": "OFF"}),
            EvaluationDetail([1], 0, {"kind": "FALLTHROUGH"}),
            ([1], 0, {"kind": "OFF"}),
        ):
            assert other != self.DETAIL

    def test_one_shows_what_it_holds(self) -> None:
        assert repr(self.DETAIL) == "EvaluationDetail(value=[1], variation_index=0, reason={'kind': 'OFF'})"
        assert self.DETAIL.to_json_dict() == {"value": [1], "variationIndex": 0, "reason": {"kind": "OFF"}}

    def test_only_one_without_an_index_is_the_default(self) -> None:
        assert not self.DETAIL.is_default_value()
        assert not EvaluationDetail(None, 0, {"kind": "OFF"}).is_default_value()
        assert EvaluationDetail([1], None, {"kind": "OFF"}).is_default_value()


class TestDefaults:
    def reader(self, **options: Any) -> FlagReader:
        return reader_of(
            flag("good"), flag("bad", fallthrough={}), defaults={"none": 1, "bad": 2, "null": None}, **options
        )

    def test_those_of_the_reader_win_over_those_of_the_call(self) -> None:
        reader = self.reader()
        assert [reader.variation(key, USER, "call") for key in ("none", "bad", "null", "other", "good")] == [
            1,
            2,
            None,
            "call",
            "fall",
        ]
        assert reader.variation_detail("none", USER, "call") == EvaluationDetail(1, None, error("FLAG_NOT_FOUND"))

    def test_they_serve_invalid_contexts_wrong_types_and_offline_readers_too(self) -> None:
        assert self.reader().variation("none", Context.create(""), "call") == 1
        assert self.reader(offline=True).variation("none", USER, "call") == 1
        assert reader_of(flag(), defaults={"flag": False}).bool_variation("flag", USER, True) is False

    def test_they_are_those_of_the_time_the_reader_was_made(self) -> None:
        defaults = {"none": 1}
        reader = reader_of(defaults=defaults)
        defaults["none"] = 2
        assert reader.variation("none", USER, "call") == 1


class TestOffline:
    def test_everything_is_the_default_and_nothing_is_read(self, caplog: pytest.LogCaptureFixture) -> None:
        requester = CountingRequester(store(flag()))
        reader = FlagReader(requester, offline=True)
        assert reader.is_offline()
        assert not FlagReader(requester).is_offline()
        assert result(reader.variation_detail("flag", USER, "default")) == ("default", None, error("CLIENT_NOT_READY"))
        assert result(reader.int_variation_detail("flag", USER, 7)) == (7, None, error("CLIENT_NOT_READY"))
        state = reader.all_flags_state(USER)
        assert state.to_json_dict() == {"$flagsState": {}, "$valid": False}
        assert (requester.rounds, requester.reads_of_everything) == ([], 0)
        assert caplog.records == []

    def test_an_invalid_context_is_told_first(self) -> None:
        reader = reader_of(offline=True)
        assert reader.variation_detail("flag", Context.create(""), None).reason == error("USER_NOT_SPECIFIED")

    def test_it_is_no_error_in_a_strict_reader(self) -> None:
        reader = reader_of(offline=True, strict=True)
        assert reader.variation("flag", USER, "default") == "default"
        assert not reader.all_flags_state(USER).valid


class Hostile(UserDict[str, Any]):
    """A mapping that fails when it is read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("secret")


GARBAGE: tuple[Any, ...] = (
    None,
    True,
    7,
    1.5,
    "u",
    b"u",
    [],
    ["u"],
    ("u",),
    {"u"},
    object(),
    Context,
    {},
    {"key": "u"},
    {"kind": "user"},
    {"kind": "user", "key": ""},
    {"kind": "user", "key": None},
    {"kind": "user", "key": 7},
    {"kind": "", "key": "u"},
    {"kind": None, "key": "u"},
    {"kind": "kind", "key": "u"},
    {"kind": "a b", "key": "u"},
    {"kind": "multi"},
    {"kind": "multi", "user": "u"},
    {"kind": "multi", "user": {"key": "u"}, "org": {"key": ""}},
    {"kind": "user", "key": "u", "anonymous": None},
    {"kind": "user", "key": "u", "name": 7},
    {"kind": "user", "key": "u", "_meta": {"privateAttributes": {}}},
    {7: "user", "key": "u"},
    Hostile(kind="user", key="u"),
    Context.create(""),
    Context.create("u", "kind"),
    Context.create_multi(),
    Context.create_multi(USER, USER),
)


class TestContexts:
    @pytest.mark.parametrize("context", GARBAGE, ids=repr)
    def test_an_invalid_one_gives_the_default_and_reads_nothing(
        self, context: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        requester = CountingRequester(store(flag()))
        with FlagReader(requester).request(context) as request:
            assert not request.context.valid
            for key in ("flag", "flag"):
                detail = request.variation_detail(key, "default")
                assert result(detail) == ("default", None, error("USER_NOT_SPECIFIED"))
            assert not request.all_flags_state().valid
        assert (requester.rounds, requester.reads_of_everything) == ([], 0)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "secret" not in caplog.text

    @pytest.mark.parametrize(
        "context",
        [
            Context.builder("o").kind("org").set("plan", "gold").build(),
            {"kind": "org", "key": "o", "plan": "gold"},
            MappingProxyType({"kind": "org", "key": "o", "plan": "gold"}),
            UserDict({"kind": "org", "key": "o", "plan": "gold"}),
            {"kind": "multi", "user": {"key": "u"}, "org": {"key": "o", "plan": "gold"}},
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_context_or_a_mapping_in_its_json_form_is_taken(self, context: Any) -> None:
        reader = reader_of(flag(rules=[rule(clause("plan", "in", "gold", contextKind="org"))]))
        assert reader.variation("flag", context, None) == "match"
        assert reader.request(context).variation("flag", None) == "match"
        assert reader.all_flags_state(context).get_flag_value("flag") == "match"
        assert reader.request(context).context.valid


class TestKeys:
    @pytest.mark.parametrize(
        "key", [None, 7, 1.5, True, b"flag", ("flag",), "", "\ud800", "\x00", "x" * 10_000, "Flag", object]
    )
    def test_one_that_no_store_has_is_not_found(self, key: Any) -> None:
        detail = reader_of(flag()).variation_detail(key, USER, "default")
        assert result(detail) == ("default", None, error("FLAG_NOT_FOUND"))

    @pytest.mark.parametrize("key", [[], ["flag"], {}, {"flag"}])
    @pytest.mark.parametrize("defaults", [{}, {"flag": 1}])
    def test_one_that_cannot_even_be_hashed_raises_nothing(self, key: Any, defaults: Item) -> None:
        detail = reader_of(flag(), defaults=defaults).variation_detail(key, USER, "default")
        assert detail.value == "default"
        assert detail.reason["kind"] == "ERROR"

    def test_any_text_may_be_one(self) -> None:
        keys = ["a b", "a:b", "a/b", "用户", "🦊", "%", "$flagsState", "$deleted", "é", "e\u0301"]
        reader = reader_of(*(flag(key, on=key == "é") for key in keys))
        assert [reader.variation(key, USER, None) == VARIATIONS[FALL] for key in keys] == [key == "é" for key in keys]


class TestStrict:
    """A strict reader raises what another would log, and says what that would have answered."""

    def reader(self) -> FlagReader:
        collections = store(
            flag("good"), flag("off", on=False, offVariation=None), flag("cycle", prerequisites=[needs("cycle")])
        )
        collections["features"] |= {"unreadable": "not JSON", "unreachable": StoreError("too big")}
        return FlagReader(MemoryRequester(collections), strict=True)

    @pytest.mark.parametrize(
        ("key", "raised", "reason"),
        [
            ("none", FlagNotFound, error("FLAG_NOT_FOUND")),
            ("cycle", MalformedItem, error("MALFORMED_FLAG")),
            ("unreadable", MalformedItem, error("MALFORMED_FLAG")),
            ("unreachable", StoreError, error("EXCEPTION")),
            ("good", WrongType, error("WRONG_TYPE")),
        ],
    )
    def test_it_raises_where_the_reason_is_an_error(
        self, key: str, raised: type[EvaluationError], reason: Item, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(raised) as caught:
            self.reader().bool_variation(key, USER, False)
        assert caught.type is raised
        assert issubclass(raised, EvaluationError)
        assert caught.value.detail == EvaluationDetail(False, None, reason)
        assert caplog.records == []

    def test_it_raises_for_an_invalid_context(self) -> None:
        with pytest.raises(InvalidContext, match="key must be a non-empty string") as caught:
            self.reader().variation("good", Context.create(""), "default")
        assert caught.value.detail == EvaluationDetail("default", None, error("USER_NOT_SPECIFIED"))

    def test_it_raises_where_there_is_no_state_of_all_flags(self) -> None:
        with pytest.raises(InvalidContext) as caught:
            self.reader().all_flags_state(Context.create(""))
        assert caught.value.detail is None

    def test_a_wrong_shape_is_told_with_its_place(self) -> None:
        reader = reader_of(flag("checkout", rules=[7, rule()]), strict=True)
        with pytest.raises(MalformedItem, match=r"^flag 'checkout': rules\[0\] must be an object, not 7$"):
            reader.variation("checkout", USER, None)

    def test_it_answers_where_nothing_is_wrong(self) -> None:
        assert self.reader().variation("good", USER, None) == "fall"
        assert self.reader().variation("off", USER, "default") == "default"
        assert self.reader().all_flags_state(USER).get_flag_value("cycle") is None

    def test_all_that_it_raises_has_one_base(self) -> None:
        for raised in (FlagNotFound, InvalidContext, MalformedItem, StoreError, WrongType):
            assert issubclass(raised, EvaluationError)
        assert issubclass(EvaluationError, LdreaderError)


class TestSecureModeHash:
    def test_an_invalid_context_has_an_empty_one(self) -> None:
        reader = reader_of(sdk_key="key")
        contexts: tuple[Any, ...] = (None, "u", {}, Context.create(""))
        assert [reader.secure_mode_hash(context) for context in contexts] == [""] * 4

    @pytest.mark.parametrize("options", [{}, {"sdk_key": None}, {"sdk_key": ""}])
    def test_it_takes_an_sdk_key(self, options: Item) -> None:
        with pytest.raises(ConfigurationError, match="sdk_key"):
            reader_of(**options).secure_mode_hash(USER)

    def test_a_key_that_utf8_cannot_carry_has_one_all_the_same(self) -> None:
        reader = reader_of(sdk_key="key")
        assert reader.secure_mode_hash(Context.create("\ud800")) == reader.secure_mode_hash(Context.create("\ufffd"))


class TestLifetime:
    def test_closing_closes_the_requester(self) -> None:
        class Closing(MemoryRequester):
            closed = 0

            def close(self) -> None:
                self.closed += 1

        requester = Closing({})
        with FlagReader(requester) as reader:
            assert reader.variation("none", USER, "default") == "default"
            with reader.request(USER):
                pass
            assert requester.closed == 0
        assert requester.closed == 1
        reader.close()
        assert requester.closed == 2

    def test_an_error_in_the_block_passes_through(self) -> None:
        with pytest.raises(KeyError), reader_of() as reader, reader.request(USER):
            raise KeyError

    def test_flushing_does_nothing(self) -> None:
        reader = reader_of(flag())
        reader.flush()
        assert reader.variation("flag", USER, None) == "fall"

    def test_a_url_takes_the_readers_options_and_the_stores(self, tmp_path: Any) -> None:
        with FlagReader.from_url(
            f"file:{tmp_path}/none.json", defaults={"a": 1}, offline=True, sdk_key="key", strict=True
        ) as reader:
            assert reader.is_offline()
            assert reader.variation("a", USER, 2) == 1
            assert reader.secure_mode_hash(USER) != ""
        with pytest.raises(ConfigurationError):
            FlagReader.from_url("file:flags.json", no_such_option=1)

    def test_opening_one_contacts_nothing(self, tmp_path: Any) -> None:
        with FlagReader.from_url(f"file:{tmp_path}/none.json") as reader:
            assert reader.variation_detail("a", USER, 2).reason == error("EXCEPTION")
        with FlagReader.from_url(f"file:{tmp_path}/none.json", strict=True) as strict, pytest.raises(StoreError):
            strict.variation("a", USER, 2)


def test_threads_may_share_a_reader() -> None:
    threads, turns = 8, 100
    root = flag(prerequisites=[needs("p")], rules=[rule(in_segment("s"), clause("key", "endsWith", "7"))])
    reader = reader_of(root, flag("p"), flag("bad", fallthrough={}), segments=[everyone("s")])

    def work(thread: int) -> list[tuple[Any, ...]]:
        answers = []
        for turn in range(turns):
            context = Context.create(f"{thread}-{turn}")
            with reader.request(context) as request:
                state = request.all_flags_state().to_values_map()
            answers.append(
                (reader.variation("flag", context, None), result(reader.variation_detail("bad", context, turn)), state)
            )
        return answers

    with ThreadPoolExecutor(threads) as pool:
        for answers in pool.map(work, range(threads)):
            for turn, (value, bad, state) in enumerate(answers):
                assert value == state["flag"] == ("match" if turn % 10 == 7 else "fall")
                assert bad == malformed(turn)


def test_a_default_of_the_reader_is_the_callers_own_copy() -> None:
    reader = FlagReader(MemoryRequester({}), defaults={"q": []})
    reader.variation("q", {"kind": "user", "key": "ada"}, None).append("mine")
    assert reader.variation("q", {"kind": "user", "key": "ada"}, None) == []
