"""The CGI example, run by web servers that speak CGI, on a Redis that the official SDK's writer fills."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from ldclient import Context as OfficialContext
from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.feature_store import CacheConfig
from ldclient.integrations import Redis
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from tests.servers import PATIENCE, RedisServer, free_port, lacking, until

PROJECT = Path(__file__).parent.parent
PROGRAM = PROJECT / "examples" / "cgi_page.py"
SHOP = json.loads((PROJECT / "examples" / "shop.json").read_text(encoding="utf-8"))
DEFAULTS = "Welcome\nYou see the old checkout.\n"
ADA = {"customer": "ada", "country": "GB", "plan": "gold"}
REQUESTS = 120


class Page(NamedTuple):
    """What a web server answered."""

    status: int
    kind: str | None
    text: str


class WebServer:
    """A web server of this machine that runs the example, for the length of a ``with`` block."""

    def __init__(self, name: str, directory: Path, store: str | None) -> None:
        self._directory = directory
        programs = directory / "root" / "cgi-bin"
        programs.mkdir(parents=True)
        (programs / "page.py").symlink_to(PROGRAM)
        self._variables = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        self._variables |= {"LDREADER_STORE": store} if store else {}
        self._command = self._busybox if name == "busybox" else self._lighttpd
        self.port = 0

    def get(self, query: dict[str, str], **headers: str) -> Page:
        """The page for a query."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", f"/cgi-bin/page.py?{urlencode(query)}", headers=headers)
            response = connection.getresponse()
            return Page(response.status, response.getheader("Content-Type"), response.read().decode())
        finally:
            connection.close()

    def __enter__(self) -> WebServer:
        self.port = free_port()
        command = self._command()
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, env=self._variables, stdout=log, stderr=log)
        until(self._answers, f"{command[0]} to start:\n{(self._directory / 'log').read_text()}")
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _answers(self) -> bool:
        with socket.socket() as connection:
            return self._process.poll() is None and connection.connect_ex(("127.0.0.1", self.port)) == 0

    def _busybox(self) -> list[str]:
        program = found("busybox")
        return [program, "httpd", "-f", "-p", f"127.0.0.1:{self.port}", "-h", str(self._directory / "root")]

    def _lighttpd(self) -> list[str]:
        program = found("lighttpd")
        # What goes into a program's environment has to be said.
        variables = ", ".join(f"{json.dumps(name)} => {json.dumps(value)}" for name, value in self._variables.items())
        configuration = self._directory / "lighttpd.conf"
        configuration.write_text(
            f"""
            server.document-root = "{self._directory / "root"}"
            server.bind = "127.0.0.1"
            server.port = {self.port}
            server.modules = ("mod_cgi", "mod_setenv")
            setenv.set-environment = ({variables})
            cgi.assign = (".py" => "")
            """,
            encoding="utf-8",
        )
        modules = Path(program).parent.parent / "lib" / "lighttpd"
        return [program, "-D", "-f", str(configuration), *(["-m", str(modules)] if modules.is_dir() else [])]


def found(name: str) -> str:
    """The program of that name, where the system has it or where install-servers.sh has put it."""
    servers = Path(os.environ.get("LDREADER_SERVERS") or Path.home() / ".cache" / "ldreader-servers")
    places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", str(servers / name / "usr" / "sbin")])
    program = shutil.which(name, path=places)
    if program is None:
        lacking(f"{name} is not installed: sh tests/install-servers.sh", "LDREADER_REQUIRE_SERVERS")
    return program


class Writer:
    """The official SDK's store for Redis, through which the shop's flags are written, and the SDK that reads them."""

    def __init__(self, url: str) -> None:
        self._store = Redis.new_feature_store(url=url, caching=CacheConfig.disabled())
        self._store.init({FEATURES: SHOP["flags"], SEGMENTS: SHOP["segments"]})
        self._version = 1000
        self._client = LDClient(Config("sdk-key", use_ldd=True, feature_store=self._store, send_events=False))

    def write(self, key: str, **changes: Any) -> None:
        """Writes a new version of a flag."""
        self._version += 1
        self._store.upsert(FEATURES, SHOP["flags"][key] | changes | {"version": self._version})  # type: ignore[no-untyped-call]

    def page(self, visitor: dict[str, str]) -> str:
        """What the example has to show, by the official SDK."""
        builder = OfficialContext.builder(visitor["customer"])
        for name in ("country", "plan", "locale"):
            builder.set(name, visitor.get(name))
        context = builder.build()
        checkout = "new" if self._client.variation("new-checkout", context, None) else "old"
        return f"{self._client.variation('banner-text', context, None)}\nYou see the {checkout} checkout.\n"

    def close(self) -> None:
        """Ends the SDK."""
        self._client.close()  # type: ignore[no-untyped-call]


@pytest.fixture(params=["lighttpd", "busybox"])
def name(request: pytest.FixtureRequest) -> str:
    """The web server's."""
    found(request.param)
    return str(request.param)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis to stop."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def writer(own_redis: RedisServer) -> Iterator[Writer]:
    """The official SDK's writer, which has filled that Redis."""
    writer = Writer(own_redis.url)
    yield writer
    writer.close()


def visitors() -> list[dict[str, str]]:
    """Many who do not all see the same."""
    some = [ADA, ADA | {"customer": "grace"}, {"customer": "zoë & co", "locale": "de-CH"}]
    return some + [{"customer": f"customer {n}", "plan": "gold", "country": ("GB", "FR")[n % 2]} for n in range(17)]


class TestWithAFile:
    def test_each_request_is_answered_for_its_visitor(self, name: str, tmp_path: Path) -> None:
        with WebServer(name, tmp_path, None) as web:
            assert web.get(ADA) == Page(
                200, "text/plain; charset=utf-8", "Welcome to the shop\nYou see the new checkout.\n"
            )
            assert web.get({"customer": "zoë & co", "locale": "de-CH"}).text.startswith("Bis Sonntag: kostenloser Ver")
            known = web.get({"country": "GB", "plan": "gold"}, Cookie="theme=dark; customer=grace; a=b")
            assert known.text.endswith("You see the old checkout.\n")
            assert web.get({}).status == 200


class TestWithRedis:
    def test_every_answer_is_right_under_load_and_follows_the_store(
        self, name: str, tmp_path: Path, own_redis: RedisServer, writer: Writer
    ) -> None:
        asked = visitors() * (REQUESTS // len(visitors()))
        with WebServer(name, tmp_path, own_redis.url) as web, ThreadPoolExecutor(6) as crowd:
            expected = [Page(200, "text/plain; charset=utf-8", writer.page(visitor)) for visitor in asked]
            assert len({page.text for page in expected}) >= 4
            assert list(crowd.map(web.get, asked)) == expected

            for on in (False, True, False):
                writer.write("new-checkout", on=on)
                writer.write("banner-text", on=on, offVariation=1 + on)
                assert web.get(ADA).text == writer.page(ADA)
                assert ("old" in writer.page(ADA)) is not on

            own_redis.stop()
            assert set(crowd.map(web.get, asked[:20])) == {Page(200, "text/plain; charset=utf-8", DEFAULTS)}

    def test_a_store_that_is_silent_costs_a_bounded_time(
        self, name: str, tmp_path: Path, own_redis: RedisServer, writer: Writer
    ) -> None:
        with WebServer(name, tmp_path, f"{own_redis.url}?timeout=0.2") as web:
            assert web.get(ADA).text == writer.page(ADA)
            own_redis.pause()
            assert web.get(ADA).text == DEFAULTS
            own_redis.resume()
            assert web.get(ADA).text == writer.page(ADA)
