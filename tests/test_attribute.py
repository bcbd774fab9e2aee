"""Attribute references, by the rules of the flag format."""

from __future__ import annotations

import pytest

from ldreader.attribute import literal_path, parse_reference, reference_of_literal


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("a", ("a",)),
        ("/a", ("a",)),
        ("/a/b", ("a", "b")),
        ("/a/b/c", ("a", "b", "c")),
        ("a/b", ("a/b",)),
        ("a//b/", ("a//b/",)),
        ("a~1b~0~2~", ("a~1b~0~2~",)),
        ("~", ("~",)),
        ("/a~1b", ("a/b",)),
        ("/a~0b", ("a~b",)),
        ("/a~01b", ("a~1b",)),
        ("/~01", ("~1",)),
        ("/~00", ("~0",)),
        ("/~1~0/~0~1", ("/~", "~/")),
        ("/attr/2", ("attr", "2")),
        ("/_meta/x", ("_meta", "x")),
        ("/ ", (" ",)),
        ("/é/\ud800", ("é", "\ud800")),
    ],
)
def test_a_valid_reference_gives_its_components(reference: str, path: tuple[str, ...]) -> None:
    assert parse_reference(reference) == path


@pytest.mark.parametrize(
    "reference",
    ["", "/", "//", "/a/", "/a//b", "//a", "/a/b/", "/~", "/a~", "/a~2", "/~~", "/~~0", "/a~/b", "/a/b~", "/a~x/b~0"],
)
def test_an_invalid_reference_gives_none(reference: str) -> None:
    assert parse_reference(reference) is None


@pytest.mark.parametrize("name", ["a", "/a", "/", "/a/b", "~", "a~1b", "//", "_meta"])
def test_a_literal_is_one_component_as_it_stands(name: str) -> None:
    assert literal_path(name) == (name,)


def test_an_empty_literal_is_invalid() -> None:
    assert literal_path("") is None


@pytest.mark.parametrize(
    ("name", "reference"), [("a", "a"), ("a/b~", "a/b~"), ("/a", "/~1a"), ("/", "/~1"), ("/a~/b", "/~1a~0~1b")]
)
def test_only_a_literal_that_starts_with_a_slash_is_escaped(name: str, reference: str) -> None:
    assert reference_of_literal(name) == reference
    assert parse_reference(reference) == (name,)
