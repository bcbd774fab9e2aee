"""Shows an AWS Lambda handler that is given the flags for its event; template.yaml beside it deploys it.

Needs ldreader, no matter whether it reads DynamoDB or one Redis server; docs/lambda.md says how to make it a layer.
Run it here with: python examples/lambda_handler.py
It reads shop.json beside it, or the store that LDREADER_STORE names, such as redis://cache.internal:6379.
"""

import json
import os
from pathlib import Path
from typing import Any

from ldreader import FlagReader, Request
from ldreader.integrations.aws_lambda import with_flags

# Made once for each execution environment. It opens nothing yet, so a cold start does not wait for the store.
reader = FlagReader.from_url(os.environ.get("LDREADER_STORE") or f"file:{Path(__file__).with_name('shop.json')}")


@with_flags(reader, context=lambda event: event["user"])
def handler(event: dict[str, Any], lambda_context: object, flags: Request) -> dict[str, Any]:
    """Answers with the shipping prices for the event's user, a context in LaunchDarkly's JSON form."""
    detail = flags.json_variation_detail("shipping-prices", {"currency": "EUR", "standard": 5})
    # With the default, the answer is marked so that nobody caches it.
    headers = {"cache-control": "no-store"} if detail.is_default_value() else {}
    return {"statusCode": 200, "headers": headers, "body": json.dumps(detail.value)}


if __name__ == "__main__":
    print(json.dumps(handler({"user": {"kind": "user", "key": "ada", "country": "GB"}})))
