"""An application for the tests of web servers: its answers tell which version of all flags they come from.

``LDREADER_STORE`` names the store, as in production.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, render_template_string, request, stream_with_context

from ldreader.integrations.flask import Flags
from tests.flags import clause, flag, in_segment, needs, rule, segment

KEYS = tuple(f"flag-{number}" for number in range(6))
USERS = ("ada", "eve")

PAGE = """{% set bootstrap = flags_bootstrap() -%}
{"bootstrap": {{ bootstrap }}, "values": [
{%- for key in keys %}{{ flag(key)|tojson }}{{ "," if not loop.last }}{% endfor -%}
], "round_trips": {{ stats.round_trips }}}"""


def environment(version: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """All flags and segments of version 0 or 1, in which every flag gives a user the same value.

    A part of one version among parts of the other shows: it gives another value.
    """
    flags = [
        flag(
            key,
            version=version + 1,
            variations=[f"in-{version}", f"out-{version}", "torn"],
            prerequisites=[needs("base", version)],
            rules=[rule(in_segment("crowd"), variation=0), rule(clause("key", "in", *USERS), variation=1)],
            offVariation=2,
            fallthrough={"variation": 2},
            clientSide=True,
        )
        for key in KEYS
    ]
    base = flag("base", version=version + 1, fallthrough={"variation": version})
    crowd = segment("crowd", version=version + 1, included=[USERS[version]])
    return {item["key"]: item for item in [*flags, base]}, {"crowd": crowd}


def values(user: str) -> tuple[str, str]:
    """What every flag gives the user, in version 0 and in version 1."""
    first, second = (f"{'in' if USERS[version] == user else 'out'}-{version}" for version in (0, 1))
    return first, second


def create_app() -> Flask:
    """The application. It has asked the store already, so a server that forks now hands a connection down."""
    flags = Flags()

    @flags.context_loader
    def visitor() -> dict[str, Any]:
        return {"kind": "user", "key": request.args["user"]}

    app = Flask(__name__)
    flags.init_app(app)
    made_by = os.getpid()

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers["Made-By"] = str(made_by)
        response.headers["Served-By"] = str(os.getpid())
        return response

    @app.get("/view")
    def view() -> dict[str, Any]:
        flags.prefetch(*KEYS)
        found = [flags.variation(key, "default") for key in KEYS]
        return {"values": found, "round_trips": flags.request.stats.round_trips}

    @app.get("/page")
    def page() -> str:
        return render_template_string(PAGE, keys=KEYS, stats=flags.request.stats)

    @app.get("/stream")
    def stream() -> Response:
        flags.prefetch(*KEYS)

        def parts() -> Iterator[str]:
            yield '{"values": ['
            for key in KEYS:
                yield json.dumps(flags.variation(key, "default")) + ("," if key != KEYS[-1] else "], ")
            yield f'"round_trips": {flags.request.stats.round_trips}}}'

        return Response(stream_with_context(parts()), mimetype="application/json")

    app.test_client().get("/view?user=ada")
    return app
