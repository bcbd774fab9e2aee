"""Shows an event sink that forwards what each request noted to a Relay Proxy, in one call at the request's end.

Needs ldreader; and a Relay Proxy with event forwarding, whose URL is in RELAY_URL and whose SDK key in SDK_KEY.
Run it with: python examples/relay_sink.py
It reads shop.json beside it, or the store that LDREADER_STORE names, such as redis://localhost:6379.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from ldreader import FlagReader


class RelaySink:
    """Posts events to a Relay Proxy and waits for its answer; what goes wrong, the reader logs."""

    def __init__(self, url: str, sdk_key: str, timeout: float = 2.0) -> None:
        self._url = f"{url.rstrip('/')}/bulk"
        self._timeout = timeout
        self._headers = {
            "Authorization": sdk_key,
            "Content-Type": "application/json",
            "User-Agent": "ldreader",
            "X-LaunchDarkly-Event-Schema": "4",
            "X-LaunchDarkly-Unsummarized": "true",  # asks the Relay Proxy to count the evaluations
        }

    def __call__(self, events: list[dict[str, Any]]) -> None:
        """Sends one batch."""
        body = json.dumps(events).encode()
        with urlopen(Request(self._url, body, self._headers), timeout=self._timeout):
            pass


if __name__ == "__main__":
    store = os.environ.get("LDREADER_STORE") or f"file:{Path(__file__).with_name('shop.json')}"
    sink = RelaySink(os.environ.get("RELAY_URL", "http://127.0.0.1:8030"), os.environ.get("SDK_KEY", ""))
    reader = FlagReader.from_url(store, events=sink, private_attributes=["plan"])
    with reader.request({"kind": "user", "key": "ada", "country": "GB", "plan": "gold"}) as flags:
        if flags.bool_variation("new-checkout", False):
            flags.track("new-checkout-shown", metric_value=1)
    print("done")
