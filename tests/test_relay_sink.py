"""The example that forwards events: what it sends, to a server of our own, and what a real Relay Proxy makes of it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.relay_sink import RelaySink
from ldreader import FlagReader, MemoryRequester, Stage
from ldreader.migrations import Operation, Origin
from tests.flags import flag, needs, store
from tests.servers import free_port
from tests.writers.programs import WRITERS
from tests.writers.stream import Stream

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
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
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


def test_a_real_relay_proxy_counts_the_evaluations_and_passes_the_rest_on(
    relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of our own stands for LaunchDarkly here."""
    (writer,) = [each for each in WRITERS if each.name == "relay"]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    flags = [flag("tracked", trackEvents=True, version=7), flag("main", prerequisites=[needs("tracked")], version=3)]
    stage = flag("stage", variations=["live"] * 4)
    data = {"features": {each["key"]: each for each in (*flags, stage)}, "segments": {}}
    port, log = free_port(), tmp_path / "log"
    with Stream(data) as stream, writer.writing("events", f"127.0.0.1:{port}", relay.url, stream.url, log) as program:
        deadline = time.monotonic() + 30
        while b"Initialized LaunchDarkly client" not in log.read_bytes():
            assert program.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.02)
        sink = RelaySink(f"http://127.0.0.1:{port}", "sdk-key")
        reader = FlagReader(MemoryRequester(store(*flags, stage)), events=sink, private_attributes=["plan"])
        with reader.request({"kind": "user", "key": "ada", "plan": "gold", "country": "GB"}) as request:
            assert request.variation("main", "default") == "fall"
            assert request.variation("main", "default") == "fall"
            assert request.variation("none", 7) == 7
            request.track("bought", {"items": 2}, 9.5)
            request.identify()
            _, tracker = request.migration_variation("stage", Stage.OFF)
            request.track_migration_op(tracker.operation(Operation.READ).invoked(Origin.NEW))
        while not {"summary", "custom", "migration_op"} <= {event["kind"] for _, event in forwarded(relay)}:
            assert time.monotonic() < deadline, (relay.posted, log.read_text(errors="replace"))
            time.sleep(0.02)
    assert {headers["authorization"] for headers, _ in forwarded(relay)} == {"sdk-key"}
    events = [event for _, event in forwarded(relay)]
    assert "gold" not in json.dumps(events)
    by_kind = {event["kind"]: event for event in events}
    counted = {
        (key, counter.get("version"), counter.get("variation")): counter["count"]
        for event in events
        if event["kind"] == "summary"
        for key, summary in event["features"].items()
        for counter in summary["counters"]
    }
    assert counted == {("tracked", 7, 1): 2, ("main", 3, 1): 2, ("none", None, None): 1, ("stage", 1, 1): 1}
    tracked = [event for event in events if event["kind"] == "feature"]
    assert [(event["key"], event["value"]) for event in tracked] == [("tracked", "fall")] * 2
    assert (by_kind["custom"]["key"], by_kind["custom"]["metricValue"]) == ("bought", 9.5)
    assert by_kind["identify"]["context"]["_meta"] == {"redactedAttributes": ["plan"]}
    assert by_kind["migration_op"]["evaluation"]["value"] == "live"


def forwarded(relay: Relay) -> list[tuple[dict[str, str], Any]]:
    """The events that have arrived, each with its headers; what the Relay Proxy tells of itself is left out."""
    return [(headers, event) for path, headers, batch in relay.posted if path == "/bulk" for event in batch]
