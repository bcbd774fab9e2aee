"""Runs one contender, in a process and an environment of its own, as a job says.

``ldreader_benchmark_driver JOB`` serves: to each line of the input, a number of times to do the job, it answers with
the seconds and the CPU seconds that took; to 0 with the job's answer. ``ldreader_benchmark_driver --once JOB`` prints
the answer and ends. A job is a file of JSON:

    contender   which of CONTENDERS
    options     for the contender
    task        "one" (flag), "many" (flags in one request) or "all" (flags)
    fresh       true to make a new reader or client each time
    keys, context, store, url, port, path, prefix, tls, items
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]
REGION = "us-east-1"
TABLE = "flags"
NOT_OFFERED = ("ConfigurationError", "MissingDependency")
"""ldreader's errors where an option or a package is not there."""


class Ldreader:
    """ldreader, opened by URL."""

    def __init__(self, job: Job) -> None:
        from ldreader import Context

        self._job = job
        self._key = job["keys"][0]
        self._context = Context.from_dict(job["context"])

    def open(self) -> Any:
        from ldreader import FlagReader

        return FlagReader.from_url(self._job["url"], **self._job["options"])

    def close(self, reader: Any) -> None:
        reader.close()

    def one(self, reader: Any) -> Any:
        return reader.variation(self._key, self._context, None)

    def many(self, reader: Any) -> Any:
        keys = self._job["keys"]
        with reader.request(self._context) as flags:
            flags.prefetch(*keys)
            return {key: flags.variation(key, None) for key in keys}

    def all(self, reader: Any) -> Any:
        return reader.all_flags_state(self._context).to_values_map()


class LdreaderWatched(Ldreader):
    """ldreader over texts in memory, where the option ``by`` names what watches it: a "hook", a "sink", or nothing."""

    def open(self) -> Any:
        from ldreader import FlagReader, Hook

        watching: Any = {"hook": {"hooks": [Hook()]}, "sink": {"events": lambda events: None}}
        return FlagReader(self._requester(), **watching.get(self._job["options"].get("by"), {}))

    def _requester(self) -> Any:
        from ldreader import MemoryRequester

        return MemoryRequester(self._job["items"])


class LdreaderRequest(LdreaderWatched):
    """The same without a reader: a `Request`, whose code knows of neither hooks nor events, is made directly."""

    def open(self) -> Any:
        from ldreader import Request

        requester = self._requester()
        options: Any = {"big_segments": None, "defaults": {}, "timeout": None}
        return lambda: Request(requester, self._context, offline=False, strict=False, **options)

    def close(self, opened: Any) -> None:
        pass

    def one(self, opened: Any) -> Any:
        return opened().variation(self._key, None)


class Official:
    """The official SDK in daemon mode. The option ``cached`` leaves it its default cache."""

    def __init__(self, job: Job) -> None:
        from ldclient import Context

        self._job = job
        self._key = job["keys"][0]
        self._context = Context.from_dict(job["context"])

    def open(self) -> Any:
        from ldclient.client import LDClient
        from ldclient.config import Config

        if self._job["store"] == "file":
            from ldclient.integrations import Files

            return LDClient(Config("sdk-key", update_processor_class=_files(Files, self._job), send_events=False))
        return LDClient(Config("sdk-key", use_ldd=True, feature_store=self._feature_store(), send_events=False))

    def close(self, client: Any) -> None:
        client.close()

    def one(self, client: Any) -> Any:
        return client.variation(self._key, self._context, None)

    def many(self, client: Any) -> Any:
        return {key: client.variation(key, self._context, None) for key in self._job["keys"]}

    def all(self, client: Any) -> Any:
        return client.all_flags_state(self._context).to_values_map()

    def _feature_store(self) -> Any:
        from ldclient.feature_store import CacheConfig

        job = self._job
        caching = CacheConfig.default() if job["options"].get("cached") else CacheConfig.disabled()
        if job["store"] == "redis":
            from ldclient.integrations import Redis

            return Redis.new_feature_store(_redis(job), prefix=job["prefix"], caching=caching)
        if job["store"] == "dynamodb":
            from ldclient.integrations import DynamoDB

            options = {"endpoint_url": _endpoint(job), "region_name": REGION}
            return DynamoDB.new_feature_store(TABLE, prefix=job["prefix"], dynamodb_opts=options, caching=caching)
        from ldclient.integrations import Consul

        return Consul.new_feature_store(
            host="127.0.0.1",
            port=job["port"],
            prefix=job["prefix"],
            consul_opts={"scheme": "https", "verify": job["tls"]} if job["tls"] else {},
            caching=caching,
        )


class Bare:
    """The database's package alone, reading a flag's text."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._key = job["keys"][0]
        self._prefix = job["prefix"]

    def open(self) -> Any:
        job = self._job
        if job["store"] == "redis":
            import redis

            return redis.Redis.from_url(_redis(job))
        if job["store"] == "dynamodb":
            import boto3

            return boto3.client("dynamodb", endpoint_url=_endpoint(job), region_name=REGION)
        import consul

        scheme = {"scheme": "https", "verify": job["tls"]} if job["tls"] else {}
        return consul.Consul(host="127.0.0.1", port=job["port"], **scheme)

    def close(self, client: Any) -> None:
        if hasattr(client, "close"):
            client.close()

    def one(self, client: Any) -> Any:
        if self._job["store"] == "redis":
            return client.hget(f"{self._prefix}:features", self._key)
        if self._job["store"] == "dynamodb":
            key = {"namespace": {"S": f"{self._prefix}:features"}, "key": {"S": self._key}}
            return client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)["Item"]["item"]["S"]
        return client.kv.get(f"{self._prefix}/features/{self._key}")[1]["Value"]


class LdreaderDecoding:
    """ldreader's decoding and evaluation, from JSON text.

    The texts that are needed are at hand at once, as they are with read-ahead. With the option ``levels`` they come
    level by level, with a walk for each.
    """

    def __init__(self, job: Job) -> None:
        from ldreader import Context
        from ldreader.evaluator import evaluate
        from ldreader.schema import decode

        self._evaluate: Any = evaluate
        self._decode: Any = decode
        self._key = job["keys"][0]
        self._context = Context.from_dict(job["context"])
        items = job["items"]
        self._texts = {(kind, key): text.encode() for kind in items for key, text in items[kind].items()}
        self._levels = job["options"].get("levels")
        self._at_hand = {("features", self._key): self._texts["features", self._key]}

    def open(self) -> Any:
        return None

    def close(self, opened: Any) -> None:
        pass

    def one(self, opened: Any) -> Any:
        items = {ref: self._decode(ref, text) for ref, text in self._at_hand.items()}
        while True:
            evaluation = self._evaluate(self._key, self._context, items)
            if not evaluation.lacks:
                break
            for ref in evaluation.lacks:
                items[ref] = self._decode(ref, self._texts[ref])
        if len(items) > len(self._at_hand) and not self._levels:
            self._at_hand = {ref: self._texts[ref] for ref in items}
        return evaluation.detail.value


class OfficialDecoding:
    """The official SDK's decoding, model and evaluation, from JSON text."""

    def __init__(self, job: Job) -> None:
        from ldclient import Context
        from ldclient.impl.evaluator import Evaluator
        from ldclient.impl.events.types import EventFactory
        from ldclient.versioned_data_kind import FEATURES, SEGMENTS

        self._key = job["keys"][0]
        self._context = Context.from_dict(job["context"])
        self._events = EventFactory(False)
        flags = {key: text.encode() for key, text in job["items"]["features"].items()}
        segments = {key: text.encode() for key, text in job["items"]["segments"].items()}
        # As its stores do it.
        self._flag: Callable[[str], Any] = lambda key: FEATURES.decode(json.loads(flags[key].decode("utf-8")))
        self._evaluator = Evaluator(
            self._flag,
            lambda key: SEGMENTS.decode(json.loads(segments[key].decode("utf-8"))),
            lambda key: (None, ""),
        )

    def open(self) -> Any:
        return None

    def close(self, opened: Any) -> None:
        pass

    def one(self, opened: Any) -> Any:
        result = self._evaluator.evaluate(self._flag(self._key), self._context, self._events)
        assert result.detail is not None
        return result.detail.value


CONTENDERS: dict[str, Any] = {
    "ldreader": Ldreader,
    "ldreader watched": LdreaderWatched,
    "ldreader request": LdreaderRequest,
    "official": Official,
    "bare": Bare,
    "ldreader decoding": LdreaderDecoding,
    "official decoding": OfficialDecoding,
}


def operation(job: Job) -> Callable[[], Any]:
    """What the job is to do each time."""
    contender = CONTENDERS[job["contender"]](job)
    task = getattr(contender, job["task"])
    if not job["fresh"]:
        opened = contender.open()
        return lambda: task(opened)

    def anew() -> Any:
        opened = contender.open()
        try:
            return task(opened)
        finally:
            contender.close(opened)

    return anew


def plain(job: Job, answer: Any) -> Any:
    """The answer as JSON holds it; of a bare read, the key of the flag that was read."""
    return json.loads(answer)["key"] if job["contender"] == "bare" else answer


def serve(job: Job) -> None:
    """Does the job as often as it is told."""
    try:
        do = operation(job)
        do()
    except Exception as error:
        if type(error).__name__ not in NOT_OFFERED:
            raise
        print(json.dumps({"unavailable": str(error)}), flush=True)
        return
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        times = int(line)
        if times == 0:
            print(json.dumps({"answer": plain(job, do())}), flush=True)
            continue
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(times):
            do()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)


def once(job: Job) -> None:
    """Does the job and prints the answer; exit code 2 where it is not offered, as the command ``ldreader`` has it."""
    try:
        print(json.dumps(plain(job, operation(job)())))
    except Exception as error:
        if type(error).__name__ not in NOT_OFFERED:
            raise
        print(error, file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Serves, or with ``--once`` prints the answer."""
    with open(sys.argv[-1], encoding="utf-8") as file:
        job = json.load(file)
    if sys.argv[1] == "--once":
        once(job)
    else:
        serve(job)


def _redis(job: Job) -> str:
    return f"unix://{job['path']}" if job["path"] else f"redis://127.0.0.1:{job['port']}"


def _endpoint(job: Job) -> str:
    return f"{'https' if job['tls'] else 'http'}://127.0.0.1:{job['port']}"


def _files(files: Any, job: Job) -> Any:
    return files.new_data_source(paths=[job["url"].partition(":")[2]])
