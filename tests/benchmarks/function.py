"""The Lambda functions that are measured; which, and its job (see driver.py), are in environment variables.

Only what a function of its kind imports is imported.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ldreader import Request

CONTENDER = os.environ["CONTENDER"]

if CONTENDER == "empty":

    def handler(event: Any, lambda_context: Any) -> Any:
        """Nothing."""

elif CONTENDER == "ldreader":
    from ldreader import FlagReader
    from ldreader.integrations.aws_lambda import with_flags

    reader = FlagReader.from_url(os.environ["LDREADER_STORE"])

    def evaluate(event: Any, lambda_context: Any, flags: Request) -> Any:
        """The flag's value."""
        return flags.variation(event["key"], None)

    handler = with_flags(reader, context=lambda event: event["context"])(evaluate)

else:
    import json

    assert CONTENDER in ("official", "bare"), "no such contender"

    from ldreader_benchmark_driver import CONTENDERS, plain  # type: ignore[import-not-found]

    job = json.loads(os.environ["JOB"])
    contender = CONTENDERS[CONTENDER](job)
    opened = contender.open()

    def handler(event: Any, lambda_context: Any) -> Any:
        """The flag's value, or its key where only the package is measured."""
        return plain(job, contender.one(opened))
