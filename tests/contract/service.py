"""What LaunchDarkly's sdk-test-harness talks to: ldreader's public face behind the harness's own protocol.

Each SDK client of the harness is a `FlagReader`. Its flags come from the harness's mock of LaunchDarkly through a
requester made for this (`harness_requesters.py`), its events go to the mock through a sink, and its big segments come
from the harness's callbacks. Run it with: python -m tests.contract.service PORT php|server
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from flask import Flask, Response, request

import ldreader
from ldreader import Context, ExecutionOrder, FlagReader, Hook, MigratorBuilder, Result, Stage
from ldreader.attribute import reference_of_literal
from ldreader.requesters import open_requester
from tests.contract.harness_requesters import PhpRequester, StreamRequester

Json = dict[str, Any]

COMMON = (
    *("server-side", "all-flags-with-reasons", "all-flags-client-side-only"),
    *("all-flags-details-only-for-tracked-flags", "anonymous-redaction", "big-segments", "client-prereq-events"),
    *("context-comparison", "context-type", "evaluation-hooks", "event-sampling", "inline-context-all", "migrations"),
    *("omit-anonymous-contexts", "secure-mode-hash", "track-hooks"),
)
STORES = tuple(f"persistent-data-store-{store}" for store in ("redis", "consul", "dynamodb"))
CAPABILITIES = {"php": (*COMMON, "php"), "server": (*COMMON, *STORES, "strongly-typed")}

direct = build_opener(ProxyHandler({}))  # the harness is on this machine, whatever proxy the environment names


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> bytes:
    """The answer to a POST of JSON, or of text as it is."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    asked = Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    with direct.open(asked, timeout=10) as answer:
        found: bytes = answer.read()
        return found


class HarnessSink:
    """Keeps events until the harness says that they are to be sent."""

    def __init__(self, url: str, sdk_key: str) -> None:
        self._url = f"{url.rstrip('/')}/bulk"
        self._headers = {
            "Authorization": sdk_key,
            "X-LaunchDarkly-Event-Schema": "4",
            "X-LaunchDarkly-Unsummarized": "true",
        }
        self._kept: list[Json] = []

    def __call__(self, events: list[Json]) -> None:
        """Keeps a batch."""
        self._kept += events

    def flush(self) -> None:
        """Sends what there is, if there is anything."""
        kept, self._kept = self._kept, []
        if kept:
            post(self._url, self._shaped(kept), self._headers)

    def _shaped(self, events: list[Json]) -> list[Json]:
        return events


class SummarizingSink(HarnessSink):
    """Sends what a receiver such as a Relay Proxy makes of the events: summaries, and each context once."""

    def __init__(self, url: str, sdk_key: str) -> None:
        super().__init__(url, sdk_key)
        del self._headers["X-LaunchDarkly-Unsummarized"]
        self._seen: set[str] = set()

    def _shaped(self, events: list[Json]) -> list[Json]:
        shaped: list[Json] = []
        features: Json = {}
        for event in events:
            context = json.dumps(event["context"], sort_keys=True)
            if context not in self._seen and event["kind"] in ("feature", "custom"):
                shaped.append({"kind": "index", "creationDate": event["creationDate"], "context": event["context"]})
            self._seen.add(context)
            if event["kind"] != "feature":
                shaped.append(event)
                continue
            of_flag = features.setdefault(
                event["key"], {"default": event["default"], "contextKinds": [event["context"]["kind"]], "counters": []}
            )
            version = {"version": event["version"]} if "version" in event else {"unknown": True}
            of_flag["counters"].append({"value": event["value"], "count": 1, **version})
        if features:
            dates = {"startDate": events[0]["creationDate"], "endDate": events[-1]["creationDate"]}
            shaped.append({"kind": "summary", **dates, "features": features})
        return shaped


class HarnessBigSegments:
    """Big segments as the harness's callbacks tell them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get_metadata(self) -> Any:
        """When they were brought up to date."""
        return SimpleNamespace(last_up_to_date=json.loads(post(f"{self._url}/getMetadata", {}))["lastUpToDate"])

    def get_membership(self, context_hash: str) -> Any:
        """The memberships of one context."""
        return json.loads(post(f"{self._url}/getMembership", {"contextHash": context_hash})).get("values")

    def stop(self) -> None:
        """Does nothing."""


class PostingHook(Hook):
    """Tells the harness of each stage, or fails at those at which the harness wants it to."""

    def __init__(self, config: Json) -> None:
        self._url = config["callbackUri"]
        self._data = config.get("data") or {}
        self._errors = config.get("errors") or {}

    def before_evaluation(self, series_context: Any, data: Json) -> Json:
        """See the base."""
        return self._tell("beforeEvaluation", series_context, data)

    def after_evaluation(self, series_context: Any, data: Json, detail: Any) -> Json:
        """See the base."""
        return self._tell("afterEvaluation", series_context, data, evaluationDetail=detail.to_json_dict())

    def after_track(self, series_context: Any) -> None:
        """See the base."""
        told = {
            "key": series_context.key,
            "context": series_context.context.to_dict(),
            "data": series_context.data,
            "metricValue": series_context.metric_value,
        }
        self._post("afterTrack", trackSeriesContext=told)

    def _tell(self, stage: str, series: Any, data: Json, **more: Any) -> Json:
        told = {
            "flagKey": series.key,
            "context": series.context.to_dict(),
            "defaultValue": series.default_value,
            "method": series.method,
        }
        self._post(stage, evaluationSeriesContext=told, evaluationSeriesData=data, **more)
        return {**data, **(self._data.get(stage) or {})}

    def _post(self, stage: str, **members: Any) -> None:
        if stage in self._errors:
            raise RuntimeError(self._errors[stage])
        post(self._url, {"stage": stage, **members})


class Client:
    """One SDK client of the harness."""

    def __init__(self, config: Json) -> None:
        self.sink: HarnessSink | None = None
        events = config.get("events")
        options: Json = {"sdk_key": config["credential"]}
        if events is not None:
            made = HarnessSink if mode() == "php" else SummarizingSink
            self.sink = made(events["baseUri"], config["credential"])
            options["events"] = self.sink
            options["all_attributes_private"] = events.get("allAttributesPrivate") or False
            options["private_attributes"] = events.get("globalPrivateAttributes") or ()
            options["omit_anonymous_contexts"] = events.get("omitAnonymousContexts") or False
        if hooks := (config.get("hooks") or {}).get("hooks"):
            options["hooks"] = [PostingHook(hook) for hook in hooks]
        if big_segments := config.get("bigSegments"):
            stale_after = big_segments.get("staleAfterMs")
            options["big_segments"] = SimpleNamespace(
                store=HarnessBigSegments(big_segments["callbackUri"]),
                **({} if stale_after is None else {"stale_after": stale_after / 1000}),
            )
        self.reader = FlagReader(requester_for(config), **options)
        self._requests: OrderedDict[str, ldreader.Request] = OrderedDict()
        self._kept = kept_requests(config)

    def evaluate(self, asked: Json) -> Json:
        """One flag; by a typed method where the harness goes by types."""
        kinds = {"bool": "bool_", "int": "int_", "double": "float_", "string": "string_", "any": "json_"}
        kind = kinds.get(asked.get("valueType") or "", "") if mode() == "server" else ""
        name = f"{kind}variation_detail" if asked.get("detail") else f"{kind}variation"
        key, context, default = asked["flagKey"], Context.from_dict(asked["context"]), asked.get("defaultValue")
        if self._kept:
            found = getattr(self._request_for(context), name)(key, default)
        else:
            found = getattr(self.reader, name)(key, context, default)
        answer: Json = found.to_json_dict() if asked.get("detail") else {"value": found}
        return answer

    def _request_for(self, context: Context) -> ldreader.Request:
        """The request for a context; the one that was used least recently ends where there are too many."""
        name = context.to_json_string()
        if name not in self._requests:
            self._requests[name] = self.reader.request(context)
        self._requests.move_to_end(name)
        while len(self._requests) > self._kept:
            self._requests.popitem(last=False)[1].close()
        return self._requests[name]

    def close(self) -> None:
        """Ends the requests and the reader."""
        for kept in self._requests.values():
            kept.close()
        self.reader.close()

    def evaluate_all(self, asked: Json) -> Json:
        """All flags."""
        state = self.reader.all_flags_state(
            Context.from_dict(asked["context"]),
            client_side_only=bool(asked.get("clientSideOnly")),
            with_reasons=bool(asked.get("withReasons")),
            details_only_for_tracked_flags=bool(asked.get("detailsOnlyForTrackedFlags")),
        )
        return {"state": state.to_json_dict()}

    def identify(self, asked: Json) -> Json:
        """An identify event."""
        self.reader.identify(Context.from_dict(asked["context"]))
        return {}

    def custom(self, asked: Json) -> Json:
        """An event of the application's own."""
        context = Context.from_dict(asked["context"])
        self.reader.track(asked["eventKey"], context, asked.get("data"), asked.get("metricValue"))
        return {}

    def flush(self, asked: Json) -> Json:
        """Sends the events."""
        if self.sink is not None:
            self.sink.flush()
        return {}

    def secure_mode_hash(self, asked: Json) -> Json:
        """A context's hash."""
        return {"result": self.reader.secure_mode_hash(Context.from_dict(asked["context"]))}

    def big_segment_store_status(self, asked: Json) -> Json:
        """How the store of big segments is."""
        status = self.reader.big_segment_store_status()
        return {"available": status.available, "stale": status.stale}

    def context_build(self, asked: Json) -> Json:
        """A context from a builder."""
        if asked.get("multi"):
            return written(Context.create_multi(*[single(each) for each in asked["multi"]]))
        return written(single(asked["single"]))

    def context_convert(self, asked: Json) -> Json:
        """A context from JSON, and back."""
        return written(Context.from_json(asked["input"]))

    def context_comparison(self, asked: Json) -> Json:
        """Whether two contexts are equal."""
        return {"equals": compared(asked["context1"]) == compared(asked["context2"])}

    def migration_variation(self, asked: Json) -> Json:
        """The stage of a migration."""
        stage, _ = self.reader.migration_variation(
            asked["key"], Context.from_dict(asked["context"]), Stage(asked["defaultStage"])
        )
        return {"result": stage.value}

    def migration_operation(self, asked: Json) -> Json:
        """A read or a write by a migrator."""
        order = {"concurrent": "parallel"}.get(asked["readExecutionOrder"], asked["readExecutionOrder"])
        builder = MigratorBuilder(self.reader).read_execution_order(ExecutionOrder(order))
        builder.track_latency(asked["trackLatency"]).track_errors(asked["trackErrors"])
        old, new = calling(asked["oldEndpoint"]), calling(asked["newEndpoint"])
        builder.read(old, new, (lambda a, b: bool(a == b)) if asked["trackConsistency"] else None).write(old, new)
        migrator = builder.build()
        if isinstance(migrator, str):
            return {"result": migrator}
        arguments = (
            asked["key"],
            Context.from_dict(asked["context"]),
            Stage(asked["defaultStage"]),
            asked.get("payload"),
        )
        reads = asked["operation"] == "read"
        result = migrator.read(*arguments) if reads else migrator.write(*arguments).authoritative
        return {"result": result.value if result.is_success() else result.error}


COMMANDS = {
    "evaluate": Client.evaluate,
    "evaluateAll": Client.evaluate_all,
    "identifyEvent": Client.identify,
    "customEvent": Client.custom,
    "flushEvents": Client.flush,
    "secureModeHash": Client.secure_mode_hash,
    "getBigSegmentStoreStatus": Client.big_segment_store_status,
    "contextBuild": Client.context_build,
    "contextConvert": Client.context_convert,
    "contextComparison": Client.context_comparison,
    "migrationVariation": Client.migration_variation,
    "migrationOperation": Client.migration_operation,
}


def kept_requests(config: Json) -> int:
    """How many requests a client keeps; 0 where each evaluation is a request of its own.

    The harness wants memberships in big segments to be kept, so many and for so long. Here a request is what keeps
    them, so an application that wants the same keeps its requests; where memberships are to expire, this one does not.
    """
    big_segments = config.get("bigSegments")
    if not big_segments or big_segments.get("userCacheTimeMs") is not None:
        return 0
    return big_segments.get("userCacheSize") or 1000


def requester_for(config: Json) -> Any:
    """Where a client's flags are: in a database, or in the harness's mock of LaunchDarkly."""
    if persistence := config.get("persistentDataStore"):
        store = persistence["store"]
        prefix = {"prefix": store["prefix"]} if store.get("prefix") else {}
        if store["type"] == "redis":
            return open_requester(store["dsn"], **prefix)
        if store["type"] == "consul":
            return open_requester(f"consul://{store['dsn']}", **prefix)
        table = "dynamodb://sdk-contract-tests"
        return open_requester(table, endpoint_url=store["dsn"], region="us-east-1", **prefix)
    if mode() == "php":
        return PhpRequester((config.get("polling") or {}).get("baseUri") or "")
    return StreamRequester((config.get("streaming") or {}).get("baseUri") or "")


def single(asked: Json) -> Context:
    """A context of one kind, made by the builder."""
    builder = Context.builder(asked.get("key") or "")
    if asked.get("kind") is not None:
        builder.kind(asked["kind"])
    builder.name(asked.get("name")).anonymous(asked.get("anonymous") or False)
    for name, value in (asked.get("custom") or {}).items():
        builder.set(name, value)
    return builder.private(*(asked.get("private") or ())).build()


def compared(asked: Json) -> Context:
    """A context that is to be compared."""

    def one(each: Json) -> Context:
        builder = Context.builder(each["key"]).kind(each["kind"])
        for attribute in each.get("attributes") or ():
            builder.set(attribute["name"], attribute.get("value"))
        for private in each.get("privateAttributes") or ():
            value = private["value"]
            builder.private(reference_of_literal(value) if private.get("literal") else value)
        return builder.build()

    if asked.get("multi"):
        return Context.create_multi(*[one(each) for each in asked["multi"]])
    return one(asked["single"])


def written(context: Context) -> Json:
    """A context as the harness wants to have it."""
    return {"output": context.to_json_string()} if context.valid else {"error": context.error}


def calling(url: str) -> Any:
    """A function of a migration that asks the harness."""

    def call(payload: Any) -> Result:
        try:
            return Result.success(post(url, payload or "").decode())
        except URLError as error:
            return Result.fail(str(error), error)

    return call


app = Flask(__name__)
clients: dict[str, Client] = {}
numbers = itertools.count(1)


def mode() -> str:
    """Whom the service stands for: ``php``, or ``server`` for any SDK on a server."""
    return sys.argv[2]


@app.get("/")
def status() -> Json:
    """What the harness may test."""
    return {"name": "ldreader", "clientVersion": ldreader.__version__, "capabilities": CAPABILITIES[mode()]}


@app.delete("/")
def stop() -> Response:
    """Ends the service, once this is answered."""
    threading.Timer(0.1, os._exit, (0,)).start()
    return Response(status=204)


@app.post("/")
def create() -> Response:
    """A new client."""
    name = str(next(numbers))
    clients[name] = Client(request.get_json(force=True)["configuration"])
    return Response(status=201, headers={"Location": f"/clients/{name}"})


@app.post("/clients/<name>")
def command(name: str) -> Any:
    """One command for a client."""
    asked = request.get_json(force=True)
    if asked["command"] not in COMMANDS:
        return Response(f"unknown command {asked['command']}", status=400)
    return COMMANDS[asked["command"]](clients[name], asked.get(asked["command"]) or {})


@app.delete("/clients/<name>")
def close(name: str) -> Response:
    """The end of a client."""
    clients.pop(name).close()
    return Response(status=204)


if __name__ == "__main__":
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
