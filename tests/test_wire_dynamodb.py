"""DynamoDB by ldreader's own client: when it is chosen, whose credentials it takes, and a bad server of every kind."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from binascii import crc32
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldreader.errors import ConfigurationError, StoreError
from ldreader.requesters.dynamodb import DynamoDBRequester, Wire
from ldreader.wire import credentials, sigv4
from tests.aws import ENVIRONMENT, FOREIGN, moto
from tests.proxy import Answer, Proxy, Relay, Sent
from tests.redis_fixtures import Certificates, answering_port, silent_port
from tests.servers import free_port

PROJECT = Path(__file__).parent.parent
WAIT = 0.5  # the timeout where one is waited for
MARGIN = 0.7  # what else a bounded wait may take, on a busy machine

SECRETS = {"AWS_ACCESS_KEY_ID": "AKIDHERE", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_SESSION_TOKEN": "t0ken=="}

ROW = {"namespace": {"S": "features"}, "key": {"S": "a"}, "item": {"S": "{}"}}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials, a region, and nothing else that AWS's clients look at."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in (ENVIRONMENT | SECRETS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))


def wire(port: int, timeout: float = WAIT, **options: Any) -> DynamoDBRequester:
    """A requester of what is on a port."""
    endpoint_url = options.pop("endpoint_url", f"http://127.0.0.1:{port}")
    return DynamoDBRequester.from_url(
        "dynamodb://flags", endpoint_url=endpoint_url, timeout=timeout, client="wire", **options
    )


def read(requester: DynamoDBRequester, deadline: float | None = None) -> object:
    return requester.get_many([("features", "a")], deadline)


FOUND = {("features", "a"): "{}"}


def trouble(ask: Callable[[], object]) -> str:
    """What a store error says: one line, with no secret."""
    with pytest.raises(StoreError) as caught:
        ask()
    message = str(caught.value)
    assert "\n" not in message
    assert not any(secret in message for secret in SECRETS.values())
    return message


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A response of HTTP."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


GOOD = reply(json.dumps({"Item": ROW}).encode())


@pytest.fixture
def nowhere() -> Iterator[Proxy]:
    """A server that answers as a test tells it to."""
    with Proxy(0, lambda sent: Answer(200, {}, json.dumps({"Item": ROW}).encode())) as proxy:
        yield proxy


def chosen(**options: Any) -> str:
    """The name of the client that serves it."""
    requester = DynamoDBRequester.from_url("dynamodb://flags", **options)
    requester.close()
    return type(requester._dynamodb).__name__


class TestTheChoice:
    def test_keys_in_the_environment_are_enough(self) -> None:
        assert chosen() == "Wire"
        assert chosen(client="boto3") == "Boto3"
        assert chosen(client="wire") == "Wire"

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("AWS_PROFILE", "staging", "AWS_PROFILE is set"),
            ("AWS_DEFAULT_PROFILE", "staging", "AWS_DEFAULT_PROFILE is set"),
            ("AWS_USE_FIPS_ENDPOINT", "True", "AWS_USE_FIPS_ENDPOINT is true"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "true", "AWS_USE_DUALSTACK_ENDPOINT is true"),
            ("AWS_ENDPOINT_DISCOVERY_ENABLED", "true", "AWS_ENDPOINT_DISCOVERY_ENABLED is true"),
            ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "required", "AWS_ACCOUNT_ID_ENDPOINT_MODE is required"),
            ("AWS_ENDPOINT_URL", "http://localhost:4566/path", "the endpoint has a path"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://me@localhost", "the endpoint is no plain http:// or https:// URL"),
            ("AWS_SECRET_ACCESS_KEY", "", "no AWS_SECRET_ACCESS_KEY"),
            ("AWS_ACCESS_KEY_ID", "", "there are no credentials in the environment"),
            ("HTTPS_PROXY", "http://127.0.0.1:3128", "there is a proxy"),
            ("https_proxy", "127.0.0.1:3128", "there is a proxy"),
        ],
    )
    def test_what_only_boto3_does_is_left_to_it(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
    ) -> None:
        monkeypatch.setenv(name, value)
        if name.endswith("_PROFILE"):
            config = Path.home() / "config"
            config.write_text("[profile staging]\nregion=us-east-1\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        assert chosen() == "Boto3"
        with pytest.raises(ConfigurationError, match="leave the option client out") as caught:
            chosen(client="wire")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("AWS_USE_FIPS_ENDPOINT", "false"),
            ("AWS_PROFILE", ""),
            ("HTTP_PROXY", "http://127.0.0.1:3128"),  # the endpoint has TLS
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000/"),
            ("AWS_CONFIG_FILE", "/nowhere/config"),
            ("AWS_SHARED_CREDENTIALS_FILE", ""),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"),  # comes after the keys
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/"),  # so does this
        ],
    )
    def test_what_changes_nothing_is_no_obstacle(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        assert chosen() == "Wire"

    def test_a_proxy_that_is_not_for_this_host_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
        monkeypatch.setenv("NO_PROXY", ".amazonaws.com")
        assert chosen() == "Wire"
        assert chosen(endpoint_url="https://other.example") == "Boto3"

    @pytest.mark.parametrize(
        ("variable", "usual"),
        [("AWS_CONFIG_FILE", ".aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")],
    )
    def test_a_file_of_settings_is_left_to_boto3(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, usual: str
    ) -> None:
        for path in (tmp_path / "elsewhere", tmp_path / usual):
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0)  # its content is not looked at
        monkeypatch.setenv(variable, "$HOME/elsewhere")
        with pytest.raises(ConfigurationError, match="there is a file of AWS settings, .*elsewhere"):
            chosen(client="wire")
        monkeypatch.delenv(variable)
        with pytest.raises(ConfigurationError, match=f"there is a file of AWS settings, ~/{usual}"):
            chosen(client="wire")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("BOTO_CONFIG", ""), ("AWS_CREDENTIAL_FILE", "")],
    )
    def test_what_boto3_asks_before_the_container_is_left_to_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
    ) -> None:
        borrow(monkeypatch, "http://127.0.0.1:1/")
        assert chosen(client="wire") == "Wire"
        (tmp_path / "old").touch()
        monkeypatch.setenv(name, value or str(tmp_path / "old"))
        with pytest.raises(ConfigurationError, match="cannot read this DynamoDB"):
            chosen(client="wire")

    def test_a_region_is_needed_and_found_as_boto3_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")  # which boto3 does not look at
        for client in (None, "boto3"):
            with pytest.raises(ConfigurationError, match="You must specify a region"):
                chosen(client=client)
        with pytest.raises(ConfigurationError, match="no region in the URL or in AWS_DEFAULT_REGION"):
            chosen(client="wire")
        assert chosen(region="eu-west-1") == "Wire"
        assert chosen(region="eu") == "Boto3"

    def test_an_unknown_client_is_refused(self) -> None:
        for url, options in (("dynamodb://flags?client=boto", {}), ("dynamodb://flags", {"client": "boto"})):
            with pytest.raises(ConfigurationError, match="unknown client for DynamoDB 'boto'; did you mean 'boto3'"):
                DynamoDBRequester.from_url(url, **options)  # type: ignore[arg-type]

    def test_nothing_is_contacted_and_nothing_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            address = f"http://127.0.0.1:{server.getsockname()[1]}"
            borrow(monkeypatch, address)
            monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nowhere")
            assert chosen(endpoint_url=address) == "Wire"
            with pytest.raises(BlockingIOError):
                server.accept()

    REGIONS = (
        *("us-east-1", "eu-central-1", "ap-southeast-7", "ca-west-1", "il-central-1", "mx-central-1", "af-south-1"),
        *("cn-north-1", "cn-northwest-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1"),
        *("eusc-de-east-1", "local", "aws-global", "us-east-1-fips", "xx-new-1", "us-east", "not_one"),
    )

    @pytest.mark.parametrize(
        "settings",
        [
            *({"AWS_DEFAULT_REGION": region} for region in REGIONS),
            {"AWS_ENDPOINT_URL": "http://localhost:4566"},
            {"AWS_ENDPOINT_URL": "http://one", "AWS_ENDPOINT_URL_DYNAMODB": "https://two:8443"},
            {"AWS_ENDPOINT_URL": "http://one", "AWS_ENDPOINT_URL_DYNAMODB": ""},
            {"AWS_ENDPOINT_URL": "http://one", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "TRUE"},
            {"AWS_ENDPOINT_URL_DYNAMODB": "http://one", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            {"AWS_ENDPOINT_URL_DYNAMODB": "http://[::1]:8000", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "no"},
        ],
        ids=lambda settings: ",".join(settings.values()),
    )
    def test_what_it_serves_is_where_boto3_would_go(
        self, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
    ) -> None:
        boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        try:
            opened = Wire.open(None, None, WAIT)
        except credentials.Unserved:
            assert settings.get("AWS_DEFAULT_REGION", "us-east-1") in self.REGIONS[10:]
            return
        url = boto3.session.Session().client("dynamodb").meta.endpoint_url
        secure = opened._http._endpoint._secure is not None
        assert f"{'https' if secure else 'http'}://{opened._http.host}" == url


def borrow(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """From here on the credentials are a container's."""
    for name in SECRETS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)


def verified(sent: Sent, key_id: str, secret: str) -> bool:
    """Whether botocore would have signed a request so."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    headers = {name: value for name, value in sent.headers.items() if name != "Authorization"}
    signed = sent.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert set(signed) == {name.lower() for name in headers} - {"content-length"}

    class AtThatTime(SigV4Auth):  # type: ignore[misc]
        def _modify_request_before_signing(self, request: Any) -> None:
            request.context["timestamp"] = headers["X-Amz-Date"]

    url = f"http://{headers['Host']}/"
    told = {name: value for name, value in headers.items() if name.lower() in signed}
    request = AWSRequest("POST", url, headers=told, data=sent.body, stream_output=False)
    auth = AtThatTime(Credentials(key_id, secret), "dynamodb", "us-east-1")
    request.context["timestamp"] = headers["X-Amz-Date"]
    canonical = auth.canonical_request(request)
    return (
        str(auth.signature(auth.string_to_sign(request, canonical), request))
        == (sent.headers["Authorization"].rpartition("Signature=")[2])
    )


class TestCredentials:
    def test_a_request_is_signed_as_botocore_would(self, nowhere: Proxy) -> None:
        assert read(wire(nowhere.port)) == FOUND
        (sent,) = nowhere.sent
        assert sent.headers["X-Amz-Security-Token"] == SECRETS["AWS_SESSION_TOKEN"]
        assert verified(sent, SECRETS["AWS_ACCESS_KEY_ID"], SECRETS["AWS_SECRET_ACCESS_KEY"])
        assert not verified(sent, SECRETS["AWS_ACCESS_KEY_ID"], "another")

    def test_the_environment_is_read_anew_for_each_request(
        self, nowhere: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requester = wire(nowhere.port)
        read(requester)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEXT")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
        monkeypatch.delenv("AWS_SESSION_TOKEN")
        read(requester)
        monkeypatch.setenv("AWS_SECURITY_TOKEN", "older name")
        read(requester)
        assert [sent.headers.get("X-Amz-Security-Token") for sent in nowhere.sent] == ["t0ken==", None, "older name"]
        assert verified(nowhere.sent[1], "AKIDNEXT", "other")
        requester.close()

    def test_keys_that_have_gone_are_a_store_error(self, nowhere: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        requester = wire(nowhere.port)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "give both; give credentials or a role" in trouble(lambda: read(requester))
        assert nowhere.sent == []

    @pytest.mark.parametrize("name", SECRETS)
    @pytest.mark.parametrize("character", ["\r\nX-Evil: 1", "\n", "\udce9", "é"])
    def test_a_character_that_no_header_takes_is_a_store_error(
        self, nowhere: Proxy, monkeypatch: pytest.MonkeyPatch, name: str, character: str
    ) -> None:
        monkeypatch.setenv(name, SECRETS[name] + character)
        assert "hold a character that does not belong" in trouble(lambda: read(wire(nowhere.port)))
        assert nowhere.sent == []


class Lender:
    """A container's endpoint for credentials."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.lasts = 3600.0
        self.answer: Answer | None = None
        proxy.instead = self.lend

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}/lend?to=me"

    @property
    def asked(self) -> int:
        return len(self.proxy.sent)

    def lend(self, sent: Sent) -> Answer:
        if self.answer is not None:
            return self.answer
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lasts))
        lent = {
            "AccessKeyId": f"LENT{self.asked}",
            "SecretAccessKey": "s3cret",
            "Token": "t0ken==",
            "Expiration": expires,
        }
        return Answer(200, {}, json.dumps(lent).encode())


class TestTheCredentialsOfAContainer:
    @pytest.fixture
    def lender(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lender]:
        with Proxy(0) as proxy:
            lender = Lender(proxy)
            borrow(monkeypatch, lender.url)
            yield lender

    @pytest.fixture
    def later(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Lets so many seconds pass, by the clock of the world alone: as for a process that was frozen."""
        passed = [0.0]
        own = SimpleNamespace(**{name: getattr(time, name) for name in ("monotonic", "strftime", "gmtime")})
        own.time = lambda: time.time() + passed[0]
        monkeypatch.setattr(credentials, "time", own)

        def let_pass(seconds: float) -> None:
            passed[0] += seconds

        return let_pass

    def keys_used(self, nowhere: Proxy) -> list[str]:
        return [sent.headers["Authorization"].partition("Credential=")[2].partition("/")[0] for sent in nowhere.sent]

    def test_they_are_fetched_once(
        self, nowhere: Proxy, lender: Lender, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc=")
        requester = wire(nowhere.port)
        for _ in range(3):
            assert read(requester) == FOUND
            later(900)
        (asked,) = lender.proxy.sent
        assert (asked.method, asked.path, asked.headers["Authorization"]) == ("GET", "/lend?to=me", "Basic abc=")
        assert self.keys_used(nowhere) == ["LENT1"] * 3
        assert nowhere.sent[0].headers["X-Amz-Security-Token"] == "t0ken=="
        assert verified(nowhere.sent[0], "LENT1", "s3cret")
        requester.close()

    def test_they_are_renewed_before_they_expire(
        self, nowhere: Proxy, lender: Lender, later: Callable[[float], None]
    ) -> None:
        requester = wire(nowhere.port)
        read(requester)
        later(3600 - credentials.REFRESHED_BEFORE + 1)
        lender.lasts = 7200
        read(requester)
        read(requester)
        assert self.keys_used(nowhere) == ["LENT1", "LENT2", "LENT2"]
        requester.close()

    def test_while_renewing_fails_the_old_ones_are_used_until_they_expire(
        self, nowhere: Proxy, lender: Lender, later: Callable[[float], None]
    ) -> None:
        requester = wire(nowhere.port)
        read(requester)
        later(3400)
        lender.answer = Answer(500, {}, b"s3cret")
        for _ in range(3):
            assert read(requester) == FOUND
        assert lender.asked == 2  # not once for each
        later(credentials.TRIED_AGAIN_AFTER + 1)
        assert read(requester) == FOUND
        assert lender.asked == 3
        later(200)
        assert "answered with status 500; give credentials or a role" in trouble(lambda: read(requester))
        lender.answer = None
        lender.lasts = 7200
        assert read(requester) == FOUND
        assert self.keys_used(nowhere) == ["LENT1"] * 5 + ["LENT5"]
        requester.close()

    def test_renewing_is_tried_again_when_the_clock_was_set_back(
        self, nowhere: Proxy, lender: Lender, later: Callable[[float], None]
    ) -> None:
        requester = wire(nowhere.port)
        read(requester)
        later(3400)
        lender.answer = Answer(500, {}, b"")
        assert read(requester) == FOUND
        later(-credentials.TRIED_AGAIN_AFTER - 1)
        assert read(requester) == FOUND
        assert lender.asked == 3
        requester.close()

    def test_closing_forgets_them_and_what_was_made_of_them(self, nowhere: Proxy, lender: Lender) -> None:
        requester = wire(nowhere.port)
        read(requester)
        assert "s3cret" in repr(sigv4._last_key)
        requester.close()
        assert sigv4._last_key == sigv4._NO_KEY
        read(requester)
        assert self.keys_used(nowhere) == ["LENT1", "LENT2"]
        assert lender.proxy.connections == 2
        requester.close()

    def test_while_renewing_hangs_there_is_time_for_the_old_ones(
        self, nowhere: Proxy, lender: Lender, later: Callable[[float], None]
    ) -> None:
        requester = wire(nowhere.port, 10)
        read(requester)
        later(3400)
        over = threading.Event()
        lender.proxy.instead = lambda sent: Answer(500, {}, b"") if over.wait(20) else None
        assert read(requester, time.monotonic() + 1) == FOUND
        over.set()
        assert self.keys_used(nowhere) == ["LENT1"] * 2
        requester.close()

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b'{"Code": "Failed", "Message": "s3cret"}',
            b'{"AccessKeyId": 1, "SecretAccessKey": "s3cret", "Token": "", "Expiration": ""}',
            b'{"AccessKeyId": "A", "SecretAccessKey": "s3cret", "Token": null, "Expiration": "2099-01-01T00:00:00Z"}',
            b"\xff",
            b"[" * 100_000,
        ],
        ids=range(7),
    )
    def test_an_answer_without_credentials_is_a_store_error(self, nowhere: Proxy, lender: Lender, body: bytes) -> None:
        lender.answer = Answer(200, {}, body)
        assert "answered with none" in trouble(lambda: read(wire(nowhere.port)))
        assert nowhere.sent == []

    def test_a_time_in_another_form_is_taken_for_over(self, nowhere: Proxy, lender: Lender) -> None:
        lent = {"AccessKeyId": "A", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00+09:00"}
        lender.answer = Answer(200, {}, json.dumps(lent).encode())
        requester = wire(nowhere.port)
        assert [read(requester), read(requester)] == [FOUND, FOUND]
        assert lender.asked == 2
        requester.close()

    def test_a_token_file_is_read_anew_each_time(
        self,
        nowhere: Proxy,
        lender: Lender,
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        token = tmp_path / "token"
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this")
        requester = wire(nowhere.port)
        assert "names no file that can be read" in trouble(lambda: read(requester))
        token.write_text("first\n")
        assert "token holds a character that does not belong" in trouble(lambda: read(requester))
        for text in ("second", "third"):
            token.write_text(text)
            read(requester)
            later(3600)
        assert [sent.headers["Authorization"] for sent in lender.proxy.sent] == ["second", "third"]
        requester.close()

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("http://127.0.0.1:1/a", "127.0.0.1:1"),
            ("http://127.9.9.9/a", "127.9.9.9"),
            ("http://localhost/a", "localhost"),
            ("http://[::1]:8/a", "[::1]:8"),
            ("http://169.254.170.2/a", "169.254.170.2"),
            ("http://169.254.170.23/a", "169.254.170.23"),
            ("http://[fd00:ec2::23]/a", "[fd00:ec2::23]"),
            ("https://example.com/a", "example.com"),
            ("http://example.com/a", None),
            ("http://169.254.169.254/a", None),
            ("http://127.0.0.1.example.com/a", None),
            ("http://127.0.0.1@example.com/a", None),
            ("http://127.1/a", None),
            ("ftp://127.0.0.1/a", None),
            ("nonsense", None),
        ],
    )
    def test_only_hosts_that_boto3_would_ask_are_asked(
        self, monkeypatch: pytest.MonkeyPatch, url: str, host: str | None
    ) -> None:
        borrow(monkeypatch, url)
        if host is None:
            with pytest.raises(credentials.Unserved):
                credentials.find(WAIT, ssl.create_default_context)
            return
        from botocore.utils import ContainerMetadataFetcher

        ContainerMetadataFetcher()._validate_allowed_url(url)
        container = credentials.find(WAIT, ssl.create_default_context)
        assert container is not None
        assert (container._http.host, container._target) == (host, "/a")

    def test_a_relative_address_comes_first_and_is_on_one_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        borrow(monkeypatch, "http://127.0.0.1/b")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1-2")
        container = credentials.find(WAIT, ssl.create_default_context)
        assert container is not None
        assert (container._http.host, container._target) == ("169.254.170.2", "/v2/credentials/1-2")
        for elsewhere in ("@example.com/", ".example.com/"):
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", elsewhere)
            with pytest.raises(credentials.Unserved):
                credentials.find(WAIT, ssl.create_default_context)

    def test_an_endpoint_that_is_silent_costs_no_more_than_the_timeout(
        self, nowhere: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with silent_port() as port:
            borrow(monkeypatch, f"http://127.0.0.1:{port}/")
            begin = time.monotonic()
            assert "endpoint for credentials did not answer: timed out" in trouble(lambda: read(wire(nowhere.port)))
            assert time.monotonic() - begin < WAIT + MARGIN

    @pytest.mark.parametrize("deadline", [None, 1.0, 100.0])
    def test_credentials_and_reply_together_have_twice_the_timeout(self, deadline: float | None) -> None:
        ends = []

        def keys(end: float) -> tuple[str, str, str]:
            ends.append(end)
            return "AKID", "s3cret", ""

        def exchange(*arguments: Any) -> tuple[int, dict[str, str], bytes]:
            ends.append(arguments[-1])
            return 200, {}, b"{}"

        http: Any = SimpleNamespace(host="localhost", exchange=exchange)
        begin = time.monotonic()
        latest = begin + 2 * 5.0 if deadline is None else min(begin + deadline, begin + 2 * 5.0)
        lender: Any = SimpleNamespace(keys=keys)
        Wire(http, "us-east-1", lender, 5.0).call("GetItem", {}, None if deadline is None else begin + deadline)
        assert len(ends) == 2
        assert all(latest <= end < latest + MARGIN for end in ends)

    def test_the_deadline_is_theirs_too(self, nowhere: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        with silent_port() as port:
            borrow(monkeypatch, f"http://127.0.0.1:{port}/")
            requester = wire(nowhere.port, timeout=5)
            begin = time.monotonic()
            trouble(lambda: read(requester, begin + 0.2))
            assert time.monotonic() - begin < 0.2 + MARGIN


MALFORMED = {
    "no HTTP": b"nonsense\r\n\r\n",
    "another protocol": b"RTSP/1.0 200 OK\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "headers without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "headers without an end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300,
    "a line without an end": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000,
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "a length that is huge": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n",
    "a length that is less than none": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a coding that nobody asked for": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "no body": reply(b""),
    "no JSON": reply(b"<html>\n</html>"),
    "no UTF-8": reply(b'{"Item": "\xff"}'),
    "JSON that nests without an end": reply(b"[" * 100_000),
    "JSON that is no object": reply(b"[]"),
    "JSON that is null": reply(b"null"),
    "NaN": reply(b'{"Item": {"a": NaN}}'),
    "an item that is no row": reply(b'{"Item": 7}'),
    "an item of plain values": reply(b'{"Item": {"item": "{}"}}'),
    "a redirection": reply(b"", "301 Moved", "Location: http://example.com/"),
    "an error of somebody else": reply(b"<h1>Bad Gateway</h1>\n", "502 Bad Gateway"),
    "an error without a code": reply(b'{"message": "no"}', "400 Bad Request"),
    "an error that is no object": reply(b'"no"', "400 Bad Request"),
    "an error whose code is no text": reply(b'{"__type": 7}', "400 Bad Request"),
}


def always(data: bytes) -> Callable[[socket.socket, bytes, threading.Event], None]:
    """Answers every request so."""

    def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
        connection.sendall(data)

    return answer


class TestABadServer:
    @pytest.mark.parametrize("kind", MALFORMED)
    def test_a_malformed_reply_is_a_store_that_does_not_answer(self, kind: str) -> None:
        with answering_port(always(MALFORMED[kind])) as port:
            requester = wire(port)
            message = trouble(lambda: read(requester))
            assert "DynamoDB did not answer: " in message
            assert message.endswith("; check the network, the region and the URL")
            requester.close()

    @pytest.mark.parametrize(
        "body",
        [
            b'{"Responses": []}',
            b'{"Responses": {"flags": [7]}}',
            b'{"Responses": {"flags": null}}',
            b'{"UnprocessedKeys": {"flags": {}}}',
            b'{"UnprocessedKeys": {"flags": {"Keys": ["a"]}}}',
        ],
    )
    def test_so_is_a_malformed_batch(self, body: bytes) -> None:
        with answering_port(always(reply(body))) as port:
            requester = wire(port)
            assert "malformed" in trouble(lambda: requester.get_many([("features", "a"), ("features", "b")]))
            requester.close()

    @pytest.mark.parametrize("body", [b'{"Items": 7}', b'{"Items": [7]}', b'{"Items": [], "LastEvaluatedKey": "a"}'])
    def test_so_is_a_malformed_page(self, body: bytes) -> None:
        with answering_port(always(reply(body))) as port:
            requester = wire(port)
            assert "malformed" in trouble(requester.get_all)
            requester.close()

    @pytest.mark.parametrize(
        "row",
        [{"included": {"SS": [[], {}, 7]}}, {"included": {"SS": 7}}, {"included": {}}, {"synchronizedOn": {"N": []}}],
    )
    def test_a_membership_of_another_type_says_nothing(self, row: dict[str, Any]) -> None:
        found = [{"namespace": {"S": "big_segments_user"}, "key": {"S": "h"}, **row}]
        found += [{"namespace": {"S": "big_segments_metadata"}, "key": {"S": "big_segments_metadata"}, **row}]
        with answering_port(always(reply(json.dumps({"Responses": {"flags": found}}).encode()))) as port:
            requester = wire(port)
            metadata, memberships = requester.get_big_segments(["h"])
            assert (metadata.last_up_to_date, memberships) == (None, {"h": None})
            requester.close()

    def test_a_page_that_follows_itself_has_an_end(self) -> None:
        body = json.dumps({"Items": [], "LastEvaluatedKey": {"namespace": {"S": "n"}, "key": {"S": "k"}}}).encode()
        with answering_port(always(reply(body))) as port:
            requester = wire(port)
            assert "the same page again" in trouble(requester.get_all)
            requester.close()

    @pytest.mark.parametrize("cut", [1, 20, len(GOOD) - 1])
    def test_a_reply_that_is_cut_is_a_store_error(self, cut: int) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(GOOD[:cut])
            connection.shutdown(socket.SHUT_WR)

        with answering_port(answer) as port:
            assert "the server closed the connection" in trouble(lambda: read(wire(port)))

    def test_a_server_that_hangs_up_at_once_is_a_store_error(self) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.close()

        with answering_port(answer) as port:
            assert "DynamoDB did not answer" in trouble(lambda: read(wire(port)))

    def test_a_closed_port_is_a_store_error_at_once(self) -> None:
        begin = time.monotonic()
        assert "Connection refused" in trouble(lambda: read(wire(free_port())))
        assert time.monotonic() - begin < MARGIN

    def test_a_silent_server_costs_the_timeout(self) -> None:
        with silent_port() as port:
            begin = time.monotonic()
            assert "timed out" in trouble(lambda: read(wire(port)))
            assert time.monotonic() - begin < WAIT + MARGIN

    def test_a_reply_that_trickles_in_costs_the_timeout(self) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            for index in range(len(GOOD)):
                connection.sendall(GOOD[index : index + 1])
                over.wait(0.05)

        with answering_port(answer) as port:
            begin = time.monotonic()
            assert "timed out" in trouble(lambda: read(wire(port)))
            assert time.monotonic() - begin < WAIT + MARGIN

    @pytest.mark.parametrize("checksum", [str(crc32(b"other")), "nonsense", ""])
    def test_a_reply_that_was_damaged_is_asked_for_again(self, nowhere: Proxy, checksum: str) -> None:
        body = json.dumps({"Item": ROW}).encode()
        checksums = [checksum, str(crc32(body))]
        nowhere.instead = lambda sent: Answer(200, {"X-Amz-Crc32": checksums.pop(0)}, body)
        assert read(wire(nowhere.port)) == FOUND
        nowhere.instead = lambda sent: Answer(200, {"X-Amz-Crc32": checksum}, body)
        assert "damaged on the way" in trouble(lambda: read(wire(nowhere.port)))

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(
                400, {}, b'{"__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "message": "x"}'
            ),
            Answer(400, {}, b'{"__type": "ResourceNotFoundException"}'),
            Answer(400, {"X-Amzn-ErrorType": "ResourceNotFoundException:http://aws.example/"}, b'{"Message": "x"}'),
        ],
        ids=range(3),
    )
    def test_an_error_is_known_by_its_code_wherever_it_stands(self, nowhere: Proxy, answer: Answer) -> None:
        nowhere.instead = lambda sent: answer
        requester = wire(nowhere.port)
        assert "there is no table 'flags' in this region and account" in trouble(lambda: read(requester))
        requester.close()


class TestAKeptConnection:
    def test_one_connection_serves_many_reads(self, nowhere: Proxy) -> None:
        requester = wire(nowhere.port)
        for _ in range(5):
            assert read(requester) == FOUND
        assert nowhere.connections == 1
        requester.close()

    def test_one_that_the_server_closed_is_made_anew(self) -> None:
        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            connection.sendall(GOOD)
            connection.close()

        with answering_port(answer) as port:
            requester = wire(port)
            for _ in range(5):
                assert read(requester) == FOUND
            requester.close()

    def test_one_that_died_silently_is_made_anew_in_time(self) -> None:
        first: list[socket.socket] = []

        def answer(connection: socket.socket, asked: bytes, over: threading.Event) -> None:
            if not first:
                first.append(connection)
            elif connection is first[0]:
                return  # as if the packets went nowhere
            connection.sendall(GOOD)

        with answering_port(answer) as port:
            requester = wire(port)
            assert read(requester) == FOUND
            begin = time.monotonic()
            assert read(requester) == FOUND
            assert time.monotonic() - begin < WAIT + MARGIN
            requester.close()

    def test_a_server_that_was_started_again_is_read(self) -> None:
        with moto() as server:
            server.create_table("flags")
            requester = wire(server.port, timeout=5)
            assert read(requester) == {}
            server.stop()
            assert "Connection refused" in trouble(lambda: read(requester))
            server.start()
            server.create_table("flags")
            assert read(requester) == {}
            requester.close()

    def test_threads_get_their_own_answers(self, nowhere: Proxy) -> None:
        def echo(sent: Sent) -> Answer:
            key = json.loads(sent.body)["Key"]["key"]["S"]
            return Answer(200, {}, json.dumps({"Item": {**ROW, "item": {"S": key}}}).encode())

        nowhere.instead = echo
        requester = wire(nowhere.port, timeout=10)

        def work(worker: int) -> bool:
            refs = [("features", f"{worker}-{index}") for index in range(40)]
            return all(requester.get_many([ref]) == {ref: ref[1]} for ref in refs)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(8)))
        requester.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class TestTls:
    @pytest.fixture
    def secured(self, nowhere: Proxy, certificates: Certificates) -> Proxy:
        """The same server, behind TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
        nowhere._server.socket = context.wrap_socket(nowhere._server.socket, server_side=True)
        return nowhere

    def requester(self, port: int, client: str, host: str = "127.0.0.1") -> DynamoDBRequester:
        return DynamoDBRequester.from_url(
            "dynamodb://flags", endpoint_url=f"https://{host}:{port}", timeout=5, client=client
        )

    @pytest.mark.parametrize("client", ["wire", "boto3"])
    @pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
    def test_an_authority_named_by_the_environment_is_trusted(
        self, secured: Proxy, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, client: str, variable: str
    ) -> None:
        monkeypatch.setenv(variable, str(certificates.ca))
        requester = self.requester(secured.port, client)
        assert [read(requester), read(requester)] == [FOUND, FOUND]
        requester.close()

    def test_a_connection_is_kept_although_it_slept_and_replaced_when_it_died(
        self, secured: Proxy, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.ca))
        real = time.time
        with Relay(secured.port) as relay:
            requester = self.requester(relay.port, "wire")
            for number, dies in enumerate((lambda: None, relay.swallow, relay.cut), 1):
                assert read(requester) == FOUND
                monkeypatch.setattr(time, "time", lambda: real() + 2 * number)  # noqa: B023
                assert read(requester) == FOUND
                assert relay.connections == max(number - 1, 1)
                dies()
                monkeypatch.setattr(time, "time", lambda: real() + 2 * number + 1)  # noqa: B023
                assert read(requester, time.monotonic() + 1) == FOUND
                assert relay.connections == number
            requester.close()

    @pytest.mark.parametrize("client", ["wire", "boto3"])
    def test_an_authority_that_nobody_knows_is_not(self, secured: Proxy, client: str) -> None:
        assert "certificate verify failed" in trouble(lambda: read(self.requester(secured.port, client)))
        assert secured.sent == []

    @pytest.mark.parametrize("client", ["wire", "boto3"])
    def test_nor_is_a_certificate_of_another_host(
        self, secured: Proxy, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, client: str
    ) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.ca))
        message = trouble(lambda: read(self.requester(secured.port, client, "localhost")))
        assert "localhost" in message
        assert secured.sent == []

    @pytest.mark.parametrize("client", ["wire", "boto3"])
    def test_a_bundle_that_is_not_there_is_a_store_error(
        self, secured: Proxy, monkeypatch: pytest.MonkeyPatch, client: str
    ) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
        assert "DynamoDB" in trouble(lambda: read(self.requester(secured.port, client)))

    def test_a_server_that_never_shakes_hands_costs_the_timeout(self) -> None:
        with silent_port() as port:
            requester = wire(0, endpoint_url=f"https://127.0.0.1:{port}")
            begin = time.monotonic()
            assert "timed out" in trouble(lambda: read(requester))
            assert time.monotonic() - begin < WAIT + MARGIN


COLD = f"""
import sys, _socket  # and nothing else that is public
sys.path.insert(0, {str(PROJECT)!r})
from ldreader import FlagReader
with FlagReader.from_url(sys.argv[1]) as reader:
    assert reader.variation("a", {{"kind": "user", "key": "u"}}, None) == "on"
dear = {{"base64", "boto3", "datetime", "hashlib", "hmac", "json", "re", "socket", "ssl", "typing", "urllib"}}
print(sorted(dear & set(sys.modules)))
"""


@pytest.mark.parametrize("lent", [False, True], ids=["environment", "container"])
def test_a_cold_evaluation_loads_nothing_dear(nowhere: Proxy, monkeypatch: pytest.MonkeyPatch, lent: bool) -> None:
    flag = {"key": "a", "version": 1, "on": True, "variations": ["on"], "fallthrough": {"variation": 0}}
    body = json.dumps({"Item": {**ROW, "item": {"S": json.dumps(flag)}}}).encode()
    nowhere.instead = lambda sent: Answer(200, {"X-Amz-Crc32": str(crc32(body))}, body)
    with Proxy(0) as proxy:
        if lent:
            borrow(monkeypatch, Lender(proxy).url)
        url = f"dynamodb://flags?endpoint_url=http%3A%2F%2F127.0.0.1:{nowhere.port}"
        program = [sys.executable, "-I", "-S", "-W", "error", "-c", COLD, url]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, env=os.environ)
        assert (done.stdout, done.stderr) == ("[]\n", "")
        assert len(proxy.sent) == lent
