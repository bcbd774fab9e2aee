"""``flags_bootstrap()`` in a real browser: LaunchDarkly's two JavaScript clients start from it, and nothing breaks out.

``LDREADER_SCREENSHOT=1`` renews the picture in the documentation.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, render_template_string, request, send_from_directory
from werkzeug.serving import make_server

from ldreader import FlagReader, MemoryRequester
from ldreader.integrations.flask import Flags
from tests.browser import CLIENT, OLD_CLIENT, Visit, npm_packages
from tests.flags import clause, flag, rule, store
from tests.proxy import Answer, Proxy
from tests.servers import free_port, until

PROJECT = Path(__file__).parent.parent
PICTURE = PROJECT / "docs" / "flask.png"

RUN = "window.broken = true"
HOSTILE = (
    f"</script><script>{RUN}</script>",
    f"</script ><script >{RUN}</script >",
    f"<!--<script>{RUN}</script>",
    "<!-- <script ",
    f"' onmouseover='{RUN}' autofocus onfocus='{RUN}' x='",
    f"'><img src=x onerror='{RUN}'>",
    f'"; {RUN}; //',
    f"'; {RUN}; //",
    f"${{{RUN}}}`\\",
    f"\u2028{RUN}\u2029//",
    f"]]>&lt;/script&gt;&lt;script&gt;{RUN}",
    "</SCRIPT\t></title></textarea></style>",
    "😀 é \x00\x1f\x7f \ufeff \\u003c",
)
KEYS = [*HOSTILE, "constructor", "hasOwnProperty", "toString"]

SHOWN = [
    *(flag(key, clientSide=True, variations=["off", {"a": [key, {key: None}]}]) for key in KEYS),
    *(flag(f"text-{index}", clientSide=True, variations=["off", text]) for index, text in enumerate(HOSTILE)),
    flag("for-ada", clientSide=True, trackEvents=True, rules=[rule(clause("key", "in", "ada"))]),
    flag("number", clientSide=True, variations=[0, -1.5e300]),
    flag("boolean", clientSideAvailability={"usingEnvironmentId": True}, variations=[True, False]),
    flag("null", clientSide=True, variations=[0, None]),
]
HIDDEN = [
    flag("secret"),
    flag("for-mobiles", clientSideAvailability={"usingMobileKey": True, "usingEnvironmentId": False}, clientSide=True),
]

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>all is well</title>
<p id="attribute" data-flags='{{ flags_bootstrap() }}'></p>
<script type="application/json" id="block">{{ flags_bootstrap(with_reasons=True) }}</script>
<script>const literal = {{ flags_bootstrap() }};</script>
<script src="/npm/launchdarkly-js-client-sdk/dist/ldclient.min.js"></script>
<script type="module">
  import { createClient } from "/npm/@launchdarkly/js-client-sdk/dist/index.js";
  const { context, launchdarkly, loud } = {{ settings|tojson }};
  const options = { streaming: loud, sendEvents: loud, fetchGoals: loud, diagnosticOptOut: true,
    baseUrl: launchdarkly, streamUrl: launchdarkly, eventsUrl: launchdarkly,
    baseUri: launchdarkly, streamUri: launchdarkly, eventsUri: launchdarkly };
  const forms = {
    literal,
    block: JSON.parse(document.getElementById("block").textContent),
    attribute: JSON.parse(document.getElementById("attribute").dataset.flags),
  };
  const report = { forms, old: {}, new: {} };
  for (const [form, bootstrap] of Object.entries(forms)) {
    const old = LDClient.initialize("client-side-id", context, { ...options, bootstrap });
    await old.waitForInitialization(5);
    report.old[form] = old.allFlags();
    const client = createClient("client-side-id", context, options);
    await client.start({ bootstrap });
    report.new[form] = client.allFlags();
    report.unknown = [old.variation("secret", "unknown"), client.variation("secret", "unknown")];
  }
  report.broken = window.broken ?? false;
  report.title = document.title;
  report.images = document.images.length;
  report.scripts = document.scripts.length;
  await fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>
"""


@contextmanager
def served(app: Flask) -> Iterator[int]:
    """The port on which the application answers until the end of the block."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def visited(*, loud: bool) -> tuple[list[dict[str, Any]], int]:
    """What the page with all flags reports, and how often its clients connected to LaunchDarkly, at this address."""
    reports: list[dict[str, Any]] = []
    flags = Flags(reader=FlagReader(MemoryRequester(store(*SHOWN, *HIDDEN))))
    flags.context_loader(lambda: {"kind": "user", "key": "ada"})
    app = Flask(__name__)
    flags.init_app(app)

    @app.get("/")
    def page() -> str:
        settings = {
            "context": flags.request.context.to_dict(),
            "launchdarkly": f"http://127.0.0.1:{launchdarkly.port}",
            "loud": loud,
        }
        return render_template_string(PAGE, settings=settings)

    @app.get("/npm/<path:path>")
    def npm(path: str) -> Response:
        return send_from_directory(npm_packages(), path)

    @app.post("/report")
    def report() -> str:
        reports.append(json.loads(request.data))
        return ""

    with Proxy(0, lambda sent: Answer(404, {}, b"")) as launchdarkly, served(app) as port:
        Visit(f"http://127.0.0.1:{port}/")
        return reports, launchdarkly.connections


@pytest.fixture(scope="module")
def quiet() -> tuple[list[dict[str, Any]], int]:
    """The same, with clients that are told to send nothing and not to listen for changes."""
    return visited(loud=False)


@pytest.fixture(scope="module")
def report(quiet: tuple[list[dict[str, Any]], int]) -> dict[str, Any]:
    (report,), _ = quiet
    return report


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What the server says of every flag that browsers may see."""
    with FlagReader(MemoryRequester(store(*SHOWN))) as reader:
        return reader.all_flags_state({"kind": "user", "key": "ada"}).to_values_map()


class TestAPageFullOfHostileFlags:
    @pytest.mark.parametrize("form", ["literal", "block", "attribute"])
    @pytest.mark.parametrize("client", ["old", "new"])
    def test_each_client_has_the_servers_values_and_no_others(
        self, report: dict[str, Any], expected: dict[str, Any], client: str, form: str
    ) -> None:
        assert len(expected) == len(SHOWN)
        assert report[client][form] == expected
        assert report["unknown"] == ["unknown", "unknown"]

    def test_nothing_is_asked_of_launchdarkly(self, quiet: tuple[list[dict[str, Any]], int]) -> None:
        _, connections = quiet
        assert connections == 0

    def test_a_client_that_may_ask_does(self) -> None:
        """The counting counts."""
        _, connections = visited(loud=True)
        assert connections > 0

    def test_the_browser_reads_what_the_server_wrote(self, report: dict[str, Any], expected: dict[str, Any]) -> None:
        for form in report["forms"].values():
            assert form["$valid"] is True
            assert set(form) == {*expected, "$valid", "$flagsState"}
            assert set(form["$flagsState"]) == set(expected)
        assert report["forms"]["block"]["$flagsState"]["for-ada"]["reason"]["kind"] == "RULE_MATCH"
        assert "reason" not in report["forms"]["literal"]["$flagsState"]["for-ada"]

    def test_no_flag_runs_or_shows(self, report: dict[str, Any]) -> None:
        told = {name: report[name] for name in ("broken", "title", "images", "scripts")}
        assert told == {"broken": False, "title": "all is well", "images": 0, "scripts": 4}

    def test_without_escapes_one_would(self) -> None:
        """The hostile flags are hostile."""
        text = f'<script type="application/json">{json.dumps(HOSTILE[0])}</script>'
        app = Flask(__name__)
        app.add_url_rule("/", "page", lambda: f"{text}<script>document.title = String(window.broken)</script>")
        with served(app) as port:
            assert "<title>true</title>" in Visit(f"http://127.0.0.1:{port}/").dom


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the example answers, started as its first lines say."""
    directory = tmp_path_factory.mktemp("example")
    shutil.copytree(PROJECT / "examples", directory / "examples", ignore=shutil.ignore_patterns("node_modules"))
    (directory / "examples" / "node_modules").symlink_to(npm_packages())
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "examples/flask_app.py", "run", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "LDREADER_STORE"}
    environment["PYTHONPATH"] = str(PROJECT)
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: "Running on" in (directory / "log").read_text() or server.poll() is not None, "the example")
        yield port
    finally:
        server.terminate()
        server.wait()


class TestTheExample:
    @pytest.mark.parametrize(
        ("query", "server", "browser"),
        [
            ("key=ada&country=GB&plan=gold", "Try our new checkout", "Welcome to the shop"),
            ("key=ada&locale=de-AT", "To the checkout", "Bis Sonntag: kostenloser Versand für alle"),
        ],
    )
    def test_one_flag_is_decided_on_the_server_and_one_in_the_browser(
        self, port: int, query: str, server: str, browser: str
    ) -> None:
        visit = Visit(f"http://127.0.0.1:{port}/?{query}")
        assert f">{server}<" in visit.dom
        (banner,) = re.findall(r'<span id="banner">(.*?)</span>', visit.dom)
        assert html.unescape(banner) == browser
        assert f"http://127.0.0.1:{port}/launchdarkly.js" in visit.network
        assert "launchdarkly.com" not in visit.network

    def test_its_picture_is_in_the_documentation(self, port: int, tmp_path: Path) -> None:
        picture = tmp_path / "flask.png"
        Visit(f"http://127.0.0.1:{port}/?key=ada&country=GB&plan=gold", screenshot=picture)
        if os.environ.get("LDREADER_SCREENSHOT") == "1":
            shutil.copy(picture, PICTURE)
        assert picture.read_bytes()[:8] == PICTURE.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert PICTURE.stat().st_size < 60_000
        assert "](flask.png)" in (PROJECT / "docs" / "flask.md").read_text(encoding="utf-8")


def test_the_example_names_the_client_that_was_tested() -> None:
    text = (PROJECT / "examples" / "flask_app.py").read_text(encoding="utf-8")
    assert f"{CLIENT}@4" in text
    assert f"node_modules/{CLIENT}/dist" in text
    assert f"/npm/{OLD_CLIENT}/dist/" in PAGE
