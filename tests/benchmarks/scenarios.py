"""What is measured: each scenario with its contenders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import shapes
from tests.benchmarks.aws_lambda import ColdStart, Core
from tests.benchmarks.contenders import Driven, Launcher, OneShot, PhpSdk, driver_command
from tests.benchmarks.environments import Environments
from tests.benchmarks.results import Contender, Effort, Entry, Scenario
from tests.benchmarks.shapes import CONTEXT, SHAPES, World
from tests.benchmarks.stores import Place, Stores

LIMIT = "python -c pass"
LIMIT_ISOLATED = "python -I -c pass"
LDREADER = "ldreader"
PUBLIC = "ldreader, public modules"
ONE_FILE = "ldreader, authorities in one file"
NO_READ_AHEAD = "ldreader, no read-ahead"
LEVELS = "ldreader, level by level"
REQUEST = "ldreader, its Request alone"
HOOK = "ldreader, a hook"
SINK = "ldreader, a sink"
OFFICIAL = "official SDK"
CACHED = "official SDK, default cache"
PHP = "PHP SDK"
EMPTY = "an empty handler"
PARTS_OF_A_CORE = (1.0, 0.3, 0.1)
PACKAGES = {"redis": "redis-py", "dynamodb": "boto3", "consul": "python-consul"}
"""By store: the package that is its client."""

DELAY = 0.002
COLD_FLAG = "rollout"
GROWTH = {
    "flags": (10, 30, 100, 300, 1000),
    "segments": (1, 2, 5, 10, 20),
    "targets": (10, 100, 1000, 3000, 10_000),
    "depth": (1, 2, 3, 5, 8),
}


def over_package(store: str) -> str:
    """The name of ldreader where it reads through the store's package."""
    return f"ldreader, client={PACKAGES[store]}"


def in_lambda(name: str, store: str) -> str:
    """The name of a contender in AWS Lambda, by where it reads."""
    return f"{name}, {_TITLES[store]}"


class Scenarios:
    """All scenarios. Each generator starts the servers that it needs as it goes."""

    def __init__(
        self, stores: Stores, environments: Environments, launcher: Launcher, directory: Path, effort: Effort
    ) -> None:
        self._stores = stores
        self._environments = environments
        self._launcher = launcher
        self._directory = directory
        self._effort = effort
        self._jobs = 0
        self._php = PhpSdk.at_hand()

    def parts(self) -> dict[str, Callable[[], Iterator[Scenario]]]:
        """The scenarios by the name of their part, in the order of the report."""
        cold = {f"cold-{store}": self._cold_part(store) for store in ("redis", *_OTHERS)}
        return {
            **cold,
            "warm": self._warm,
            "decoding": self._decoding,
            "watched": self._watched,
            "twenty": self._twenty,
            "all": self._all,
            "dynamodb-cpu": self._dynamodb_cpu,
            "growth": self._growth,
            "lambda": self._lambda,
        }

    def _cold_part(self, store: str) -> Callable[[], Iterator[Scenario]]:
        return lambda: self._cold(store)

    def _cold(self, name: str) -> Iterator[Scenario]:
        store, _, tls = name.partition("-")
        world = _small(shapes.shapes())
        place = self._stores.place(store, "cold", world, secure=bool(tls))
        answer = world.answers[COLD_FLAG]
        context = {"kind": "user", "key": CONTEXT["key"]}
        python = self._environments.python
        words = ["variation", COLD_FLAG, "--context", CONTEXT["key"]]
        forced = "import socket, json, hashlib, sys; from ldreader.cli import main; sys.exit(main())"

        def run(*command: str) -> Callable[[Place], Contender]:
            def made(place: Place) -> Contender:
                place = place.with_directory()
                return OneShot(self._launcher, [*command, "--store", place.url], place)

            return made

        def with_one_file(place: Place) -> Contender:
            return OneShot(self._launcher, [self._environments.ldreader, *words, "--store", place.url], place)

        def limit(*options: str) -> Callable[[Place], Contender]:
            return lambda place: OneShot(self._launcher, [python, *options, "-c", "pass"], None, silent=True)

        entries = [
            Entry(LIMIT, limit(), None, is_small=True),
            Entry(LIMIT_ISOLATED, limit("-I"), None, is_small=True),
            Entry(LDREADER, run(self._environments.ldreader, *words), answer, is_small=True),
            Entry(PUBLIC, run(python, "-c", forced, *words), answer, is_small=True),
        ]
        if tls:
            entries.append(Entry(ONE_FILE, with_one_file, answer, is_small=True))
        job = {"keys": [COLD_FLAG], "context": context, "task": "one"}
        if store in PACKAGES:
            option = {"client": PACKAGES[store]}
            entries.append(Entry(over_package(store), self._once("ldreader", job, option), answer))
        entries.append(Entry(OFFICIAL, self._once("official", job), answer))
        if store in PACKAGES:
            entries.append(Entry(PACKAGES[store], self._once("bare", job), COLD_FLAG))
        if store == "redis" and self._php:
            entries.append(Entry(PHP, self._once(PHP, job), answer))
        yield Scenario(f"cold.{name}", f"Cold one-shot process, {_TITLES[name]}", place, entries, LIMIT)

    def _warm(self) -> Iterator[Scenario]:
        world = shapes.shapes()
        place = self._stores.place("redis", "shapes", world)
        for key, title in SHAPES.items():
            entries = [
                *self._readers(world.answers[key], {"keys": [key], "task": "one"}),
                Entry(PACKAGES["redis"], self._driven("bare", {"keys": [key], "task": "one"}), key),
            ]
            yield Scenario(f"warm.{key}", f"Warm evaluation, {title}", place, entries, LDREADER)

    def _decoding(self) -> Iterator[Scenario]:
        world = shapes.shapes()
        texts = _texts(world)
        for key, title in SHAPES.items():
            job = {"keys": [key], "task": "one", "items": texts}
            entries = [
                Entry(LDREADER, self._driven("ldreader decoding", job), world.answers[key]),
                Entry(LEVELS, self._driven("ldreader decoding", job, {"levels": True}), world.answers[key]),
                Entry(OFFICIAL, self._driven("official decoding", job), world.answers[key]),
            ]
            yield Scenario(f"decoding.{key}", f"Decoding and evaluating, {title}", Place("none"), entries, LDREADER)

    def _watched(self) -> Iterator[Scenario]:
        world = shapes.shapes()
        texts = _texts(_small(world))
        for key in ("boolean", "prerequisites"):
            job = {"keys": [key], "task": "one", "items": texts}
            answer = world.answers[key]
            entries = [
                Entry(LDREADER, self._driven("ldreader watched", job), answer),
                Entry(REQUEST, self._driven("ldreader request", job), answer),
                Entry(HOOK, self._driven("ldreader watched", job, {"by": "hook"}), answer),
                Entry(SINK, self._driven("ldreader watched", job, {"by": "sink"}), answer),
            ]
            yield Scenario(f"watched.{key}", f"Watched evaluation, {SHAPES[key]}", Place("none"), entries, LDREADER)

    def _twenty(self) -> Iterator[Scenario]:
        world = shapes.twenty()
        place = self._stores.place("redis", "twenty", world)
        for delay in (0.0, DELAY):
            for fresh in (False, True):
                job = {"keys": sorted(world.answers), "task": "many", "fresh": fresh}
                entries = self._readers(world.answers, job, cached=not fresh)
                name = f"twenty.{_milliseconds(delay)}.{_kept(fresh)}"
                title = f"20 flags in a request, {_in_words(delay)}, {_kept_words(fresh)}"
                yield Scenario(name, title, place, entries, LDREADER, delay)

    def _all(self) -> Iterator[Scenario]:
        world = shapes.environment()
        place = self._stores.place("redis", "all", world)
        job: dict[str, Any] = {"keys": [""], "task": "all"}
        place = self._stores.by_socket(place)
        for delay in (0.0, DELAY):
            for fresh in (False, True):
                entries = self._readers(world.answers, job | {"fresh": fresh}, cached=not fresh)
                name = f"all.{_milliseconds(delay)}.{_kept(fresh)}"
                title = f"All 300 flags, {_in_words(delay)}, {_kept_words(fresh)}"
                yield Scenario(name, title, place, entries, LDREADER, delay)
            words = [self._environments.ldreader, "all", "--context", json.dumps(CONTEXT), "--store"]

            def process(place: Place, words: list[str] = words) -> Contender:
                return OneShot(self._launcher, [*words, place.url], place)

            entries = [
                Entry(LDREADER, process, world.answers),
                Entry(OFFICIAL, self._once("official", job), world.answers),
            ]
            if self._php:
                entries.append(Entry(PHP, self._once(PHP, job), world.answers))
            title = f"All 300 flags, {_in_words(delay)}, a new process"
            yield Scenario(f"all.{_milliseconds(delay)}.process", title, place, entries, LDREADER, delay)
        for store in ("consul", "dynamodb"):
            place = self._stores.place(store, "all", world)
            entries = [
                Entry(LDREADER, self._driven("ldreader", job), world.answers),
                Entry(OFFICIAL, self._driven("official", job), world.answers),
            ]
            title = f"All 300 flags, {_TITLES[store]}, {_kept_words(False)}"
            yield Scenario(f"all.{store}.kept", title, place, entries, LDREADER)

    def _dynamodb_cpu(self) -> Iterator[Scenario]:
        world = _small(shapes.shapes())
        place = self._stores.place("dynamodb", "cold", world)
        job = {"keys": ["boolean"], "task": "one"}
        package = PACKAGES["dynamodb"]
        entries = [
            Entry(LDREADER, self._driven("ldreader", job), True),
            Entry(over_package("dynamodb"), self._driven("ldreader", job, {"client": package}), True),
            Entry(OFFICIAL, self._driven("official", job), True),
            Entry(package, self._driven("bare", job), "boolean"),
        ]
        yield Scenario("dynamodb-cpu", "One flag from DynamoDB, kept connection", place, entries, LDREADER)

    def _growth(self) -> Iterator[Scenario]:
        for by, sizes in GROWTH.items():
            count = self._effort.sizes
            chosen = sizes if count >= len(sizes) else sizes[:: len(sizes) - 1]
            for size in chosen:
                world = shapes.environment(size) if by == "flags" else shapes.grown(by, size)
                place = self._stores.place("redis", f"{by}-{size}", world)
                if by == "flags":
                    place = self._stores.by_socket(place)
                job = {"keys": ["grown"], "task": "all" if by == "flags" else "one"}
                answer = world.answers if by == "flags" else world.answers["grown"]
                entries = [
                    Entry(LDREADER, self._driven("ldreader", job), answer),
                    Entry(OFFICIAL, self._driven("official", job), answer),
                ]
                yield Scenario(f"growth.{by}.{size}", f"Growth, {by}: {size}", place, entries, LDREADER)

    def _lambda(self) -> Iterator[Scenario]:
        world = _small(shapes.shapes())
        answer = world.answers[COLD_FLAG]
        job = {"keys": [COLD_FLAG], "context": {"kind": "user", "key": CONTEXT["key"]}, "task": "one"}
        redis = self._stores.place("redis", "cold", world)
        dynamodb = self._stores.place("dynamodb", "cold", world)
        over_tls = self._stores.place("dynamodb", "cold", world, secure=True)
        for part in PARTS_OF_A_CORE:
            with Core(part) as core:

                def start(contender: str, there: Place, core: Core = core) -> Callable[[Place], Contender]:
                    whole = self._whole_job(contender, job, {}, there)
                    return lambda _: ColdStart(self._environments, core, contender, whole, there)

                entries = [
                    Entry(EMPTY, start("empty", Place("none")), None),
                    Entry(in_lambda(LDREADER, "redis"), start("ldreader", redis), answer),
                    Entry(in_lambda(LDREADER, "dynamodb"), start("ldreader", dynamodb), answer),
                    Entry(in_lambda(LDREADER, "dynamodb-tls"), start("ldreader", over_tls), answer),
                    Entry(in_lambda(OFFICIAL, "redis"), start("official", redis), answer),
                    Entry(in_lambda(OFFICIAL, "dynamodb"), start("official", dynamodb), answer),
                    Entry(PACKAGES["dynamodb"], start("bare", dynamodb), COLD_FLAG),
                ]
                title = f"A cold start on {part:g} of a core" if part < 1 else "A cold start on a core"
                yield Scenario(f"lambda.{part:g}", title, Place("none"), entries, EMPTY)

    def _readers(self, answer: Any, job: dict[str, Any], *, cached: bool = True) -> list[Entry]:
        """ldreader in all its ways, and the official SDKs, each over Redis."""
        client = {"client": PACKAGES["redis"]}
        entries = [
            Entry(LDREADER, self._driven("ldreader", job), answer),
            Entry(NO_READ_AHEAD, self._driven("ldreader", job, {"read_ahead": False}), answer),
            Entry(over_package("redis"), self._driven("ldreader", job, client), answer),
            Entry(OFFICIAL, self._driven("official", job), answer),
        ]
        if cached:
            entries.append(Entry(CACHED, self._driven("official", job, {"cached": True}), answer))
        if self._php:
            entries.append(Entry(PHP, self._driven(PHP, job), answer))
        return entries

    def _driven(
        self, contender: str, job: dict[str, Any], options: dict[str, Any] | None = None
    ) -> Callable[[Place], Contender]:
        """Makes a contender that goes on."""

        def make(place: Place) -> Contender:
            command = self._command(contender, self._job(contender, job, options, place))
            return Driven(command, place, self._effort.slice_seconds)

        return make

    def _once(
        self, contender: str, job: dict[str, Any], options: dict[str, Any] | None = None
    ) -> Callable[[Place], Contender]:
        """Makes a contender that does the job once in each process."""

        def make(place: Place) -> Contender:
            path = self._job(contender, job | {"fresh": True}, options, place)
            return OneShot(self._launcher, self._command(contender, "--once", path), place)

        return make

    def _command(self, contender: str, *words: str) -> list[str]:
        if contender == PHP:
            assert self._php is not None
            return self._php.command(*words)
        return driver_command(self._environments, *words)

    def _job(self, contender: str, job: dict[str, Any], options: dict[str, Any] | None, place: Place) -> str:
        self._jobs += 1
        path = self._directory / f"job-{self._jobs}.json"
        path.write_text(json.dumps(self._whole_job(contender, job, options, place)), encoding="utf-8")
        return str(path)

    def _whole_job(
        self, contender: str, job: dict[str, Any], options: dict[str, Any] | None, place: Place
    ) -> dict[str, Any]:
        return {
            "contender": contender,
            "options": options or {},
            "fresh": False,
            "context": CONTEXT,
            "store": place.store,
            "url": place.url,
            "port": place.port,
            "path": place.path,
            "prefix": place.prefix,
            "tls": place.authorities,
            **job,
        }


_OTHERS = ("dynamodb", "dynamodb-tls", "consul", "consul-tls", "file")
_TITLES = {
    "redis": "from Redis",
    "dynamodb": "from DynamoDB",
    "dynamodb-tls": "from DynamoDB over TLS",
    "consul": "from Consul",
    "consul-tls": "from Consul over TLS",
    "file": "from a file",
}


def _small(world: World) -> World:
    """The world without its large items."""
    flags = {key: flag for key, flag in world.flags.items() if key not in shapes.LARGE}
    segments = {key: segment for key, segment in world.segments.items() if key != "crowd"}
    return World(flags, segments, world.answers)


def _texts(world: World) -> dict[str, dict[str, str]]:
    """Its items as a requester gives them."""
    items = {"features": world.flags, "segments": world.segments}
    return {kind: {key: json.dumps(item) for key, item in items[kind].items()} for kind in items}


def _milliseconds(delay: float) -> str:
    return f"{delay * 1000:g}ms"


def _in_words(delay: float) -> str:
    return f"{delay * 1000:g} ms away"


def _kept(fresh: bool) -> str:
    return "new" if fresh else "kept"


def _kept_words(fresh: bool) -> str:
    return "a new reader each time" if fresh else "kept connection"
