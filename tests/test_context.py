"""Contexts, by the rules of the flag format."""

from __future__ import annotations

import copy
import enum
import json
import pickle
from collections import UserDict
from types import MappingProxyType
from typing import Any

import pytest

from ldreader.attribute import parse_reference
from ldreader.context import Context, as_context

SECRET = "s3cret-value"


def org(key: str = "o") -> Context:
    return Context.create(key, "org")


# Kind and key


@pytest.mark.parametrize("kind", ["user", "org", "a", "A-b_c.9", "-", "._-", "Kind", "MULTI", "_meta", "kind2"])
def test_a_kind_of_letters_digits_dot_underscore_and_minus_is_valid(kind: str) -> None:
    for context in (
        Context.create("k", kind),
        Context.builder("k").kind(kind).build(),
        Context.from_dict({"kind": kind, "key": "k"}),
    ):
        assert context.valid
        assert context.error is None
        assert (context.kind, context.key) == (kind, "k")


@pytest.mark.parametrize("kind", ["", "kind", "multi", "é", "aé", "²", "a b", " ", "a/b", "a:b", "a\n", "\ud800", "a%"])
def test_any_other_kind_is_invalid(kind: str) -> None:
    assert not Context.create("k", kind).valid
    assert not Context.builder("k").kind(kind).build().valid
    assert not Context.builder("k").set("kind", kind).build().valid
    assert not Context.from_dict({"kind": kind, "key": "k"}).valid
    assert not Context.from_dict({"kind": "multi", "a": {"key": "k", "kind": kind}}).valid


def test_no_kind_is_user_in_builders() -> None:
    assert Context.create("k").kind == Context.DEFAULT_KIND == "user"
    assert Context.create("k", None).kind == "user"
    assert Context.builder("k").build().kind == "user"
    assert Context.builder("k").kind(None).build().kind == "user"


@pytest.mark.parametrize("kind", [5, True, ["user"], {"a": 1}, b"user"])
def test_a_kind_that_is_no_string_is_invalid(kind: Any) -> None:
    assert not Context.create("k", kind).valid
    assert not Context.builder("k").kind(kind).build().valid
    assert not Context.from_dict({"kind": kind, "key": "k"}).valid


@pytest.mark.parametrize("key", ["a", " ", "a:b%", "é", "\ud800", "kind", "/"])
def test_a_key_is_any_string_but_the_empty_one(key: str) -> None:
    assert Context.create(key).key == key
    assert Context.from_dict({"kind": "user", "key": key}).key == key


@pytest.mark.parametrize("key", ["", None, 5, 0, True, 1.5, ["a"], {}, b"a", object()])
def test_any_other_key_is_invalid(key: Any) -> None:
    assert not Context.create(key).valid
    assert not Context.create(key, "org").valid
    assert not Context.builder(key).build().valid
    assert not Context.builder("a").key(key).build().valid
    assert not Context.from_dict({"kind": "user", "key": key}).valid


def test_an_invalid_context_has_nothing_but_its_error() -> None:
    context = Context.builder("").name("n").anonymous(True).set("a", 1).private("a").build()
    assert context.error is not None
    assert (context.kind, context.key, context.name, context.anonymous, context.multiple) == (
        "",
        "",
        None,
        False,
        False,
    )
    assert context.individual_context_count == 0
    assert context.get_individual_context(0) is None
    assert context.get_individual_context("") is None
    assert context.kinds() == ()
    assert [context.get(name) for name in ("key", "kind", "name", "anonymous", "a")] == [None] * 5
    assert (list(context.custom_attributes), list(context.private_attributes)) == ([], [])
    assert context.fully_qualified_key == ""
    assert context.to_dict() == {}
    assert context.to_json_string() == "{}"
    assert context.error in repr(context)
    assert context.without_anonymous_contexts() == context


# Several kinds


def test_no_members_are_invalid() -> None:
    assert not Context.create_multi().valid
    assert not Context.multi_builder().build().valid
    assert not Context.from_dict({"kind": "multi"}).valid


def test_one_member_is_that_context() -> None:
    context = org()
    assert Context.create_multi(context) is context
    assert Context.multi_builder().add(org()).build() == org()
    assert Context.from_dict({"kind": "multi", "org": {"key": "o"}}) == org()


def test_members_are_sorted_by_kind_in_byte_order() -> None:
    context = Context.create_multi(*[Context.create("k", kind) for kind in ("b", "a", "_", "B", "-", "1")])
    assert context.kinds() == ("-", "1", "B", "_", "a", "b")
    assert [context.get_individual_context(i).kind for i in range(6)] == list(context.kinds())  # type: ignore[union-attr]
    assert context.individual_context_count == 6


def test_a_nested_multi_is_flattened() -> None:
    a, b, c = (Context.create("k", kind) for kind in "abc")
    assert Context.create_multi(Context.create_multi(c, a), b) == Context.create_multi(a, b, c)
    assert Context.create_multi(c, Context.create_multi(b, a)).kinds() == ("a", "b", "c")


def test_a_kind_twice_is_invalid() -> None:
    assert not Context.create_multi(org("1"), org("2")).valid
    assert not Context.create_multi(Context.create("u"), org("1"), org("1")).valid
    assert not Context.create_multi(org(), Context.create_multi(Context.create("u"), org())).valid
    assert not Context.from_dict({"kind": "multi", "org": {"key": "1"}, "team": {"key": "2", "kind": "org"}}).valid


def test_errors_of_members_are_joined_by_comma() -> None:
    no_key, bad_kind = Context.create(""), Context.create("a", "b c")
    assert Context.create_multi(no_key, org(), bad_kind).error == f"{no_key.error}, {bad_kind.error}"
    assert Context.create_multi(no_key).error == no_key.error


def test_a_multi_has_no_attributes_but_its_kind() -> None:
    context = Context.create_multi(Context.builder("u").name("n").anonymous(True).set("a", 1).build(), org())
    assert context.multiple
    assert (context.kind, context.key, context.name, context.anonymous) == (Context.MULTI_KIND, "", None, False)
    assert context.get("kind") == "multi"
    assert [context.get(name) for name in ("key", "name", "anonymous", "a")] == [None] * 4
    assert (list(context.custom_attributes), list(context.private_attributes)) == ([], [])


def test_a_builder_takes_a_mapping_and_turns_anything_else_into_an_error() -> None:
    mapping: Any = {"kind": "org", "key": "o"}
    nothing: Any = None
    assert Context.create_multi(Context.create("u"), mapping) == Context.create_multi(Context.create("u"), org())
    assert not Context.create_multi(Context.create("u"), nothing).valid


def test_a_multi_builder_can_be_used_on_without_changing_what_it_built() -> None:
    builder = Context.multi_builder().add(Context.create("u")).add(org())
    built = builder.build()
    builder.add(Context.create("t", "team"))
    assert built.kinds() == ("org", "user")
    assert builder.build().kinds() == ("org", "team", "user")


def test_a_member_is_found_by_kind_or_by_place() -> None:
    user, multi = Context.create("u"), Context.create_multi(Context.create("u"), org())
    nothing: Any = None
    assert multi.get_individual_context("user") == multi.get_individual_context(1) == user
    assert multi.get_individual_context("org") == multi.get_individual_context(0) == org()
    assert [multi.get_individual_context(kind) for kind in ("multi", "", "x", 2, -1, nothing)] == [None] * 6
    assert user.get_individual_context("user") is user
    assert user.get_individual_context(0) is user
    assert [user.get_individual_context(kind) for kind in ("multi", "", "org", 1, -1, nothing)] == [None] * 6
    assert (user.individual_context_count, user.kinds()) == (1, ("user",))


def test_anonymous_members_can_be_left_out() -> None:
    hidden = Context.builder("h").kind("device").anonymous(True).build()
    user = Context.create("u")
    assert user.without_anonymous_contexts() == user
    assert Context.create_multi(user, org()).without_anonymous_contexts() == Context.create_multi(user, org())
    assert Context.create_multi(user, hidden).without_anonymous_contexts() == user
    assert Context.create_multi(user, hidden, org()).without_anonymous_contexts() == Context.create_multi(user, org())
    assert not hidden.without_anonymous_contexts().valid


# The builder


def test_a_builder_sets_every_attribute() -> None:
    context = Context.builder("a").kind("org").name("N").anonymous(True).set("x", [1]).private("x", "/y/z").build()
    assert context.to_dict() == {
        "kind": "org",
        "key": "a",
        "name": "N",
        "anonymous": True,
        "x": [1],
        "_meta": {"privateAttributes": ["x", "/y/z"]},
    }
    assert list(context.custom_attributes) == ["x"]
    assert list(context.private_attributes) == ["x", "/y/z"]


def test_set_reaches_the_built_in_attributes() -> None:
    context = Context.builder("a").set("kind", "org").set("key", "b").set("name", "N").set("anonymous", True).build()
    assert context == Context.builder("b").kind("org").name("N").anonymous(True).build()
    assert Context.builder("a").name("N").set("name", None).build().name is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", 1),
        ("", None),
        ("_meta", {"privateAttributes": ["a"]}),
        ("_meta", None),
        ("key", None),
        ("key", 5),
        ("kind", None),
        ("kind", 5),
        ("name", 5),
        ("anonymous", None),
        ("anonymous", 1),
        ("anonymous", "true"),
        (5, 1),
        (None, 1),
        ([], 1),
    ],
)
def test_a_refused_name_or_value_changes_nothing(name: Any, value: Any) -> None:
    builder = Context.builder("a").kind("org").name("N").anonymous(True).set("x", 1)
    before = builder.build()
    assert builder.try_set(name, value) is False
    assert builder.set(name, value) is builder
    assert builder.build() == before


@pytest.mark.parametrize(
    ("name", "value"), [("name", "N"), ("name", None), ("anonymous", False), ("x", None), ("x", 0)]
)
def test_an_accepted_name_and_value_is_confirmed(name: str, value: Any) -> None:
    assert Context.builder("a").try_set(name, value) is True


def test_setting_none_removes_an_attribute() -> None:
    context = Context.builder("a").set("x", 1).set("x", None).set("y", None).set("z", False).build()
    assert list(context.custom_attributes) == ["z"]


@pytest.mark.parametrize("wrong", [{"name": 5}, {"anonymous": None}, {"anonymous": 1}, {"anonymous": "yes"}])
def test_a_setter_given_a_wrong_type_makes_the_context_invalid(wrong: dict[str, Any]) -> None:
    builder = Context.builder("a")
    for name, value in wrong.items():
        getattr(builder, name)(value)
    assert not builder.build().valid


def test_a_private_reference_that_is_no_string_makes_the_context_invalid() -> None:
    wrong: Any = ["x"]
    assert not Context.builder("a").private(wrong).build().valid


def test_a_builder_can_be_used_on_without_changing_what_it_built() -> None:
    builder = Context.builder("a").set("x", 1).private("x")
    built = builder.build()
    builder.key("b").set("x", 2).set("y", 3).private("y")
    assert built == Context.builder("a").set("x", 1).private("x").build()
    assert builder.build().get("x") == 2


def test_a_builder_starts_from_a_context_without_changing_it() -> None:
    context = Context.builder("a").kind("org").name("N").anonymous(True).set("x", 1).private("x").build()
    builder = Context.builder_from_context(context)
    assert builder.build() == context
    builder.set("x", 2).private("y")
    assert context.get("x") == 1
    assert list(context.private_attributes) == ["x"]


@pytest.mark.parametrize("context", [Context.create(""), Context.create_multi(Context.create("a"), org())])
def test_a_builder_from_a_context_that_is_not_single_builds_an_invalid_one(context: Context) -> None:
    assert not Context.builder_from_context(context).build().valid


# The JSON form


@pytest.mark.parametrize(
    "props",
    [
        {"kind": "user", "key": "a"},
        {"kind": "user", "key": "a", "name": None},
        {"kind": "user", "key": "a", "name": ""},
        {"kind": "user", "key": "a", "anonymous": False},
        {"kind": "user", "key": "a", "_meta": None},
        {"kind": "user", "key": "a", "_meta": {}},
        {"kind": "user", "key": "a", "_meta": {"unknown": 1}},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": None}},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": []}},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": ["x", "//"]}},
        {"kind": "multi", "user": {"key": "a"}, "org": {"key": "b"}},
    ],
)
def test_valid_json_is_read_alike_from_a_dict_and_from_text(props: dict[str, Any]) -> None:
    assert Context.from_dict(props).valid
    assert Context.from_json(json.dumps(props)) == Context.from_dict(props)
    assert Context.from_json(json.dumps(props).encode()) == Context.from_dict(props)


@pytest.mark.parametrize(
    "props",
    [
        {},
        {"key": "a"},
        {"kind": None, "key": "a"},
        {"kind": "", "key": "a"},
        {"kind": 3, "key": "a"},
        {"kind": "user"},
        {"kind": "user", "key": None},
        {"kind": "user", "key": ""},
        {"kind": "user", "key": 3},
        {"kind": "user", "key": "a", "name": 3},
        {"kind": "user", "key": "a", "name": False},
        {"kind": "user", "key": "a", "anonymous": None},
        {"kind": "user", "key": "a", "anonymous": "true"},
        {"kind": "user", "key": "a", "anonymous": 1},
        {"kind": "user", "key": "a", "_meta": []},
        {"kind": "user", "key": "a", "_meta": "x"},
        {"kind": "user", "key": "a", "_meta": False},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": {}}},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": "x"}},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": [3]}},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": [None]}},
        {"kind": "multi"},
        {"kind": "multi", "user": None},
        {"kind": "multi", "user": "a"},
        {"kind": "multi", "user": {"key": "a"}, "org": []},
        {"kind": "multi", "user": {}},
        {"kind": "multi", "user": {"key": "a"}, "org": {"key": ""}},
        {"kind": "multi", "user": {"key": "a"}, "or g": {"key": "b"}},
        {"kind": "multi", "user": {"key": "a"}, "": {"key": "b"}},
        {"kind": "multi", "user": {"key": "a"}, "multi": {"key": "b"}},
        {"kind": "multi", "user": {"key": "a", "kind": None}},
        {"kind": "multi", "user": {"key": "a", "kind": 5}},
        {"kind": "multi", "user": {"key": "a", "kind": "multi", "org": {"key": "b"}}},
    ],
)
def test_invalid_json_gives_an_invalid_context(props: dict[str, Any]) -> None:
    assert not Context.from_dict(props).valid
    assert not Context.from_json(json.dumps(props)).valid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "true",
        "3",
        '"a"',
        "[]",
        '{"kind":"user","key":"a"} x',
        '{"kind":"user","key":"a",}',
        "{'kind':'user'}",
        '\ufeff{"kind":"user","key":"a"}',
        '{"kind":"user","key":"a","x":NaN}',
        '{"kind":"user","key":"a","x":[-Infinity]}',
        '{"kind":"user","key":"a","x":{"y":Infinity}}',
        '{"kind":"user","key":"a","x":' + "[" * 100_000 + "]" * 100_000 + "}",
        "[" * 100_000,
        b"\xff\xfe\xfa",
        b'{"kind":"user","key":"\xff"}',
        None,
        5,
        {"kind": "user", "key": "a"},
    ],
    ids=lambda text: repr(text)[:30],
)
def test_text_that_is_no_json_object_gives_an_invalid_context(text: Any) -> None:
    context = Context.from_json(text)
    assert context.error is not None
    assert len(context.error) < 120


@pytest.mark.parametrize("value", [None, "a", b"a", 5, True, [], [("kind", "user")], (), object(), Context])
def test_what_is_no_mapping_gives_an_invalid_context(value: Any) -> None:
    assert Context.from_dict(value).error is not None
    assert as_context(value).error is not None


@pytest.mark.parametrize("wrap", [dict, MappingProxyType, UserDict])
def test_any_mapping_is_read(wrap: Any) -> None:
    props = wrap({"kind": "org", "key": "o", "x": wrap({"y": 1}), "_meta": wrap({"privateAttributes": ("x",)})})
    expected = Context.builder("o").kind("org").set("x", wrap({"y": 1})).private("x").build()
    multi = wrap({"kind": "multi", "user": wrap({"key": "u"}), "team": wrap({"key": "t"})})
    for read in (Context.from_dict, as_context):
        assert read(props) == expected
        assert read(multi) == Context.create_multi(Context.create("u"), Context.create("t", "team"))
    assert expected.resolve(("x", "y")) == 1
    assert json.loads(expected.to_json_string())["x"] == {"y": 1}


def test_a_context_is_taken_as_it_is() -> None:
    context, invalid = org(), Context.create("")
    assert as_context(context) is context
    assert as_context(invalid) is invalid


def test_names_that_are_no_strings_are_invalid() -> None:
    number: Any = 5
    assert not Context.from_dict({"kind": "user", "key": "a", number: 1}).valid
    assert not Context.from_dict({"kind": "multi", number: {"key": "a"}}).valid


def test_a_null_attribute_is_absent_and_an_inner_null_stays() -> None:
    context = Context.from_dict({"kind": "user", "key": "a", "x": None, "y": [None], "z": {"n": None}, "f": False})
    assert list(context.custom_attributes) == ["y", "z", "f"]
    assert context.to_dict() == {"kind": "user", "key": "a", "y": [None], "z": {"n": None}, "f": False}


def test_an_attribute_without_a_name_is_ignored() -> None:
    assert Context.from_dict({"kind": "user", "key": "a", "": 1}) == Context.create("a")


def test_the_name_custom_has_no_special_meaning() -> None:
    context = Context.from_dict({"kind": "user", "key": "a", "custom": {"b": 1}})
    assert context.get("b") is None
    assert context.get("custom") == {"b": 1}


def test_a_kind_inside_a_member_overrides_its_name() -> None:
    context = Context.from_dict({"kind": "multi", "x": {"key": "a", "kind": "user"}, "org": {"key": "o"}})
    assert context == Context.create_multi(Context.create("a"), org())
    assert Context.from_dict({"kind": "multi", "not a kind": {"key": "a", "kind": "user"}}) == Context.create("a")


def test_the_last_of_a_repeated_property_wins() -> None:
    assert Context.from_json('{"kind":"user","key":"a","key":"b"}') == Context.create("b")


def test_output_leaves_out_the_defaults() -> None:
    assert Context.builder("a").anonymous(False).private().build().to_dict() == {"kind": "user", "key": "a"}
    multi = Context.create_multi(Context.builder("a").anonymous(True).private("x").build(), org())
    assert multi.to_dict() == {
        "kind": "multi",
        "org": {"key": "o"},
        "user": {"key": "a", "anonymous": True, "_meta": {"privateAttributes": ["x"]}},
    }


def test_json_text_is_compact_and_reads_back() -> None:
    context = Context.builder("a\ud800").set("x", {"é": [1, 2.5, None, "\udfff"]}).private("\ud800").build()
    assert Context.from_json(context.to_json_string()) == context
    assert Context.create("a", "org").to_json_string() == '{"kind":"org","key":"a"}'


def endless() -> list[Any]:
    value: list[Any] = []
    value += [value, value]
    return value


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_what_json_cannot_carry_becomes_null_and_the_rest_stays() -> None:
    values = {"nan": float("nan"), "inf": [1, float("-inf")], "object": object(), "bytes": b"x", "big": 10**5000}
    odd = {"mapping": MappingProxyType({"y": (1, 2)}), "keys": {(1,): 2, "z": 3}, "endless": endless()}
    context = Context.from_dict({"kind": "user", "key": "a", "x": "kept", **values, **odd})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(context.to_json_string(), parse_constant=refuse) == {
        "kind": "user",
        "key": "a",
        "x": "kept",
        "nan": None,
        "inf": [1, None],
        "object": None,
        "bytes": None,
        "big": None,
        "mapping": {"y": [1, 2]},
        "keys": {"z": 3},
        "endless": [None, None],
    }
    assert json.loads(Context.builder("a").set("deep", deep(100_000)).build().to_json_string())["key"] == "a"


@pytest.mark.parametrize(
    "props",
    [
        {"kind": "user", "key": "a"},
        {"kind": "org", "key": "a:%", "name": "N", "anonymous": True},
        {"kind": "org", "key": "a", "anonymous": False, "name": None, "custom": {"b": 1}},
        {"kind": "org", "key": "a", "x": None, "y": [None, {"z": None}], "t": True, "n": 1.5},
        {"kind": "org", "key": "a", "_meta": {"privateAttributes": ["x", "/y/z", "//"], "unknown": 1}},
        {"kind": "org", "key": "a", "_meta": {"privateAttributes": []}},
        {"kind": "org", "key": "a", "_meta": None},
        {"kind": "multi", "user": {"key": "a"}},
        {"kind": "multi", "user": {"key": "a", "name": "N"}, "org": {"key": "o", "x": [1]}},
        {"kind": "multi", "x": {"key": "a", "kind": "user"}, "org": {"key": "o"}},
        {"kind": "multi", "user": {"key": "a"}, "x": {"key": "b", "kind": "user"}},
        {"kind": "multi"},
        {"kind": "multi", "user": 5},
        {"key": "a"},
        {"kind": "", "key": "a"},
        {"kind": "kind", "key": "a"},
        {"kind": "a b", "key": "a"},
        {"kind": "user", "key": ""},
        {"kind": "user", "key": 5},
        {"kind": "user", "key": "a", "name": 5},
        {"kind": "user", "key": "a", "anonymous": None},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": {}}},
    ],
)
def test_the_official_sdk_reads_the_same(props: dict[str, Any]) -> None:
    ldclient = pytest.importorskip("ldclient")
    theirs, ours = ldclient.Context.from_dict(props), Context.from_dict(props)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.valid == theirs.valid
    assert ours.fully_qualified_key == theirs.fully_qualified_key


def test_every_public_name_of_the_official_sdk_is_here() -> None:
    ldclient = pytest.importorskip("ldclient")
    builders = (ldclient.ContextBuilder, Context.builder("a")), (ldclient.ContextMultiBuilder, Context.multi_builder())
    for theirs, ours in ((ldclient.Context, Context), *builders):
        assert [name for name in dir(theirs) if not name.startswith("_") and not hasattr(ours, name)] == []


# Attributes and references


def attributes() -> Context:
    values = {"object": {"2": "two", "a/b": {"~": 1}, "null": None, "no": False}, "list": ["x", "y", "z"], "/odd": 7}
    return Context.from_dict(
        {"kind": "org", "key": "o", "text": "abc", "_meta": {"privateAttributes": ["a"]}, **values}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key", "o"),
        ("kind", "org"),
        ("name", None),
        ("anonymous", False),
        ("text", "abc"),
        ("/odd", 7),
        ("/text", None),
        ("_meta", None),
        ("privateAttributes", None),
        ("", None),
        ("missing", None),
    ],
)
def test_an_attribute_is_got_by_its_exact_name(name: str, value: Any) -> None:
    assert attributes().get(name) == value
    assert attributes()[name] == value


def test_only_strings_are_indexes() -> None:
    number: Any = 0
    assert attributes()[number] is None


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("text", "abc"),
        ("/text", "abc"),
        ("/kind", "org"),
        ("/key", "o"),
        ("/anonymous", False),
        ("/name", None),
        ("/object/2", "two"),
        ("/object/a~1b/~0", 1),
        ("/object/no", False),
        ("object/2", None),
        ("/object/null", None),
        ("/object/null/x", None),
        ("/object/2/x", None),
        ("/object/no/x", None),
        ("/object/missing/x", None),
        ("/list/2", None),
        ("/list/0", None),
        ("/text/0", None),
        ("/key/0", None),
        ("/_meta", None),
        ("/_meta/privateAttributes", None),
        ("/_meta/x", None),
        ("/~1odd", 7),
        ("/missing", None),
    ],
)
def test_a_reference_is_followed_through_objects_only(reference: str, value: Any) -> None:
    path = parse_reference(reference)
    assert path is not None
    found = attributes().resolve(path)
    assert found == value
    assert type(found) is type(value)


# Keys, equality, safety


@pytest.mark.parametrize(
    ("context", "key"),
    [
        (Context.create("u:1%"), "u:1%"),
        (Context.create("k:%", "org"), "org:k%3A%25"),
        (Context.create("a/é b", "org"), "org:a/é b"),
        (Context.create("%3A", "org"), "org:%253A"),
        (Context.create_multi(Context.create("u:1"), Context.create("k:%", "org")), "org:k%3A%25:user:u%3A1"),
    ],
)
def test_the_fully_qualified_key_names_every_kind(context: Context, key: str) -> None:
    assert context.fully_qualified_key == key


def test_contexts_with_the_same_content_are_equal_and_hash_alike() -> None:
    one = Context.builder("a").set("x", [1]).set("y", 2).build()
    two = Context.builder("a").set("y", 2).set("x", [1]).build()
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two, Context.create_multi(org(), one), Context.create_multi(two, org()), Context.create("")}) == 3


@pytest.mark.parametrize(
    "other",
    [
        Context.create("b"),
        Context.create("a", "org"),
        Context.builder("a").name("N").build(),
        Context.builder("a").anonymous(True).build(),
        Context.builder("a").set("x", 1).build(),
        Context.builder("a").private("x").build(),
        Context.create_multi(Context.create("a"), org()),
        Context.create(""),
        "a",
        {"kind": "user", "key": "a"},
        None,
    ],
)
def test_contexts_that_differ_anywhere_are_not_equal(other: object) -> None:
    assert Context.create("a") != other
    assert Context.create_multi(Context.create("a"), org("1")) != Context.create_multi(Context.create("a"), org("2"))


def test_a_context_cannot_be_changed() -> None:
    context: Any = Context.builder("a").set("x", 1).build()
    for name in ("key", "kind", "name", "anonymous", "error", "valid", "fully_qualified_key", "color"):
        with pytest.raises(AttributeError):
            setattr(context, name, "b")
    with pytest.raises(TypeError):
        context["x"] = 2


def test_a_context_does_not_follow_changes_to_what_it_was_made_of_or_gave_away() -> None:
    props: dict[str, Any] = {"kind": "user", "key": "a", "x": 1, "_meta": {"privateAttributes": ["x"]}}
    context = Context.from_dict(props)
    given = context.to_dict()
    for changed in (props, given):
        changed["x"] = 2
        changed["y"] = 3
        changed["_meta"]["privateAttributes"].append("y")
    assert context == Context.builder("a").set("x", 1).private("x").build()
    assert Context.create("b").to_dict() == {"kind": "user", "key": "b"}


def test_a_context_survives_copying_and_pickling() -> None:
    for context in (attributes(), Context.create_multi(Context.create("u"), org()), Context.create("")):
        assert copy.deepcopy(context) == context
        assert pickle.loads(pickle.dumps(context)) == context


@pytest.mark.parametrize(
    "props",
    [
        {"kind": "user", "key": [SECRET]},
        {"kind": {"x": SECRET}, "key": "a"},
        {"kind": "user", "key": "a", "name": [SECRET]},
        {"kind": "user", "key": "a", "anonymous": SECRET},
        {"kind": "user", "key": "a", "_meta": SECRET},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": SECRET}},
        {"kind": "user", "key": "a", "_meta": {"privateAttributes": [[SECRET]]}},
        {"kind": "multi", "user": SECRET},
        {"kind": "multi", "user": {"key": [SECRET]}},
        SECRET,
        [SECRET],
    ],
)
def test_no_error_and_no_repr_shows_a_value(props: Any) -> None:
    for context in (as_context(props), Context.from_dict(props), Context.from_json(json.dumps(props) + "}")):
        assert context.error is not None
        assert SECRET not in context.error
        assert SECRET not in repr(context)


def test_a_repr_shows_kinds_and_keys_but_no_attributes() -> None:
    context = Context.builder("a").kind("org").name(SECRET).set("x", SECRET).build()
    assert repr(context) == "<Context 'org:a'>"
    assert repr(Context.create_multi(context, Context.create("\ud800"))) == "<Context 'org:a:user:\\ud800'>"


class Kind(str, enum.Enum):
    ORG = "org"


class Key(str, enum.Enum):
    ACME = "acme"


def test_enumerations_of_strings_count_as_their_values() -> None:
    context = Context.builder(Key.ACME).kind(Kind.ORG).name(Key.ACME).build()
    assert context.fully_qualified_key == "org:acme"
    assert f"{context.key} {context.kind} {context.name}" == "acme org acme"


def test_a_context_is_no_collection() -> None:
    context = Context.create("ada")
    with pytest.raises(TypeError):
        "key" in context  # type: ignore[misc]  # noqa: B015
    with pytest.raises(TypeError):
        list(context)  # type: ignore[call-overload]


def test_a_builder_starts_from_a_mapping_too() -> None:
    assert Context.builder_from_context({"kind": "org", "key": "acme"}).build() == Context.create("acme", "org")  # type: ignore[arg-type]


class Unreadable(dict[str, object]):
    def get(self, *arguments: object) -> object:
        raise ZeroDivisionError


def test_a_mapping_that_fails_while_it_is_read_is_an_invalid_context() -> None:
    assert "ZeroDivisionError" in str(as_context(Unreadable(kind="user", key="ada")).error)


def test_the_order_of_private_attributes_makes_no_difference() -> None:
    def context(*private: str) -> Context:
        return Context.builder("a").set("x", 1).private(*private).build()

    assert context("x", "y") == context("y", "x") == context("x", "y", "x")
    assert context("x") != context("y")
    assert context("x") != context()
