"""Shows an AWS Lambda handler that evaluates flags for each event.

Needs ldreader; to read Redis, also the package redis. Name lambda_handler.handler as the function's handler.
Run it here with: python examples/lambda_handler.py
It reads shop.json beside it, or the store that LDREADER_STORE names, such as redis://cache.internal:6379.
"""

import json
import os
from pathlib import Path
from typing import Any

from ldreader import FlagReader

# Made once for each execution environment. It opens nothing yet, so a cold start does not wait for the store.
reader = FlagReader.from_url(os.environ.get("LDREADER_STORE") or f"file:{Path(__file__).with_name('shop.json')}")


def handler(event: dict[str, Any], lambda_context: object) -> dict[str, Any]:
    """Answers with the shipping prices for the event's user, a context in LaunchDarkly's JSON form."""
    with reader.request(event["user"]) as flags:
        detail = flags.json_variation_detail("shipping-prices", {"currency": "EUR", "standard": 5})
    # With the default, the answer is marked so that nobody caches it.
    headers = {"cache-control": "no-store"} if detail.is_default_value() else {}
    return {"statusCode": 200, "headers": headers, "body": json.dumps(detail.value)}


if __name__ == "__main__":
    print(json.dumps(handler({"user": {"kind": "user", "key": "ada", "country": "GB"}}, None)))
