"""Flags from files: what the format allows, and what is said of a file that is not in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ldreader import ConfigurationError, FileRequester, FlagReader, MissingDependency, StoreError
from ldreader.requesters import open_requester

USER = {"kind": "user", "key": "ada"}
ON = {"on": True, "variations": ["off", "on"], "fallthrough": {"variation": 1}}


def written(directory: Path, content: Any, name: str = "flags.json") -> Path:
    path = directory / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def reason(path: Path, key: str) -> Any:
    return FlagReader(FileRequester(path)).variation_detail(key, USER, "default").reason


def refusal(*paths: Path) -> str:
    with pytest.raises(StoreError) as caught:
        FileRequester(*paths).get_all()
    with pytest.raises(StoreError):
        FileRequester(*paths).get_many([("features", "a")])
    return str(caught.value)


def test_flags_values_and_segments_make_one_store(tmp_path: Path) -> None:
    rule = {"clauses": [{"op": "segmentMatch", "values": ["staff"]}], "variation": 0}
    path = written(
        tmp_path,
        {
            "flags": {"a": {**ON, "rules": [rule]}},
            "flagValues": {"v": [1]},
            "segments": {"staff": {"included": ["ada"]}},
        },
    )
    reader = FlagReader(FileRequester(path))
    assert reader.variation("a", USER, None) == "off"
    assert reader.variation("a", {"kind": "user", "key": "bob"}, None) == "on"
    assert reader.variation_detail("v", USER, None).to_json_dict() == {
        "value": [1],
        "variationIndex": 0,
        "reason": {"kind": "FALLTHROUGH"},
    }


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, {"a": [1]}])
def test_a_flag_value_may_be_any_json(tmp_path: Path, value: Any) -> None:
    detail = FlagReader(FileRequester(written(tmp_path, {"flagValues": {"v": value}}))).variation_detail("v", USER, 7)
    assert (detail.value, detail.variation_index) == (value, 0)


def test_several_files_are_one_store(tmp_path: Path) -> None:
    first = written(tmp_path, {"flags": {"a": ON}})
    second = written(tmp_path, {"flagValues": {"b": 2}}, "more.json")
    assert FileRequester(first, second).get_all()["features"].keys() == {"a", "b"}


def test_a_key_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    first = written(tmp_path, {"flags": {"a": ON}})
    second = written(tmp_path, {"flagValues": {"a": 2}}, "more.json")
    message = refusal(first, second)
    assert f"{second}: flagValues.a" in message
    assert f"{first} (flags)" in message


def test_a_key_in_two_sections_of_one_file_is_refused(tmp_path: Path) -> None:
    assert "defined twice" in refusal(written(tmp_path, {"flags": {"a": ON}, "flagValues": {"a": 2}}))


def test_a_segment_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    first = written(tmp_path, {"segments": {"s": {}}})
    second = written(tmp_path, {"segments": {"s": {}}}, "more.json")
    message = refusal(first, second)
    assert f"{second}: segments.s" in message
    assert f"{first} (segments)" in message


def test_the_last_of_a_key_repeated_in_one_object_counts(tmp_path: Path) -> None:
    assert FlagReader(FileRequester(written(tmp_path, '{"flagValues": {"v": 1, "v": 2}}'))).variation("v", USER, 0) == 2


def test_one_bad_file_of_several_fails_them_all(tmp_path: Path) -> None:
    good = written(tmp_path, {"flags": {"a": ON}})
    assert "more.json" in refusal(good, tmp_path / "more.json")


def test_a_flag_and_a_segment_may_share_a_key(tmp_path: Path) -> None:
    everything = FileRequester(written(tmp_path, {"flags": {"a": ON}, "segments": {"a": {}}})).get_all()
    assert everything["features"].keys() == everything["segments"].keys() == {"a"}


@pytest.mark.parametrize("content", [{}, {"flags": None, "segments": None, "flagValues": None}, {"other": [1]}])
def test_a_file_without_flags_is_an_empty_store(tmp_path: Path, content: Any) -> None:
    assert FileRequester(written(tmp_path, content)).get_all() == {"features": {}, "segments": {}}


def test_a_missing_file_is_a_store_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.json"
    assert str(path) in refusal(path)
    assert "check the path" in refusal(path)
    assert reason(path, "a") == {"kind": "ERROR", "errorKind": "EXCEPTION"}


def test_a_folder_is_no_file_of_flags(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1, column 1"),
        ('{"flags": {\n  "a": }}', "line 2, column 8"),
        ('{"flagValues": {"a": NaN}}', "NaN"),
        ("flags: {}", "must be named .yaml"),
        ("[" * 100_000, "nested"),
        ("[1]", "must hold an object"),
        ('"flags"', "must hold an object"),
        ('{"flags": []}', "flags must be an object"),
        ('{"segments": "x"}', "segments must be an object"),
        ('{"flagValues": 3}', "flagValues must be an object"),
    ],
)
def test_a_file_out_of_format_is_refused_with_file_and_place(tmp_path: Path, content: str, said: str) -> None:
    path = written(tmp_path, content)
    message = refusal(path)
    assert str(path) in message
    assert said in message or (said == "nested" and "recursion" in message)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flagValues": {"v": 1}}), encoding="utf-8-sig")
    assert FileRequester(path).get_all()["features"].keys() == {"v"}


def test_a_sparse_flag_takes_key_and_version_from_the_file_format(tmp_path: Path) -> None:
    (text,) = FileRequester(written(tmp_path, {"flags": {"a": ON}})).get_many([("features", "a")]).values()
    assert json.loads(text) == {"key": "a", "version": 1, **ON}


def test_what_a_flag_says_of_itself_stays(tmp_path: Path) -> None:
    (text,) = FileRequester(written(tmp_path, {"flags": {"a": {"version": 7}}})).get_many([("features", "a")]).values()
    assert json.loads(text)["version"] == 7


def test_a_deleted_flag_of_a_file_is_not_found(tmp_path: Path) -> None:
    path = written(tmp_path, {"flags": {"a": {**ON, "deleted": True}}})
    assert reason(path, "a")["errorKind"] == "FLAG_NOT_FOUND"


@pytest.mark.parametrize("item", [7, "text", [], True])
def test_an_item_that_is_no_object_is_malformed_for_those_who_need_it(tmp_path: Path, item: Any) -> None:
    path = written(tmp_path, {"flags": {"bad": item, "good": ON}})
    assert reason(path, "bad")["errorKind"] == "MALFORMED_FLAG"
    assert reason(path, "good") == {"kind": "FALLTHROUGH"}


def test_a_change_of_the_file_shows_in_the_next_request(tmp_path: Path) -> None:
    reader = FlagReader(FileRequester(written(tmp_path, {"flagValues": {"v": 1}})))
    with reader.request(USER) as flags:
        assert flags.variation("v", None) == 1
        written(tmp_path, {"flagValues": {"v": 2}})
        assert flags.variation("v", None) == 1
    assert reader.variation("v", USER, None) == 2


def test_no_file_at_all_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="at least one file"):
        FileRequester()


class TestUrl:
    def test_a_relative_path_is_taken_as_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written(tmp_path, {"flagValues": {"v": 1}}, "100%25 flags.json")
        monkeypatch.chdir(tmp_path)
        assert open_requester("file:100%25 flags.json").get_all()["features"].keys() == {"v"}

    def test_an_absolute_path_needs_no_slashes_before_it(self, tmp_path: Path) -> None:
        path = written(tmp_path, {"flagValues": {"v": 1}})
        for url in (f"file:{path}", f"file://{path}", f"file://localhost{path}", f"FILE:{path}"):
            assert open_requester(url).get_all()["features"].keys() == {"v"}

    def test_escapes_are_resolved_after_two_slashes(self, tmp_path: Path) -> None:
        path = written(tmp_path, {"flagValues": {"v": 1}}, "our flags.json")
        url = f"file://{path}".replace(" ", "%20")
        assert open_requester(url).get_all()["features"].keys() == {"v"}

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("file:", "names no file"),
            ("file://", "names no file"),
            ("file://flags.json", "names a host"),
            ("file:flags.json?prefix=x", "'prefix'"),
        ],
    )
    def test_a_url_that_makes_no_sense_is_refused(self, url: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            open_requester(url)

    def test_an_option_that_no_file_has_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="'watch'"):
            open_requester("file:flags.json", watch=True)

    def test_an_option_without_a_value_is_refused_too(self) -> None:
        with pytest.raises(ConfigurationError, match="'prefix'"):
            open_requester("file:flags.json?prefix")

    def test_a_timeout_is_taken_from_code_and_url_like_by_any_store(self, tmp_path: Path) -> None:
        path = written(tmp_path, {"flagValues": {"v": 1}})
        assert open_requester(f"file:{path}?timeout=1", timeout=2).get_all()["features"].keys() == {"v"}


class TestYaml:
    def content(self, directory: Path, text: str) -> dict[str, Any]:
        path = written(directory, text, "flags.yml")
        return {key: json.loads(item) for key, item in FileRequester(path).get_all()["features"].items()}

    def test_a_bare_on_stays_a_key(self, tmp_path: Path) -> None:
        text = "flags:\n  a:\n    on: true\n    variations: [no, yes]\n    fallthrough: {variation: 1}\n"
        assert self.content(tmp_path, text)["a"]["on"] is True
        assert reason(tmp_path / "flags.yml", "a") == {"kind": "FALLTHROUGH"}

    @pytest.mark.parametrize(
        ("scalar", "value"),
        [
            ("on", "on"),
            ("off", "off"),
            ("yes", "yes"),
            ("No", "No"),
            ("y", "y"),
            ("true", True),
            ("FALSE", False),
            ("null", None),
            ("~", None),
            ("", None),
            ("2020-01-01", "2020-01-01"),
            ("12:30:45", "12:30:45"),
            ("0123", 123),
            ("0o17", 15),
            ("0x1F", 31),
            ("-7", -7),
            ("1_000", "1_000"),
            ("1e3", 1000.0),
            ("1.5", 1.5),
            ("-.5", -0.5),
            (".inf", ".inf"),
            ("=", "="),
            ('"7"', "7"),
            ("'true'", "true"),
            ("!!str 7", "7"),
            ("text with spaces", "text with spaces"),
        ],
    )
    def test_scalars_follow_the_core_schema_of_yaml_1_2(self, tmp_path: Path, scalar: str, value: Any) -> None:
        flag = self.content(tmp_path, f"flagValues:\n  v: {scalar}\n")["v"]
        assert json.dumps(flag["variations"]) == json.dumps([value])

    @pytest.mark.parametrize("key", ["on", "no", "true", "7", "1.5", "null", "2020-01-01"])
    def test_property_names_are_strings(self, tmp_path: Path, key: str) -> None:
        assert list(self.content(tmp_path, f"flagValues:\n  {key}: 1\n")) == [key]

    def test_anchors_and_aliases_share_a_part(self, tmp_path: Path) -> None:
        text = "flagValues:\n  a: &shared {x: [1]}\n  b: *shared\n"
        assert self.content(tmp_path, text)["b"]["variations"] == [{"x": [1]}]

    def test_a_value_that_an_alias_makes_a_property_name_stays_what_it_is(self, tmp_path: Path) -> None:
        flags = self.content(tmp_path, "flagValues:\n  a: &seven 7\n  *seven : {*seven : on}\n")
        assert {key: flag["variations"] for key, flag in flags.items()} == {"a": [7], "7": [{"7": "on"}]}

    def test_a_json_text_is_read_alike(self, tmp_path: Path) -> None:
        text = '{"flagValues": {"v": {"on": [true, null, 1, 2.5, "2020-01-01", "\\u00fc"]}}}'
        assert self.content(tmp_path, text)["v"]["variations"] == [{"on": [True, None, 1, 2.5, "2020-01-01", "ü"]}]

    @pytest.mark.parametrize("name", ["flags.yaml", "flags.YML"])
    def test_the_name_tells_that_a_file_is_yaml(self, tmp_path: Path, name: str) -> None:
        path = written(tmp_path, "flagValues: {v: on}", name)
        assert FileRequester(path).get_all()["features"].keys() == {"v"}

    def test_json_and_yaml_make_one_store(self, tmp_path: Path) -> None:
        first = written(tmp_path, {"flagValues": {"a": 1}})
        second = written(tmp_path, "flagValues:\n  b: 2\n", "flags.yaml")
        assert FileRequester(first, second).get_all()["features"].keys() == {"a", "b"}
        third = written(tmp_path, "flags:\n  a: {on: true}\n", "more.yaml")
        message = refusal(first, second, third)
        assert f"{third}: flags.a" in message
        assert f"{first} (flagValues)" in message

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("flags: {", "line 1, column"),
            ("flags:\n  a: b: c\n", "line 2, column"),
            ("flagValues:\n  ? [1, 2]\n  : 3\n", "line 2, column 5: a property name must be a string"),
            ("flagValues:\n  v: !!python/object:os.system x\n", "line 2, column 6"),
            ("flagValues: &loop\n  v: *loop\n", "line 1, column 13"),
            ("flagValues:\n  v: &loop [*loop]\n", "line 2, column 6"),
            ("flagValues:\n  v: !!timestamp 2020-01-01\n", "line 2, column 6"),
            ("flagValues:\n  v: !!binary aGk=\n", "line 2, column 6"),
            ("flagValues:\n  v: !!set {x, y}\n", "line 2, column 6"),
            ("flagValues:\n  v: !!map [1]\n", "line 2, column 6"),
            ("flagValues:\n  v: !!bool maybe\n", "line 2, column 6: a boolean is true or false"),
            ("flagValues:\n  v: !!int x\n", "'x'"),
            ("flags: {}\n---\nflags: {}\n", "line 2, column 1"),
            ("flags:\n\ta: {}\n", "line 2, column 1"),
            ("- flags", "must hold an object"),
            ("flags: []", "flags must be an object"),
            ("\x00", "flags.yml"),
        ],
    )
    def test_a_file_that_is_no_such_yaml_is_refused_with_file_and_place(
        self, tmp_path: Path, text: str, said: str
    ) -> None:
        message = refusal(written(tmp_path, text, "flags.yml"))
        assert "flags.yml" in message
        assert said in message

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        assert "must hold an object" in refusal(written(tmp_path, "", "flags.yaml"))

    def test_the_missing_package_is_named_when_opening(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(MissingDependency, match=r"pip install 'ldreader\[yaml\]'"):
            open_requester("file:flags.yaml")
