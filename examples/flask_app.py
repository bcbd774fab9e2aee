"""Shows a Flask application that evaluates flags for each web request.

Needs ldreader and Flask; to read Redis, also the package redis.
Run it with: flask --app examples/flask_app.py run, then open http://127.0.0.1:5000/?customer=ada
It reads shop.json beside it, or the store that LDREADER_STORE names, such as redis://localhost:6379.
"""

import os
from pathlib import Path
from typing import Any

from flask import Flask, request

from ldreader import Context, FlagReader

app = Flask(__name__)
# One reader for the process: it contacts nothing until a flag is asked for, and threads may share it.
reader = FlagReader.from_url(os.environ.get("LDREADER_STORE") or f"file:{Path(__file__).with_name('shop.json')}")


def visitor() -> Context:
    """The context of this web request; a real shop takes it from the session."""
    builder = Context.builder(request.args.get("customer", "anonymous"))
    return builder.set("country", request.args.get("country")).set("plan", request.args.get("plan")).build()


@app.get("/")
def home() -> dict[str, Any]:
    """What the shop's front page shows to the visitor."""
    with reader.request(visitor()) as flags:
        return {
            "banner": flags.string_variation("banner-text", "Welcome"),
            "checkout": "/checkout/new" if flags.bool_variation("new-checkout", False) else "/checkout",
        }


@app.get("/flags")
def flags_for_the_browser() -> dict[str, Any]:
    """The visitor's flags, as LaunchDarkly's browser SDK takes them for ``bootstrap``."""
    return reader.all_flags_state(visitor(), client_side_only=True).to_json_dict()
