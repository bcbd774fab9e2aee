"""What the tests share: a Redis server and LaunchDarkly's conformance cases."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RedisServer, lacking

PROJECT = Path(__file__).parent.parent


def conformance_directory() -> Path:
    """Where the conformance cases are: $LDREADER_CONFORMANCE, else beside the project."""
    directory = Path(os.environ.get("LDREADER_CONFORMANCE") or PROJECT.parent / "shared" / "conformance")
    if not directory.is_dir():
        lacking(f"no conformance cases: {directory} is not a directory", "LDREADER_REQUIRE_CONFORMANCE")
    return directory


def conformance_cases(file: str) -> list[dict[str, Any]]:
    """The cases of one conformance file; may be called while tests are collected."""
    cases: list[dict[str, Any]] = json.loads((conformance_directory() / file).read_text(encoding="utf-8"))
    return cases


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    """The directory of conformance cases."""
    return conformance_directory()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis server for all tests; those who stop it start it again, and each uses keys of its own."""
    with RedisServer() as server:
        yield server
