"""Store URLs: what opens, and what is said of one that does not."""

from __future__ import annotations

from typing import Any

import pytest

from ldreader import ConfigurationError, FileRequester, FlagReader, RedisRequester
from ldreader.requesters import open_requester


@pytest.mark.parametrize(
    ("url", "requester"),
    [
        ("redis://localhost", RedisRequester),
        ("rediss://user:pass@localhost:6380/1", RedisRequester),
        ("unix:///run/redis.sock?db=1", RedisRequester),
        ("REDIS://localhost", RedisRequester),
        ("file:flags.json", FileRequester),
    ],
)
def test_the_scheme_chooses_the_requester(url: str, requester: type) -> None:
    assert isinstance(open_requester(url), requester)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("reddis://localhost", "unknown store URL scheme 'reddis'; did you mean 'redis"),
        ("fil:x", "did you mean 'file'"),
        ("http://localhost", "unknown store URL scheme 'http'; known: "),
        ("localhost", "is no store URL; give one like redis://"),
        ("", "is no store URL"),
        (None, "is no store URL"),
    ],
)
def test_another_url_is_refused_with_a_hint(url: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        FlagReader.from_url(url)
    assert said in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, "soon", "", float("nan"), float("inf"), None.__class__, True, 1e9])
def test_a_timeout_must_be_a_number_of_seconds_above_zero(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        open_requester("redis://localhost", timeout=timeout)


@pytest.mark.parametrize("query", ["timeout=0", "timeout=soon", "timeout="])
def test_so_must_one_in_the_url(query: str) -> None:
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        open_requester(f"redis://localhost?{query}")


def test_a_url_with_a_bad_password_part_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_requester("redis://:s3cret@localhost:port")
    assert "s3cret" not in str(caught.value)
