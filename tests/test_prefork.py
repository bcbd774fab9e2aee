"""Servers that load an application and then fork need nothing special, although a connection is open by then."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.servers import PATIENCE, RedisServer, free_port, lacking, until

PROJECT = Path(__file__).parent.parent
WORKERS = 3
FLAGS = 40
REQUESTS = 300
APPLICATION = "tests.prefork_app:application"


@pytest.fixture(scope="module")
def store(redis_server: RedisServer) -> Iterator[str]:
    """The URL of a Redis in which each flag serves its own key, so that a reply to another question is seen."""
    texts = {
        key: json.dumps({"on": True, "variations": [key], "fallthrough": {"variation": 0}, "salt": "x" * 40 * n})
        for n in range(FLAGS)
        for key in [f"flag-{n}"]
    }
    with redis.Redis.from_url(redis_server.url) as client:
        client.hset("prefork:features", mapping=texts)
        yield f"{redis_server.url}?prefix=prefork"
        client.delete("prefork:features")


def ask(port: int, keys: list[str]) -> dict[str, Any]:
    """What the application answers for these flags."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", f"/?{'&'.join(keys)}")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer
    finally:
        connection.close()


@contextmanager
def serving(command: list[str], port: int, store: str, log: Path) -> Iterator[int]:
    """A server that has begun to answer; gives its process number."""
    variables = {**os.environ, "PYTHONPATH": str(PROJECT), "LDREADER_STORE": store}
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=variables, cwd=PROJECT, stdout=output, stderr=output)
    try:

        def answers() -> bool:
            assert server.poll() is None, log.read_text()
            try:
                return bool(ask(port, ["flag-1"]))
            except OSError:
                return False

        until(answers, f"{command[0]} to start")
        yield server.pid
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def gunicorn(port: int) -> list[str]:
    """The command for gunicorn."""
    settings = ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "3"]
    return [sys.executable, "-m", "gunicorn", *settings, APPLICATION]


def uwsgi(port: int) -> list[str]:
    """The command for uWSGI."""
    beside = Path(sys.executable).with_name("pyuwsgi")
    program = str(beside) if beside.exists() else shutil.which("uwsgi")
    if program is None:
        lacking("uWSGI is not installed: pip install pyuwsgi", "LDREADER_REQUIRE_SERVERS")
    settings = ["--http-socket", f"127.0.0.1:{port}", "--processes", str(WORKERS), "--wsgi", APPLICATION]
    return [program, *settings, "--master", "--need-app", "--die-on-term", "--disable-logging"]


def connections(process: int, port: int) -> set[str]:
    """The sockets, by inode, that a process has open to a port of this machine."""
    ours = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, _, remote, _, _, _, _, _, _, inode, *_ = line.split()
        if int(remote.rpartition(":")[2], 16) == port:
            ours.add(f"socket:[{inode}]")
    found = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except OSError:  # closed meanwhile
            continue
    return found & ours


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are compared as Linux tells them")
@pytest.mark.parametrize(
    ("server", "settings", "client", "forks_later"),
    [
        pytest.param(gunicorn, ["--preload"], "wire", True, id="gunicorn"),
        pytest.param(gunicorn, ["--preload"], "redis-py", True, id="gunicorn-redis-py"),
        pytest.param(gunicorn, ["--preload", "--threads", "4"], "wire", True, id="gunicorn-threads"),
        pytest.param(uwsgi, [], "wire", True, id="uwsgi"),
        pytest.param(uwsgi, [], "redis-py", True, id="uwsgi-redis-py"),
        pytest.param(uwsgi, ["--lazy-apps"], "wire", False, id="uwsgi-lazy-apps"),
        pytest.param(uwsgi, ["--enable-threads", "--threads", "4"], "wire", True, id="uwsgi-threads"),
    ],
)
def test_workers_share_no_connection_and_answer_right(
    server: Any,
    settings: list[str],
    client: str,
    forks_later: bool,
    store: str,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    port = free_port()
    command = [*server(port), *settings]
    rng = random.Random(9)
    asked = [[f"flag-{n}" for n in rng.sample(range(FLAGS), rng.choice([1, 1, 5]))] for _ in range(REQUESTS)]
    answered: list[dict[str, Any]] = []
    with serving(command, port, f"{store}&client={client}", tmp_path / "log") as master, ThreadPoolExecutor(8) as crowd:

        def everyone_has_answered() -> bool:
            answered.extend(crowd.map(lambda keys: ask(port, keys), asked))
            return len({answer["pid"] for answer in answered}) == WORKERS

        until(everyone_has_answered, f"all workers to answer:\n{(tmp_path / 'log').read_text()}")
        workers = {answer["pid"] for answer in answered}
        open_there = {process: connections(process, redis_server.port) for process in {*workers, master}}
        listed = redis_server.ask("CLIENT", "LIST")

    assert [answer["values"] for answer in answered] == [
        {key: key for key in keys} for _ in range(len(answered) // len(asked)) for keys in asked
    ]
    assert {answer["before"] for answer in answered} == {"flag-0"}
    if forks_later:
        assert {answer["loaded_by"] for answer in answered} == {master}
        assert open_there[master]  # it was open when the workers were made
    else:
        assert {answer["loaded_by"] for answer in answered} == workers
    assert all(open_there[worker] for worker in workers)
    assert sum(map(len, open_there.values())) == len(set().union(*open_there.values()))  # none is in two processes
    assert listed.count(" addr=127.0.0.1:") >= len(workers)
    assert "Traceback" not in (tmp_path / "log").read_text()
