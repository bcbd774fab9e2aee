"""YAML read by the rules of YAML 1.2's core schema, that is, as JSON would be.

PyYAML follows YAML 1.1, for which ``on`` is true and ``2020-01-01`` a date; a flag's ``on: true`` would be lost.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ..errors import StoreError


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of the core schema; property names are always strings."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    # Without the types that JSON lacks, such as !!timestamp; bool, int and float follow below.
    yaml_constructors = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("map", "seq", "str", "null")
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            node.value = [(_name(key_node), value_node) for key_node, value_node in node.value]
        return super().construct_mapping(node, deep=True)


def _name(node: yaml.Node) -> yaml.ScalarNode:
    """The node of a property name, as a string."""
    if not isinstance(node, yaml.ScalarNode):
        raise _problem("a property name must be a string", node)
    # A copy: through an alias, the same node may also be a value.
    return yaml.ScalarNode("tag:yaml.org,2002:str", node.value, node.start_mark, node.end_mark)


def _boolean(loader: _CoreLoader, node: yaml.ScalarNode) -> bool:
    if str(node.value) not in ("true", "True", "TRUE", "false", "False", "FALSE"):
        raise _problem("a boolean is true or false", node)
    return str(node.value).lower() == "true"


def _problem(what: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _number(loader: _CoreLoader, node: yaml.ScalarNode) -> int | float:
    text = str(node.value)
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return float(text) if set(text) & set(".eE") else int(text)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+0123456789.")),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_CoreLoader.add_constructor("tag:yaml.org,2002:bool", _boolean)
for _tag in ("int", "float"):
    _CoreLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)


def load(path: str, data: bytes) -> Any:
    """The value of a YAML text.

    Raises:
        StoreError: It is not YAML; the message names the file and the place.
    """
    try:
        return yaml.load(data, _CoreLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise StoreError(f"{path}: not YAML: {place}{problem}") from error
