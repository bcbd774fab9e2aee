"""The Lambda function that tests run under the real runtime client: the store, and what to do, are in variables."""

from __future__ import annotations

import os
from typing import Any

from ldreader import FlagReader, Request
from ldreader.integrations.aws_lambda import with_flags

DEFAULT = "the default"

reader = FlagReader.from_url(os.environ["LDREADER_STORE"])
if priming := os.environ.get("PRIMING"):
    reader.variation(priming, {"kind": "user", "key": "nobody"}, DEFAULT)


@with_flags(reader, context=lambda event: event["user"])
def handler(event: dict[str, Any], lambda_context: Any, flags: Request) -> dict[str, Any]:
    """The value of each flag that the event names, and the kind of its reason."""
    if "raise" in event:
        raise ValueError(event["raise"])
    details = {key: flags.variation_detail(key, DEFAULT) for key in event["flags"]}
    answers = {key: [detail.value, detail.reason["kind"]] for key, detail in details.items()}
    return {"answers": answers, "errors": [detail.reason.get("errorKind") for detail in details.values()]}
