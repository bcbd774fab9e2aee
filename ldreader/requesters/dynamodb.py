"""Flags in DynamoDB: one table, partition key ``namespace``, sort key ``key`` (spec: store schemas, section 3).

The requester knows the layout; the client behind it is reached through one method, ``call``, which takes and gives
DynamoDB's own JSON.
"""

from __future__ import annotations

from ..errors import ConfigurationError, StoreError
from ..schema import FEATURES, SEGMENTS
from . import DEFAULT_TIMEOUT, client_package, flag_of, seconds, split_query, unknown
from .membership import BigSegmentsMetadata, epoch_ms, membership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Protocol, TypeAlias

    from ..schema import ItemRef

    RowKey: TypeAlias = tuple[str, str]
    Row: TypeAlias = dict[str, dict[str, Any]]

    class CallsDynamoDB(Protocol):
        """The seam: one operation, its request and its reply as in DynamoDB's JSON protocol."""

        def call(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
            """The reply; `Refused` where DynamoDB answered with an error, `StoreError` where it did not answer."""
            ...

        def close(self) -> None:
            """Lets go of what was opened."""
            ...


BATCH_LIMIT = 100
"""Keys that one BatchGetItem may ask for."""

KEY_LIMIT = 1024
"""Bytes that a sort key may have; a longer or an empty one makes DynamoDB refuse a whole batch."""

_PAUSE = 0.02
"""Seconds before asking again for what a batch left out; twice as long each time that nothing came."""


class Refused(StoreError):
    """DynamoDB's own error reply, by its code."""

    answered = True

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"DynamoDB refused to read: {code}: {message}")
        self.code = code
        self.message = message


class DynamoDBRequester:
    """Flags, segments and big segments from a DynamoDB table.

    ``dynamodb`` is a boto3 client, resource or session, made by the application. Reads are strongly consistent
    unless ``consistent`` is False, which costs half. The default prefix is none.
    """

    def __init__(
        self,
        dynamodb: Any,
        table: str,
        *,
        prefix: str = "",
        consistent: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._dynamodb: CallsDynamoDB = dynamodb if hasattr(dynamodb, "call") else Boto3.over(dynamodb, timeout)
        self._table = table
        self._prefix = f"{prefix}:" if prefix else ""
        self._consistent = consistent
        self._timeout = timeout
        self._may_batch = True

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        consistent: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> DynamoDBRequester:
        """The requester for ``dynamodb://TABLE``. Connects when first asked.

        All of these may also stand in the URL. Credentials, and the region where none is given, are found by boto3
        in its usual places. ``timeout`` is in seconds, for connecting and for each reply.

        Raises:
            ConfigurationError: There is no table, or an option is unknown or makes no sense, or there is no region.
            MissingDependency: The package boto3 is not installed.
        """
        base, in_url = split_query(url)
        given: dict[str, Any] = {
            "prefix": prefix,
            "region": region,
            "endpoint_url": endpoint_url,
            "consistent": consistent,
            "timeout": timeout,
        }
        for name in (*in_url, *options):
            if name not in given:
                raise unknown("option for DynamoDB", name, given)
        settings: dict[str, Any] = {**in_url, **{name: value for name, value in given.items() if value is not None}}
        table = base.partition("//")[2].strip("/")
        if not table:
            raise ConfigurationError("the DynamoDB URL names no table; write dynamodb://TABLE")
        bound = seconds(settings.get("timeout", DEFAULT_TIMEOUT))
        return cls(
            Boto3.open(settings.get("region"), settings.get("endpoint_url"), bound),
            table,
            prefix=settings.get("prefix", ""),
            consistent=flag_of("consistent", settings.get("consistent", True)),
            timeout=bound,
        )

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, str | StoreError]:
        """The items that exist; one round trip for each hundred.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        rows = self._rows([(self._prefix + kind, key) for kind, key in refs])
        found: dict[ItemRef, str | StoreError] = {}
        for kind, key in refs:
            row = rows.get((self._prefix + kind, key))
            text = row if row is None or isinstance(row, StoreError) else _string(row, "item")
            if text is not None:
                found[kind, key] = text
        return found

    def get_all(self) -> dict[str, dict[str, str | StoreError]]:
        """Everything under the prefix: two queries, and a further one for each megabyte.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        collections: dict[str, dict[str, str | StoreError]] = {}
        for kind in (FEATURES, SEGMENTS):
            collections[kind] = {}
            for row in self._query(self._prefix + kind):
                key, text = _string(row, "key"), _string(row, "item")
                if key is not None and text is not None:
                    collections[kind][key] = text
        return collections

    def get_metadata(self) -> BigSegmentsMetadata:
        """When the big segments were last brought up to date.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        return self.get_big_segments(())[0]

    def get_membership(self, context_hash: str) -> dict[str, bool] | None:
        """The big segments that a context is known to be in (True) or not in (False); None when nothing is known.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        return self.get_big_segments((context_hash,))[1][context_hash]

    def get_big_segments(
        self, context_hashes: Iterable[str]
    ) -> tuple[BigSegmentsMetadata, dict[str, dict[str, bool] | None]]:
        """The metadata and the memberships of contexts in one round trip.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        metadata_key = (f"{self._prefix}big_segments_metadata",) * 2
        keys = {context_hash: (f"{self._prefix}big_segments_user", context_hash) for context_hash in context_hashes}
        rows: dict[RowKey, Row] = {}
        for key, row in self._rows([metadata_key, *keys.values()]).items():
            if isinstance(row, StoreError):
                raise row
            rows[key] = row
        memberships = {}
        for context_hash, key in keys.items():
            row = rows.get(key, {})
            memberships[context_hash] = membership(_strings(row, "included"), _strings(row, "excluded"))
        synchronized = rows.get(metadata_key, {}).get("synchronizedOn", {}).get("N")
        return BigSegmentsMetadata(epoch_ms(synchronized)), memberships

    def stop(self) -> None:
        """The same as `close`, by the name that a big segment store has."""
        self.close()

    def close(self) -> None:
        """Closes the connections, if this requester opened them."""
        self._dynamodb.close()

    def _rows(self, keys: Iterable[RowKey]) -> dict[RowKey, Row | StoreError]:
        """The rows that exist, by namespace and key."""
        keys = [key for key in dict.fromkeys(keys) if key[1] and len(key[1].encode()) <= KEY_LIMIT]
        if len(keys) > 1 and self._may_batch:
            try:
                return self._batches(keys)
            except Refused as error:
                if error.code != "AccessDeniedException":
                    raise self._clear(error) from error
                self._may_batch = False  # BatchGetItem is a grant of its own; the official SDKs do without it.
        rows: dict[RowKey, Row | StoreError] = {}
        for key in keys:
            payload = {"TableName": self._table, "Key": _key(key), "ConsistentRead": self._consistent}
            row = self._call("GetItem", payload).get("Item")
            if row:
                rows[key] = row
        return rows

    def _batches(self, keys: Sequence[RowKey]) -> dict[RowKey, Row | StoreError]:
        import time

        deadline = time.monotonic() + self._timeout
        rows: dict[RowKey, Row | StoreError] = {}
        for start in range(0, len(keys), BATCH_LIMIT):
            pending = [_key(key) for key in keys[start : start + BATCH_LIMIT]]
            pause = _PAUSE
            while pending:
                asked = {"Keys": pending, "ConsistentRead": self._consistent}
                reply = self._dynamodb.call("BatchGetItem", {"RequestItems": {self._table: asked}})
                came = _of_the_table(reply.get("Responses"), ())
                for row in came:
                    rows[str(_string(row, "namespace")), str(_string(row, "key"))] = row
                # A batch gives 16 MB at most, and less when reads are throttled; the rest is to be asked for again.
                pending = _of_the_table(reply.get("UnprocessedKeys"), {}).get("Keys", [])
                pause = _PAUSE if came else 2 * pause
                if time.monotonic() + pause > deadline:
                    break
                if pending:
                    time.sleep(pause)
            for left in pending:
                rows[str(_string(left, "namespace")), str(_string(left, "key"))] = StoreError(
                    f"DynamoDB left {_string(left, 'key')!r} out of its replies for {self._timeout:g} s: reads of the "
                    f"table {self._table!r} are throttled; raise its capacity"
                )
        return rows

    def _query(self, namespace: str) -> Iterable[Row]:
        payload: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#n = :n",
            "ExpressionAttributeNames": {"#n": "namespace"},
            "ExpressionAttributeValues": {":n": {"S": namespace}},
            "ConsistentRead": self._consistent,
        }
        while True:
            reply = self._call("Query", payload)
            yield from reply.get("Items", ())
            if not reply.get("LastEvaluatedKey"):
                return
            payload["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def _call(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._dynamodb.call(operation, payload)
        except Refused as error:
            raise self._clear(error) from error

    def _clear(self, error: Refused) -> StoreError:
        """The same refusal in words that say what to do."""
        advice = _ADVICE.get(error.code, f"{error.code}: {error.message}")
        if error.code == "ValidationException":
            advice += "; the table {table!r} needs the partition key 'namespace' and the sort key 'key', both strings"
        clear = StoreError("DynamoDB refused to read: " + advice.replace("{table!r}", repr(self._table)))
        clear.answered = True
        return clear


_THROTTLED = "reads of the table {table!r} are throttled; raise its capacity"
_CREDENTIALS = "the credentials are not valid for this account and region"
_ADVICE = {
    "ResourceNotFoundException": "there is no table {table!r} in this region and account; check its name and region",
    "AccessDeniedException": "access denied; allow dynamodb:GetItem, BatchGetItem and Query on the table {table!r}",
    "ProvisionedThroughputExceededException": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "ExpiredTokenException": "the credentials have expired; renew them",
    "UnrecognizedClientException": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "IncompleteSignatureException": _CREDENTIALS,
    "MissingAuthenticationTokenException": _CREDENTIALS,
}


_PASSING = ("InternalServerError", "ServiceUnavailable", "ThrottlingException", "RequestLimitExceeded")
"""Refusals that one more attempt may well get past."""


class Boto3:
    """The seam over boto3: every source of credentials, and a client that the application already has."""

    def __init__(self, client: Any = None, *, connect: Callable[[], Any] | None = None, patience: float = 0.0) -> None:

        self._client = client
        self._connect = connect
        self._process = 0
        self._patience = patience
        # A resource's client takes and gives Python's values and would wrap {"S": …} once more; a plain client
        # refuses them before anything is sent. So the first call finds out.
        self._in_python_values: bool | None = None if connect is None else False

    @classmethod
    def open(cls, region: str | None, endpoint_url: str | None, timeout: float, session: Any = None) -> Boto3:
        """A client of its own, with short timeouts and few attempts, made when first asked.

        Raises:
            ConfigurationError: There is no region, or the endpoint is no URL.
            MissingDependency: The package boto3 is not installed.
        """
        boto3 = client_package("boto3", extra="dynamodb")
        import botocore.config
        import botocore.exceptions

        # botocore's own bounds are 60 s for each of up to ten attempts.
        config = botocore.config.Config(
            connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1}, tcp_keepalive=True
        )
        if endpoint_url is not None and ("://" not in endpoint_url or "@" in endpoint_url):
            # Not shown: before an @ there may be a password.
            raise ConfigurationError("endpoint_url must be a URL like http://localhost:8000, without a user")
        try:
            session = session or boto3.session.Session()
            if not region and not session.region_name:
                raise botocore.exceptions.NoRegionError
        except botocore.exceptions.BotoCoreError as error:
            raise ConfigurationError(
                f"DynamoDB cannot be opened: {_words(error)} A region may stand in the URL: dynamodb://TABLE?region=…"
            ) from error

        def connect() -> Any:
            try:
                return session.client("dynamodb", region_name=region, endpoint_url=endpoint_url, config=config)
            except ValueError as error:  # an endpoint or a region that makes no sense
                raise StoreError(f"DynamoDB cannot be asked: {_words(error)}") from error

        return cls(connect=connect, patience=timeout / 2)

    @classmethod
    def over(cls, dynamodb: Any, timeout: float) -> Boto3:
        """The seam over what the application has: a client, a resource or a session of boto3."""
        if hasattr(dynamodb, "get_available_services"):
            return cls.open(None, None, timeout, dynamodb)
        return cls(getattr(dynamodb.meta, "client", dynamodb))

    def call(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The reply to one operation; a failure that came quickly and may pass is tried again, once.

        Raises:
            Refused: DynamoDB answered with an error.
            StoreError: DynamoDB did not answer.
        """
        import time

        import botocore.exceptions

        # Not botocore's retries: those wait for a silent server as often as for a busy one.
        deadline = time.monotonic() + self._patience
        try:
            return self._answer(operation, payload)
        except StoreError as error:
            passing = error.code in _PASSING if isinstance(error, Refused) else False
            # What a frozen process finds when it wakes: a connection that the other side has closed.
            passing = passing or isinstance(error.__cause__, botocore.exceptions.ConnectionClosedError)
            if not passing or time.monotonic() + _PAUSE >= deadline:
                raise
        time.sleep(_PAUSE)
        return self._answer(operation, payload)

    def close(self) -> None:
        """Closes the client if it was made here."""
        if self._connect is not None and self._client is not None:
            self._client.close()

    def _answer(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        import botocore.exceptions as errors

        try:
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
            raise Refused(str(found.get("Code", "no code")), _words(found.get("Message", ""))) from error
        except (
            errors.NoCredentialsError,
            errors.PartialCredentialsError,
            errors.CredentialRetrievalError,
            errors.TokenRetrievalError,
            errors.SSOError,
        ) as error:
            raise StoreError(f"DynamoDB cannot be asked: {_words(error)}; give credentials or a role") from error
        except (errors.BotoCoreError, OSError) as error:
            raise StoreError(
                f"DynamoDB did not answer: {_words(error)}; check the network, the region and the URL"
            ) from error
        except ValueError:  # what no header can carry, such as a line break; the message would quote the credentials
            raise StoreError(
                "DynamoDB cannot be asked: the credentials hold a character that does not belong"
            ) from None

    def _send(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        methods = {"GetItem": "get_item", "BatchGetItem": "batch_get_item", "Query": "query"}
        reply: dict[str, Any] = getattr(self._ready(), methods[operation])(**payload)
        return reply

    def _ready(self) -> Any:
        """The client, made when first needed: looking for credentials may take the network."""
        if self._connect is not None:
            import os

            # Two processes that share a connection would read each other's replies. There is no lock: one that another
            # thread holds during a fork is never released; at worst two threads make a client each.
            if self._process != os.getpid():
                client = self._connect()
                self._client, self._process = client, os.getpid()
        return self._client


def _words(error: object) -> str:
    """The message on one line."""
    return " ".join(str(error).split())


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


def _key(key: RowKey) -> Row:
    return {"namespace": {"S": key[0]}, "key": {"S": key[1]}}


def _string(row: Row, name: str) -> str | None:
    value = row.get(name, {}).get("S")
    return value if isinstance(value, str) else None


def _strings(row: Row, name: str) -> Sequence[str]:
    value = row.get(name, {}).get("SS", ())
    return value if isinstance(value, (list, tuple)) else ()


def _of_the_table(by_table: dict[str, Any] | None, default: Any) -> Any:
    # Only one table is asked; a reply may name it otherwise than the request did, by its ARN.
    return next(iter((by_table or {}).values()), default)
