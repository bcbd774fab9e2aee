"""A WSGI application whose reader has been used, and has a connection open, before the server forks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from ldreader import FlagReader

reader = FlagReader.from_url(os.environ["LDREADER_STORE"])
LOADED = {"loaded_by": os.getpid(), "before": reader.variation("flag-0", {"kind": "user", "key": "ada"}, None)}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with the values of the flags that the query names, and who has loaded it and who runs it."""
    keys = environ["QUERY_STRING"].split("&")
    with reader.request({"kind": "user", "key": "ada"}) as flags:
        if len(keys) > 1:
            flags.prefetch(*keys)
        values = {key: flags.variation(key, None) for key in keys}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**LOADED, "pid": os.getpid(), "values": values}).encode()]
