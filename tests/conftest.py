"""What the tests share: a Redis server and LaunchDarkly's conformance cases."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.aws import ENVIRONMENT, FOREIGN, DynamoDBServer, amazons_own, moto
from tests.consul_agent import ConsulAgent
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


@pytest.fixture(scope="session")
def aws_environment() -> Iterator[None]:
    """Credentials that any server for tests takes, and nothing of the machine's own."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in FOREIGN:
            monkeypatch.delenv(name, raising=False)
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        # Each client would read the same large files again.
        session = pytest.importorskip("botocore.session", reason="boto3 is not installed")
        monkeypatch.setattr(session, "create_loader", cache(session.create_loader))
        yield


@pytest.fixture(scope="session")
def dynamodb(aws_environment: None) -> Iterator[DynamoDBServer]:
    """One DynamoDB for all tests; each uses a table or a prefix of its own."""
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def other_dynamodb(aws_environment: None) -> Iterator[DynamoDBServer]:
    """Another implementation of DynamoDB, written by others than the first."""
    with amazons_own() as server:
        yield server


@pytest.fixture(scope="session")
def consul_server() -> Iterator[ConsulAgent]:
    """One Consul agent for all tests; those who stop it start it again, and each uses a prefix of its own."""
    with ConsulAgent() as agent:
        yield agent
