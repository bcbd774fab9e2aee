"""The template of the Lambda example, read as AWS SAM reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).parent.parent / "examples" / "template.yaml"


class _Loader(yaml.SafeLoader):
    """YAML with the short forms of functions: ``!Sub text`` is ``{"Fn::Sub": text}``."""


def _function(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    assert isinstance(node, yaml.ScalarNode), name
    return {"Ref" if name == "Ref" else f"Fn::{name}": loader.construct_scalar(node)}


_Loader.add_multi_constructor("!", _function)


def function(parameters: Mapping[str, str]) -> Any:
    """The properties of the template's function, with these values for its parameters and what AWS knows."""
    known = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012", **parameters}
    template = yaml.load(TEMPLATE.read_text(encoding="utf-8"), _Loader)
    assert set(template["Parameters"]) == set(parameters)
    return _resolved(template["Resources"]["Function"]["Properties"], known)


def _resolved(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_resolved(member, known) for member in value]
    if isinstance(value, dict):
        if set(value) == {"Fn::Sub"}:
            return re.sub(r"\$\{([\w:]+)\}", lambda match: known[match[1]], value["Fn::Sub"])
        return {name: _resolved(member, known) for name, member in value.items()}
    return value
