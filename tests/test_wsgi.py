"""The Flask extension under real web servers, while the official SDK replaces all flags in Redis again and again.

``LDREADER_LOAD`` multiplies the number of requests.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from ldclient.feature_store import CacheConfig
from ldclient.integrations import Redis
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from tests.servers import PATIENCE, RedisServer, free_port, until
from tests.wsgi import KEYS, USERS, create_app, environment, values

PROJECT = Path(__file__).parent.parent
PREFIX = "wsgi"
REQUESTS = int(1000 * float(os.environ.get("LDREADER_LOAD") or 1))
CLIENTS = 4
PATHS = ("/view", "/page", "/stream", "/view")

APP = "tests.wsgi:create_app"
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}", "--no-control-socket", "--log-level", "warning"]
SERVERS = {
    "gunicorn prefork": [*GUNICORN, "--preload", "--workers", "3", f"{APP}()"],
    "gunicorn threads": [*GUNICORN, "--worker-class", "gthread", "--workers", "2", "--threads", "4", f"{APP}()"],
    "waitress threads": ["waitress", "--listen", "127.0.0.1:{port}", "--threads", "6", "--call", APP],
}


class Replacing:
    """The official SDK's writer, at work in a thread: it replaces one whole environment by the other."""

    def __init__(self, url: str) -> None:
        self._store = Redis.new_feature_store(url=url, prefix=PREFIX, caching=CacheConfig.disabled())
        self._versions: list[dict[Any, Any]] = [
            dict(zip((FEATURES, SEGMENTS), environment(version), strict=True)) for version in (0, 1)
        ]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.count = 0
        self.replace()

    def replace(self) -> None:
        self._store.init(self._versions[self.count % 2])
        self.count += 1

    def _work(self) -> None:
        while not self._over.wait(0.002):
            self.replace()

    def __enter__(self) -> Replacing:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def serving(name: str, store: str, directory: Path) -> Iterator[int]:
    """The port on which this server serves the application; the server ends with the block."""
    port, log = free_port(), directory / "log"
    command = [sys.executable, "-m", *(word.format(port=port) for word in SERVERS[name])]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "LDREADER_STORE": store}
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=output)

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/view?user=ada")
            return connection.getresponse().status == 200
        except ConnectionError:
            return False
        finally:
            connection.close()

    try:
        until(answers, f"{name} to answer")
        yield port
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if (said := log.read_text()).strip():
            print(said)  # shown where the test fails


@dataclass
class Seen:
    """What clients have seen."""

    wrong: list[Any] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    processes: set[tuple[str, str]] = field(default_factory=set)

    def ask(self, port: int, user: str, number: int) -> None:
        """Makes this number of requests as the user, ten over each connection where the server keeps it."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for index in range(number):
            path = PATHS[index % len(PATHS)]
            if index % 10 == 0:
                connection.close()
            connection.request("GET", f"{path}?user={user}")
            response = connection.getresponse()
            body = response.read()
            self.processes.add((response.headers["Made-By"], response.headers["Served-By"]))
            answer = json.loads(body) if response.status == 200 else {}
            shown = answer.get("bootstrap")
            found = [*answer.get("values", ()), *([shown.get(key) for key in KEYS] if shown else ())]
            if len(set(found)) != 1 or found[0] not in values(user) or answer["round_trips"] != 1:
                self.wrong.append((path, user, response.status, answer or body))
            else:
                self.versions[found[0]] += 1
        connection.close()


def test_redis_counts_one_read_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as server, redis.Redis.from_url(server.url) as counter:

        def reads() -> int:
            count: int = counter.info("stats")["total_reads_processed"]
            return count

        writer = Replacing(server.url)  # kept to the end: a connection that is closed is read once more
        monkeypatch.setenv("LDREADER_STORE", f"{server.url}?prefix={PREFIX}")
        client = create_app().test_client()
        costs = []
        for _ in range(3):
            before = reads()
            for index in range(40):
                assert client.get(f"{PATHS[index % len(PATHS)]}?user=ada").status_code == 200
            costs.append(reads() - before)
        # One more is the counter's own. What else Redis hears of on a busy machine is not in each.
        assert min(costs) == 40 + 1, costs
        assert writer.count == 1


@pytest.mark.parametrize("server", SERVERS)
def test_every_answer_is_of_one_version_and_cost_one_round_trip(
    server: str, redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ldclient")
    seen = Seen()
    replacing = Replacing(redis_server.url)
    with serving(server, f"{redis_server.url}?prefix={PREFIX}", tmp_path) as port, replacing:
        with ThreadPoolExecutor(CLIENTS) as clients:
            asking = [
                clients.submit(seen.ask, port, USERS[number % 2], REQUESTS // CLIENTS) for number in range(CLIENTS)
            ]
        for each in asking:
            each.result()
    assert seen.wrong == []
    assert seen.versions.keys() == {value for user in USERS for value in values(user)}
    assert seen.versions.total() == REQUESTS // CLIENTS * CLIENTS
    assert replacing.count > 50
    forked = {made_by != served_by for made_by, served_by in seen.processes}
    assert forked == {server == "gunicorn prefork"}
    assert (len(seen.processes) > 1) == server.startswith("gunicorn")
