"""Store URLs: what opens, and what is said of one that does not."""

from __future__ import annotations

import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from ldreader import ConfigurationError, FileRequester, FlagReader, LdreaderError, MissingDependency, RedisRequester
from ldreader.requesters import open_requester, unquote

PROJECT = Path(__file__).parent.parent
STORES = ("redis://localhost", "rediss://localhost", "unix:///nowhere.sock", "file:flags.json")


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
        ("localhost", "no store URL; give one like redis://"),
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


@pytest.mark.parametrize("url", ["REDIS://localhost", "Rediss://localhost", "UNIX:///nowhere.sock", "File:flags.json"])
def test_a_scheme_may_be_written_in_capitals(url: str) -> None:
    requester = open_requester(url)
    assert isinstance(requester, FileRequester if url.startswith("File") else RedisRequester)


@pytest.mark.parametrize(
    ("url", "nearest"),
    [
        ("redi://localhost", "redis"),
        ("redsi://localhost", "redis"),
        ("Redist://localhost", "redis"),
        ("redisss://localhost", "rediss"),
        ("unixx:///redis.sock", "unix"),
        ("files:flags.json", "file"),
        ("fil:flags.json", "file"),
    ],
)
def test_an_unknown_scheme_names_the_nearest(url: str, nearest: str) -> None:
    scheme = url.partition(":")[0].lower()
    with pytest.raises(ConfigurationError) as caught:
        open_requester(url)
    assert str(caught.value) == f"unknown store URL scheme {scheme!r}; did you mean {nearest!r}?"


@pytest.mark.parametrize("url", ["https://app.launchdarkly.com", "C:\\flags.json", "://x", ":", "0:1"])
def test_a_scheme_that_is_near_to_none_names_them_all(url: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match="unknown store URL scheme .*; known: consul, .*dynamodb, .*, unix$",
    ):
        open_requester(url)


@pytest.mark.parametrize(
    "url", ["", "s3cret@localhost", "flags.json", "/srv/flags.json", None, 7, b"redis://:s3cret@localhost"]
)
def test_what_is_no_url_is_refused_with_an_example(url: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_requester(url)
    assert str(url or "nothing") not in str(caught.value).partition(";")[0]  # it may hold a password
    assert "redis://localhost:6379" in str(caught.value)
    assert "file:flags.json" in str(caught.value)


BAD_TIMEOUTS = [0, -1, 0.0, "0", "-1", "soon", "nan", "inf", float("nan"), float("inf"), 1e6, 10**400, True, [], {}]


@pytest.mark.parametrize("url", STORES)
@pytest.mark.parametrize("timeout", BAD_TIMEOUTS, ids=lambda timeout: repr(timeout)[:12])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(url: str, timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        open_requester(url, timeout=timeout)


@pytest.mark.parametrize("url", STORES)
@pytest.mark.parametrize("timeout", ["", "0", "-1", "soon", "nan", "inf", "1e6", "true"])
def test_such_a_timeout_in_a_url_is_refused_too(url: str, timeout: str) -> None:
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        open_requester(f"{url}?timeout={timeout}")


@pytest.mark.parametrize("url", STORES)
@pytest.mark.parametrize("timeout", [1, 0.05, "2.5", None])
def test_a_timeout_in_seconds_is_taken_by_every_store(url: str, timeout: Any) -> None:
    open_requester(url, timeout=timeout)
    open_requester(f"{url}?timeout=1.5", timeout=timeout)


@pytest.mark.parametrize("url", STORES)
def test_a_good_timeout_in_code_wins_over_a_bad_one_in_the_url(url: str) -> None:
    open_requester(f"{url}?timeout=soon", timeout=1)


@pytest.mark.parametrize(
    ("query", "options"),
    [("?timout=1", {}), ("?timout=", {}), ("?timout", {}), ("?prefix=", {"timout": 1}), ("", {"timout": None})],
)
@pytest.mark.parametrize("url", STORES[:3])
def test_an_unknown_option_names_the_nearest(url: str, query: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="'timout'; did you mean 'timeout'"):
        open_requester(f"{url}{query}", **options)


@pytest.mark.parametrize(("query", "options"), [("?prefix=a", {}), ("?prefix=", {}), ("", {"prefix": "a"})])
def test_an_option_of_another_store_is_unknown(query: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="unknown option for a file of flags 'prefix'"):
        open_requester(f"file:flags.json{query}", **options)


def test_the_last_of_a_repeated_option_counts() -> None:
    open_requester("redis://localhost?timeout=soon&timeout=1&&")
    with pytest.raises(ConfigurationError, match="'soon'"):
        open_requester("redis://localhost?timeout=1&timeout=soon")


@pytest.mark.parametrize(
    "text",
    [
        *("", "plain", "%41", "a%20b", "%e2%9c%93", "%E2%9c", "%ff", "%", "%%", "%4", "%zz", "%4%41", "100%", "% 41"),
        *("%2525", "é%41é", "%+1", "%0x", "%_1", "%41%", "+", "%\u0661\u0661", "%00"),
    ],
)
def test_escapes_are_resolved_as_everybody_resolves_them(text: str) -> None:
    assert unquote(text) == urllib.parse.unquote(text)


def test_a_wrong_set_up_is_a_value_error_of_ldreader() -> None:
    assert issubclass(MissingDependency, ConfigurationError)
    assert issubclass(ConfigurationError, LdreaderError)
    with pytest.raises(ValueError, match="scheme"):
        open_requester("nowhere:x")


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("redis://localhost?client=redis-py", "redis", "redis"),
        ("redis+sentinel://localhost/flags", "redis", "redis"),
        ("rediss+cluster://localhost", "redis", "redis"),
        ("file:flags.yml", "yaml", "yaml"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency) as caught:
        FlagReader.from_url(url)
    assert f"the package {package!r} is not installed" in str(caught.value)
    assert f"pip install 'ldreader[{extra}]'" in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_reader_opens_with_the_options_of_its_store() -> None:
    with pytest.raises(ConfigurationError, match="'prefx'; did you mean 'prefix'"):
        FlagReader.from_url("redis://localhost", prefx="staging")
    FlagReader.from_url("redis://localhost", prefix="staging", timeout=1, offline=True)


@pytest.mark.parametrize("url", STORES[:3])
def test_one_redis_is_opened_without_the_package(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    assert isinstance(open_requester(url), RedisRequester)


def test_a_json_file_is_opened_and_read_without_any_client_package(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text('{"flagValues": {"v": 1}}')
    program = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from ldreader.requesters import open_requester
assert open_requester({f"file:{path}"!r}).get_all()["features"].keys() == {{"v"}}
assert not {{"redis", "yaml", "ldreader.requesters.redis"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("consul://localhost", {"token": "s3cret\n"}),
        ("consul://:s3cret%0A@localhost", {}),
        ("consul://localhost:s3cret", {}),
        ("dynamodb://flags?region=x", {"endpoint_url": "http://me:s3cret@localhost"}),
        ("dynamodb://flags?region=x", {"endpoint_url": "me:s3cret@localhost"}),
        ("dynamodb://?s3cret", {}),
    ],
)
def test_what_may_be_a_secret_is_not_shown_when_opening_fails(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_requester(url, **options)
    if "?s3cret" not in url:  # the name of an option is no secret
        assert "s3cret" not in str(caught.value)
