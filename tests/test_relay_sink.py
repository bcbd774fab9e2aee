"""The example that forwards events: what arrives at a Relay Proxy, here a server of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent.parent


class Relay(HTTPServer):
    """Takes what is posted to it and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RelayHandler)
        self.posted: list[tuple[str, dict[str, str], Any]] = []
        self.status = 202

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class RelayHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Relay

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.posted.append((self.path, headers, json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    """The example, run as its header says, with no proxy between it and the server."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    inherited.pop("LDREADER_STORE", None)
    return subprocess.run(
        [sys.executable, "-W", "error", "examples/relay_sink.py"],
        cwd=PROJECT,
        env={**inherited, "PYTHONPATH": str(PROJECT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_requests_events_arrive_together_with_the_headers_that_a_relay_proxy_goes_by(relay: Relay) -> None:
    done = run(RELAY_URL=f"{relay.url}/", SDK_KEY="sdk-key")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    ((path, headers, events),) = relay.posted
    assert path == "/bulk"
    assert headers["authorization"] == "sdk-key"
    assert headers["content-type"] == "application/json"
    assert headers["x-launchdarkly-event-schema"] == "4"
    assert "x-launchdarkly-unsummarized" in headers
    told = [(event["kind"], event["key"]) for event in events]
    assert told == [("feature", "payments-v2"), ("feature", "new-checkout"), ("custom", "new-checkout-shown")]
    for event in events:
        assert event["context"] == {
            "kind": "user",
            "key": "ada",
            "country": "GB",
            "_meta": {"redactedAttributes": ["plan"]},
        }


def test_a_relay_proxy_that_refuses_or_is_not_there_harms_nothing(relay: Relay) -> None:
    relay.status = 401
    refused = run(RELAY_URL=relay.url, SDK_KEY="wrong")
    assert len(relay.posted) == 1
    gone = run(RELAY_URL="http://127.0.0.1:9", SDK_KEY="sdk-key")
    for done, error in ((refused, "HTTPError"), (gone, "URLError")):
        assert (done.returncode, done.stdout) == (0, "done\n")
        assert f"the event sink failed, with 3 events: unexpected {error}" in done.stderr
