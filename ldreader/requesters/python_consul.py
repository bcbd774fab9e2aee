"""Consul through the package python-consul, or py-consul, which is called the same."""

from __future__ import annotations

import os
import time

from . import client_package
from .consul import unanswered
from .hurry import Clock, hurried_pools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class PythonConsul:
    """The seam over either package."""

    exact = False  # both give the body as text, in which bytes that are no UTF-8 are lost

    def __init__(self, client: Any, timeout: float | None, connect: Callable[[Clock], Any] | None) -> None:
        self.timeout = timeout
        self._client = client
        self._connect = connect
        self._http: Any = client and client.http
        self._process = 0
        self._clock = Clock(timeout or 0.0)

    @classmethod
    def over(cls, client: Any) -> PythonConsul:
        """The seam over a client that the application has, with its token, datacenter, consistency and timeouts."""
        return cls(client, None, None)

    @classmethod
    def open(
        cls,
        host: str,
        port: int,
        *,
        secure: bool,
        token: str,
        timeout: float,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> PythonConsul:
        """A client of its own, with each exchange bounded: connecting by the timeout, and the whole reply too.

        Raises:
            MissingDependency: Neither package is installed.
        """
        std = client_package("consul", extra="consul").std
        scheme = "https" if secure else "http"
        name = f"[{host}]" if ":" in host else host

        def connect(clock: Clock) -> Any:
            # Not `consul.Consul`: there the environment would win over what is given here.
            http = std.HTTPClient(name, port, scheme, verify, cert)
            _bound(http.session, timeout, clock)
            if token:
                http.session.headers["X-Consul-Token"] = token
            # A proxy or a password file in the environment is not meant for the agent, nor its token for others.
            http.session.trust_env = False
            http.session.max_redirects = 0
            return http

        return cls(None, timeout, connect)

    def http(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        body: bytes | None,
        deadline: float | None = None,
    ) -> tuple[int, bytes | str]:
        """The status and the body of one exchange.

        Raises:
            StoreError: There was no answer, or none by the deadline.
        """
        import requests

        if deadline is not None and time.monotonic() >= deadline:
            raise unanswered("timed out")
        options: dict[str, Any] = {}
        if self._connect is None:
            parameters, options = _as_the_client_would(self._client, parameters)
        elif self._process != os.getpid():
            # Two processes that share a connection would read each other's answers.
            self._http, self._process = self._connect(self._clock), os.getpid()
        self._clock.start(deadline)
        try:
            if method == "GET":
                status, text = self._http.get(_answer, path, parameters, **options)
            else:
                status, text = self._http.put(_answer, path, parameters, body, **options)
        except (requests.RequestException, OSError) as error:
            raise unanswered(_cause(error)) from error
        return status, text

    def close(self) -> None:
        """Closes the client if it was made here."""
        if self._connect is not None and self._http is not None:
            self._http.session.close()


def _bound(session: Any, timeout: float, clock: Clock) -> None:
    """Makes all that the session sends keep to the timeout and the clock: python-consul has no timeout of its own."""
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            pools = self.poolmanager.pool_classes_by_scheme
            self.poolmanager.pool_classes_by_scheme = hurried_pools(pools, clock)

        def send(self, *arguments: Any, **options: Any) -> Any:
            return super().send(*arguments, **{**options, "timeout": timeout})

    for scheme in ("http://", "https://"):
        session.mount(scheme, Bounded())


def _as_the_client_would(client: Any, parameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The parameters and further arguments for a request of the application's client."""
    parameters = dict(parameters)
    if client.dc:
        parameters.setdefault("dc", client.dc)
    if client.consistency != "default":
        parameters[client.consistency] = "1"
    if hasattr(client, "prepare_headers"):
        return parameters, {"headers": client.prepare_headers()}
    if client.token:  # python-consul, and py-consul before 1.6, cannot send headers
        parameters["token"] = client.token
    return parameters, {}


def _answer(response: Any) -> tuple[int, str]:
    return response.code, response.body


def _cause(error: BaseException) -> str:
    # requests wraps urllib3, which quotes the whole URL; the innermost says it best.
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error) or type(error).__name__
