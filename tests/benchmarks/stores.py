"""The stores that are read: real servers of this machine, started when first needed and filled without ldreader."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.aws import ENVIRONMENT, FOREIGN, DynamoDBServer, amazons_own, moto
from tests.benchmarks.driver import REGION, TABLE
from tests.benchmarks.network import Network
from tests.benchmarks.secure import Secure
from tests.benchmarks.shapes import World
from tests.consul_agent import ConsulAgent
from tests.servers import RedisServer

Unavailable = (pytest.skip.Exception, pytest.fail.Exception)
"""What starting a server raises when it is not installed."""


def pin(process: int) -> None:
    """Keeps a process on the core of all that are pinned, where that can be done.

    Who asks and who answers take turns anyway, and to wake another core takes as long as half a round trip, or not.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(process, {max(os.sched_getaffinity(0))})


class Place(NamedTuple):
    """A world in a store, and the way there."""

    store: str
    port: int = 0
    prefix: str = ""
    authorities: str = ""
    """The file of authorities to trust where the way is TLS."""
    directory: str = ""
    """The same authorities in a directory, one file each."""
    path: str = ""
    """The file of a store that is one; of Redis, the socket to use instead of the port."""

    @property
    def url(self) -> str:
        """The store URL, as ldreader takes it."""
        if self.store == "file":
            return f"file:{self.path}"
        if self.store == "dynamodb":
            endpoint = quote(f"http{'s' * self.is_secure}://127.0.0.1:{self.port}", safe="")
            return f"dynamodb://{TABLE}?endpoint_url={endpoint}&region={REGION}&prefix={self.prefix}"
        if self.store == "consul":
            trust = f"&verify={quote(self.authorities, safe='')}" if self.authorities else ""
            return f"consul{'+https' * self.is_secure}://127.0.0.1:{self.port}?prefix={self.prefix}{trust}"
        if self.path:
            return f"unix://{self.path}?prefix={self.prefix}"
        return f"redis://127.0.0.1:{self.port}?prefix={self.prefix}"

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that clients of this store need."""
        variables = dict(ENVIRONMENT) if self.store == "dynamodb" else {}
        if self.authorities:
            variables |= dict.fromkeys(("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), self.authorities)
        elif self.directory:
            variables |= {"SSL_CERT_DIR": self.directory, "SSL_CERT_FILE": os.devnull}
        return variables

    @property
    def is_secure(self) -> bool:
        """Whether the way is TLS."""
        return bool(self.authorities or self.directory)

    def with_directory(self) -> Place:
        """The same for a client that is to find authorities in the directory, as on Debian."""
        return self._replace(authorities="")


class Stores:
    """Servers for the length of a ``with`` block; a world is put into a store once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = ExitStack()
        self._servers: dict[str, Any] = {}
        self._networks: dict[tuple[int, float], Network] = {}
        self._places: dict[tuple[str, str], Place] = {}

    def __enter__(self) -> Stores:
        for name in FOREIGN:
            os.environ.pop(name, None)
        os.environ.update(ENVIRONMENT)  # for the client that fills the table
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def place(self, store: str, name: str, world: World, *, secure: bool = False) -> Place:
        """Where the world of that name is in a store of that kind."""
        if (store, name) not in self._places:
            self._places[store, name] = self._put(store, name, world)
        place = self._places[store, name]
        if secure:
            tls = self._server(f"{store} with TLS", lambda: Secure(place.port, self._directory_for(store)))
            place = place._replace(port=tls.port, authorities=str(tls.authorities), directory=str(tls.directory))
        return place

    def by_socket(self, place: Place) -> Place:
        """The same place in Redis, by its Unix socket.

        Over TCP within one machine, a packet is as large as the receiver's window, so that a large reply after many
        small ones may wait for acknowledgements, 40 ms each; between machines it does not.
        """
        redis: RedisServer = self._servers["redis"]
        return place._replace(path=str(redis.socket_path))

    def network(self, place: Place, delay: float = 0.0) -> Network:
        """A network with that delay to the place's server."""
        known = (place.port, delay)
        if known not in self._networks:
            self._networks[known] = self._running.enter_context(Network(*known))
        return self._networks[known]

    def _put(self, store: str, name: str, world: World) -> Place:
        items = {"features": world.flags, "segments": world.segments}
        if store == "file":
            path = self._directory / f"{name}.json"
            path.write_text(json.dumps({"flags": world.flags, "segments": world.segments}), encoding="utf-8")
            return Place(store, path=str(path))
        if store == "redis":
            redis: RedisServer = self._server(store, RedisServer)
            pin(redis.process.pid)
            for kind, texts in _texts(items).items():
                for key, text in texts.items():
                    redis.ask("HSET", f"{name}:{kind}", key, text)
            return Place(store, redis.port, name)
        if store == "consul":
            consul: ConsulAgent = self._server(store, ConsulAgent)
            for kind, texts in _texts(items).items():
                for key, text in texts.items():
                    consul.put(f"{name}/{kind}/{key}", text.encode())
            return Place(store, consul.port, name)
        dynamodb: DynamoDBServer = self._server(store, _dynamodb)
        dynamodb.create_table(TABLE)
        with dynamodb.resource().Table(TABLE).batch_writer() as batch:
            for kind, texts in _texts(items).items():
                for key, text in texts.items():
                    batch.put_item(Item={"namespace": f"{name}:{kind}", "key": key, "version": 1, "item": text})
        return Place(store, dynamodb.port, name)

    def _server(self, name: str, start: Any) -> Any:
        if name not in self._servers:
            self._servers[name] = self._running.enter_context(start())
        return self._servers[name]

    def _directory_for(self, store: str) -> Path:
        directory = self._directory / f"{store}-tls"
        directory.mkdir()
        return directory


def _dynamodb() -> DynamoDBServer:
    try:
        return amazons_own()  # it answers sooner
    except Unavailable:
        return moto()


def _texts(items: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {kind: {key: json.dumps(item) for key, item in items[kind].items()} for kind in items}
