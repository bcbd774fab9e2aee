"""A real browser for the tests, and LaunchDarkly's clients for browsers from npm."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.servers import lacking

OLD_CLIENT, OLD_VERSION = "launchdarkly-js-client-sdk", "3.9.5"
CLIENT, VERSION = "@launchdarkly/js-client-sdk", "4.10.3"

NPM = Path(__file__).parent.parent / "build" / f"npm-{OLD_VERSION}-{VERSION}"
"""Where packages are kept between runs."""

SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # there is no other host
)


@cache
def npm_packages() -> Path:
    """The folder ``node_modules`` with both clients; they are installed when it does not have them."""
    if not NPM.is_dir():
        npm = shutil.which("npm") or lacking("npm is not installed: apt-get install npm", "LDREADER_REQUIRE_SERVERS")
        NPM.parent.mkdir(exist_ok=True)
        site = Path(tempfile.mkdtemp(prefix=".npm-", dir=NPM.parent))
        try:
            quietly = ("--no-save", "--no-fund", "--no-audit")
            command = [npm, "install", "--ignore-scripts", *quietly, "--prefix", str(site)]
            command += [f"{OLD_CLIENT}@{OLD_VERSION}", f"{CLIENT}@{VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode:
                lacking(f"npm could not install the clients:\n{done.stderr}", "LDREADER_REQUIRE_SERVERS")
            with contextlib.suppress(OSError):  # another process was faster
                site.rename(NPM)
        finally:
            shutil.rmtree(site, ignore_errors=True)
    return NPM / "node_modules"


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
