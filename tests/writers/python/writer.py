"""Runs the official Python SDK with a persistent store until its input ends: what its stream says, it writes.

    python writer.py redis|dynamodb|consul ADDRESS PREFIX STREAM

ADDRESS is a URL, a host and port, or, for DynamoDB, the table and the endpoint's URL with a comma between them.
"""

import sys

from ldclient.client import LDClient
from ldclient.config import Config
from ldclient.integrations import Consul, DynamoDB, Redis
from ldclient.interfaces import FeatureStore


def feature_store(kind: str, address: str, prefix: str) -> FeatureStore:
    """The SDK's own store."""
    if kind == "redis":
        return Redis.new_feature_store(url=address, prefix=prefix)
    if kind == "dynamodb":
        table, _, endpoint = address.partition(",")
        return DynamoDB.new_feature_store(table, prefix=prefix, dynamodb_opts={"endpoint_url": endpoint})
    if kind == "consul":
        host, _, port = address.partition(":")
        return Consul.new_feature_store(host=host, port=int(port), prefix=prefix)
    raise SystemExit(f"no such store: {kind}")


store, stream = feature_store(*sys.argv[1:4]), sys.argv[4]
client = LDClient(
    Config("sdk-key", base_uri=stream, stream_uri=stream, send_events=False, feature_store=store), start_wait=20
)
sys.stdin.read()
client.close()  # type: ignore[no-untyped-call]
