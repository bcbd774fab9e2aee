"""Shows a Flask application that decides one flag on the server and one in the browser.

Needs ldreader and Flask; for the browser also: npm install --no-save --prefix examples @launchdarkly/js-client-sdk@4
Run it with: flask --app examples/flask_app.py run, then open http://127.0.0.1:5000/?customer=ada&country=GB&plan=gold
It reads shop.json beside it, or the store that LDREADER_STORE names, such as redis://localhost:6379.
"""

import os
from typing import Any

from flask import Flask, Response, render_template, request, send_from_directory

from ldreader.integrations.flask import Flags

app = Flask(__name__)
app.config["LDREADER_STORE"] = os.environ.get("LDREADER_STORE", "file:examples/shop.json")
flags = Flags(app)


@flags.context_loader
def visitor() -> dict[str, Any]:
    """Whom flags are evaluated for; a real shop takes this from the session."""
    return {"kind": "user", "key": "anonymous", **request.args.to_dict()}


@app.get("/")
def home() -> str:
    """A page that has its checkout from the server, by ``flag()``, and its banner from the browser."""
    return render_template("shop.html", context=flags.request.context.to_dict())


@app.get("/checkout")
def checkout() -> dict[str, Any]:
    """A flag in a view."""
    return {"checkout": "new" if flags.variation("new-checkout", False) else "old"}


@app.get("/gift-cards")
@flags.required("gift-cards")
def gift_cards() -> dict[str, Any]:
    """A view that is not found unless its flag is true."""
    return {"values": [10, 25, 50]}


@app.get("/launchdarkly.js")
def browser_client() -> Response:
    """LaunchDarkly's client for browsers."""
    return send_from_directory("node_modules/@launchdarkly/js-client-sdk/dist", "index.js")
