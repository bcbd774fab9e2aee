"""A real browser for the tests, and LaunchDarkly's clients for browsers from npm."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.servers import lacking

OLD_CLIENT, OLD_VERSION = "launchdarkly-js-client-sdk", "3.9.5"
CLIENT, VERSION = "@launchdarkly/js-client-sdk", "4.10.3"

NPM = Path(__file__).parent.parent / "build" / "npm"
"""Where packages are kept between runs."""

SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # there is no other host
)


@cache
def npm_packages() -> Path:
    """The folder ``node_modules`` with both clients; they are installed when it does not have them."""
    wanted = {OLD_CLIENT: OLD_VERSION, CLIENT: VERSION}
    if {name: _installed(name) for name in wanted} != wanted:
        npm = shutil.which("npm") or lacking("npm is not installed: apt-get install npm", "LDREADER_REQUIRE_SERVERS")
        NPM.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--ignore-scripts", "--no-save", "--no-fund", "--no-audit", "--prefix", str(NPM)]
        command += [f"{name}@{version}" for name, version in wanted.items()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            lacking(f"npm could not install the clients:\n{done.stderr}", "LDREADER_REQUIRE_SERVERS")
    return NPM / "node_modules"


def _installed(name: str) -> str | None:
    manifest = NPM / "node_modules" / name / "package.json"
    if not manifest.exists():
        return None
    version: str = json.loads(manifest.read_text(encoding="utf-8"))["version"]
    return version


class Visit:
    """What a browser, started for it with a profile of its own, makes of a page."""

    def __init__(self, url: str, *, screenshot: Path | None = None) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            lacking("chromium is not installed: apt-get install chromium", "LDREADER_REQUIRE_SERVERS")
        with tempfile.TemporaryDirectory(prefix="ldreader-chromium-", ignore_cleanup_errors=True) as directory:
            log = Path(directory) / "network.json"
            # The page has this many milliseconds of its own time, which stands still while it waits for an answer.
            command = [program, *SWITCHES, f"--user-data-dir={directory}/profile", "--virtual-time-budget=10000"]
            command += [f"--log-net-log={log}", "--window-size=640,240"]
            command += [f"--screenshot={screenshot}"] if screenshot else ["--dump-dom"]
            done = subprocess.run([*command, url], capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr.decode(errors="replace")
            self.dom = done.stdout.decode()
            """The page as HTML when its scripts have run; empty when a screenshot was asked for."""
            self.network = log.read_text(encoding="utf-8")
            """Chromium's own log of everything that it asked the network for."""
