"""DynamoDB through boto3: every source of credentials, and a client that the application already has."""

from __future__ import annotations

import os
import time

from ..errors import ConfigurationError, StoreError
from . import client_package
from .dynamodb import PAUSE, Refused, Unanswered, words
from .hurry import Clock, hurried_pools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from .dynamodb import Row

_METHODS = {"GetItem": "get_item", "BatchGetItem": "batch_get_item", "Query": "query"}


class Boto3:
    """The seam over boto3."""

    def __init__(
        self, client: Any = None, *, connect: Callable[[], Any] | None = None, clock: Clock | None = None
    ) -> None:
        self._client = client
        self._connect = connect
        self._clock = clock
        self._process = 0
        self.is_bounded = connect is not None
        """False over an application's own client, which has timeouts of its own and tries again by itself."""
        # A resource's client takes and gives Python's values and would wrap {"S": …} once more; a plain client
        # refuses them before anything is sent. So the first call finds out.
        self._in_python_values: bool | None = None if connect is None else False

    @classmethod
    def open(cls, region: str | None, endpoint_url: str | None, timeout: float, session: Any = None) -> Boto3:
        """A client of its own, with short timeouts and few attempts, made when first asked.

        One request costs at most twice the timeout, and making the client, which may have to fetch credentials, as
        much again.

        Raises:
            ConfigurationError: There is no region, or the profile is not there.
            MissingDependency: The package boto3 is not installed.
        """
        boto3 = client_package("boto3", extra="dynamodb")
        import botocore.config
        import botocore.exceptions

        # botocore's own bounds are 60 s for each of up to ten attempts.
        config = botocore.config.Config(
            connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1}, tcp_keepalive=True
        )
        clock = Clock(timeout)
        try:
            session = session or _session(boto3, config, clock)
            if not region and not session.region_name:
                raise botocore.exceptions.NoRegionError
        except botocore.exceptions.BotoCoreError as error:
            raise ConfigurationError(
                f"DynamoDB cannot be opened: {words(error)} A region may stand in the URL: dynamodb://TABLE?region=…"
            ) from error

        def connect() -> Any:
            try:
                client = session.client("dynamodb", region_name=region, endpoint_url=endpoint_url, config=config)
            except ValueError as error:  # an endpoint or a region that makes no sense
                raise StoreError(f"DynamoDB cannot be asked: {words(error)}") from error
            _hurry_client(client, clock)
            return client

        return cls(connect=connect, clock=clock)

    @classmethod
    def over(cls, dynamodb: Any, timeout: float) -> Boto3:
        """The seam over what the application has: a client, a resource or a session of boto3."""
        if hasattr(dynamodb, "get_available_services"):
            return cls.open(None, None, timeout, dynamodb)
        return cls(getattr(dynamodb.meta, "client", dynamodb))

    def call(self, operation: str, payload: dict[str, Any], deadline: float | None = None) -> dict[str, Any]:
        """The reply to one operation.

        Raises:
            Refused: DynamoDB answered with an error.
            StoreError: DynamoDB did not answer.
        """
        import botocore.exceptions as errors

        if deadline is not None and time.monotonic() >= deadline:
            raise Unanswered("timed out")
        try:
            self._get_ready(deadline)
            if self._in_python_values is not False:
                try:
                    reply = _from_python(self._send(operation, _to_python(payload)))
                except errors.ParamValidationError:
                    self._in_python_values = False
                else:
                    self._in_python_values = True
                    return reply
            return self._send(operation, payload)
        except errors.ClientError as error:
            found = error.response.get("Error", {})
            raise Refused(str(found.get("Code", "no code")), words(found.get("Message", ""))) from error
        except (
            errors.NoCredentialsError,
            errors.PartialCredentialsError,
            errors.CredentialRetrievalError,
            errors.TokenRetrievalError,
            errors.SSOError,
        ) as error:
            raise StoreError(f"DynamoDB cannot be asked: {words(error)}; give credentials or a role") from error
        except (errors.BotoCoreError, OSError) as error:
            # What a frozen process finds when it wakes: a connection that the other side has closed.
            raise Unanswered(error, passing=isinstance(error, errors.ConnectionClosedError)) from error
        except ValueError:  # what no header can carry, such as a line break; the message would quote the credentials
            raise StoreError(
                "DynamoDB cannot be asked: the credentials, or where they are said to be, hold something that does "
                "not belong"
            ) from None

    def close(self) -> None:
        """Closes the client if it was made here."""
        if self._connect is not None and self._client is not None:
            self._client.close()

    def _send(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = getattr(self._client, _METHODS[operation])(**payload)
        return reply

    def _get_ready(self, deadline: float | None = None) -> None:
        """Makes the client when it is first needed: looking for credentials may take the network."""
        if self._connect is None or self._clock is None:
            return
        # Two processes that share a connection would read each other's replies. There is no lock: one that another
        # thread holds during a fork is never released; at worst two threads make a client each.
        if self._process != os.getpid():
            self._clock.start(deadline)
            client = self._connect()
            self._client, self._process = client, os.getpid()
        self._clock.start(deadline)


def _session(boto3: ModuleType, config: Any, clock: Clock) -> Any:
    """A session that finds credentials in bounded time too: STS and SSO are asked by clients that it makes."""
    import botocore.session

    class Session(botocore.session.Session):  # type: ignore[misc]
        def create_client(self, *arguments: Any, **options: Any) -> Any:
            client = super().create_client(*arguments, **options)
            _hurry_client(client, clock)
            return client

        def get_credentials(self) -> Any:
            brief = Clock(self.get_config_variable("metadata_service_timeout"))
            brief._thread = clock._thread  # the same end in all, but less time for each piece
            for provider in self.get_component("credential_provider").providers:
                of_container: Any = getattr(provider, "_fetcher", None)
                of_machine: Any = getattr(provider, "_role_fetcher", None)
                _hurry(getattr(of_container, "_session", None), clock)
                _hurry(getattr(of_machine, "_session", None), brief)
                if hasattr(of_container, "_sleep"):
                    of_container._sleep = lambda _: time.sleep(PAUSE)  # after each of three attempts; else a second
            return super().get_credentials()

    session = Session()
    session.set_default_client_config(config)
    return boto3.session.Session(botocore_session=session)


def _hurry_client(client: Any, clock: Clock) -> None:
    _hurry(getattr(getattr(client, "_endpoint", None), "http_session", None), clock)


def _hurry(http: Any, clock: Clock) -> None:
    """Makes a session of botocore's HTTP keep to the clock; one built otherwise has bounds for each piece only."""
    pools = getattr(http, "_pool_classes_by_scheme", None)
    if pools and not any(hasattr(pool.ConnectionCls, "clock") for pool in pools.values()):
        http._pool_classes_by_scheme = http._manager.pool_classes_by_scheme = hurried_pools(pools, clock)


def _to_python(value: Any) -> Any:
    """A request with each ``{"S": text}`` as the text alone."""
    if isinstance(value, dict):
        if value.keys() == {"S"}:
            return value["S"]
        return {name: _to_python(member) for name, member in value.items()}
    return [_to_python(member) for member in value] if isinstance(value, list) else value


def _from_python(reply: Any) -> dict[str, Any]:
    """A reply in DynamoDB's JSON again, as far as this module reads it."""
    typed: dict[str, Any] = {}
    if "Item" in reply:
        typed["Item"] = _typed_row(reply["Item"])
    if "Items" in reply:
        typed["Items"] = [_typed_row(row) for row in reply["Items"]]
    if "LastEvaluatedKey" in reply:
        typed["LastEvaluatedKey"] = _typed_row(reply["LastEvaluatedKey"])
    if "Responses" in reply:
        typed["Responses"] = {table: [_typed_row(row) for row in rows] for table, rows in reply["Responses"].items()}
    if "UnprocessedKeys" in reply:
        typed["UnprocessedKeys"] = {
            table: {**left, "Keys": [_typed_row(key) for key in left["Keys"]]}
            for table, left in reply["UnprocessedKeys"].items()
        }
    return typed


def _typed_row(row: dict[str, Any]) -> Row:
    typed: Row = {}
    for name, value in row.items():
        if isinstance(value, str):
            typed[name] = {"S": value}
        elif isinstance(value, set):
            typed[name] = {"SS": list(value)}
        else:
            typed[name] = {"N": str(value)}
    return typed
