"""Attribute references: how flag data names an attribute, or a value inside one."""

from __future__ import annotations


def parse_reference(reference: str) -> tuple[str, ...] | None:
    """The names to follow from a context to a value, or None when the reference is invalid.

    ``name`` is one attribute; ``/address/city`` goes into objects, with ``~1`` for a slash inside a name and ``~0``
    for a tilde.
    """
    if not reference.startswith("/"):
        return literal_path(reference)  # tildes and later slashes are part of the name
    components = reference[1:].split("/")
    if "" in components:  # a lone, doubled or trailing slash
        return None
    if "~" not in reference:
        return tuple(components)
    if reference.count("~") != reference.count("~0") + reference.count("~1"):
        return None
    # ~1 goes first: ~01 is an escaped tilde and a 1, not a slash.
    return tuple([component.replace("~1", "/").replace("~0", "~") for component in components])


def literal_path(name: str) -> tuple[str, ...] | None:
    """The path of the attribute with exactly this name, or None when the name is empty."""
    return (name,) if name else None


def reference_of_literal(name: str) -> str:
    """The reference that means the attribute with exactly this name."""
    if not name.startswith("/"):
        return name
    return "/" + name.replace("~", "~0").replace("/", "~1")
