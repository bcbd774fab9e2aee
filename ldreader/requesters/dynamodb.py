"""Flags in DynamoDB: one table, partition key ``namespace``, sort key ``key`` (spec: store schemas, section 3).

The requester knows the layout; the client behind it is reached through one method, ``call``, which takes and gives
DynamoDB's own JSON. Behind it stands ldreader's own client for the usual case, or boto3.
"""

from __future__ import annotations

import os
import time

from ..errors import ConfigurationError, StoreError
from ..schema import FEATURES, SEGMENTS
from ..twins import json_dumps, json_loads
from ..wire import credentials, sigv4
from ..wire.connection import MalformedReply
from ..wire.http import Http, split_url
from . import DEFAULT_TIMEOUT, flag_of, seconds, split_query, unknown
from .membership import BigSegmentsMetadata, epoch_ms, membership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Protocol, TypeAlias

    from ..schema import ItemRef
    from ..wire.credentials import Keys

    RowKey: TypeAlias = tuple[str, str]
    Row: TypeAlias = dict[str, dict[str, Any]]

    class CallsDynamoDB(Protocol):
        """The seam: one operation, its request and its reply as in DynamoDB's JSON protocol."""

        def call(self, operation: str, payload: dict[str, Any], deadline: float = ...) -> dict[str, Any]:
            """The reply; `Refused` where DynamoDB answered with an error, `StoreError` where it did not answer.

            Both by the deadline, if one is given.
            """
            ...

        def close(self) -> None:
            """Lets go of what was opened."""
            ...


BATCH_LIMIT = 100
"""Keys that one BatchGetItem may ask for."""

KEY_LIMIT = 1024
"""Bytes that a sort key may have; a longer or an empty one makes DynamoDB refuse a whole batch."""

GUESS_LIMIT = 4096
"""Bytes of an item that may be fetched on a guess: reading is paid by size, in steps of so much."""

SINGLE_FOR = 300.0
"""Seconds in which items are got one by one, once a batch was denied; then the role may have been mended."""

CLIENTS = ("boto3", "wire")
"""The clients by the names that the option ``client`` takes."""

PAUSE = 0.02
"""Seconds before asking again for what a batch left out; twice as long each time that nothing came."""

_PASSING = ("InternalServerError", "ServiceUnavailable", "ThrottlingException", "RequestLimitExceeded")
"""Refusals that one more attempt may well get past."""


class Refused(StoreError):
    """DynamoDB's own error reply, by its code."""

    answered = True

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"DynamoDB refused to read: {code}: {message}")
        self.code = code
        self.message = message


class Unanswered(StoreError):
    """There was no reply that can be read."""

    def __init__(self, why: object, *, passing: bool = False) -> None:
        super().__init__(f"DynamoDB did not answer: {words(why)}; check the network, the region and the URL")
        self.passing = passing
        """One more attempt may well get an answer."""


class DynamoDBRequester:
    """Flags, segments and big segments from a DynamoDB table.

    ``dynamodb`` is a boto3 client, resource or session, made by the application. Reads are strongly consistent
    unless ``consistent`` is False, which costs half. The default prefix is none.
    """

    keeps_deadlines = True

    def __init__(
        self,
        dynamodb: Any,
        table: str,
        *,
        prefix: str = "",
        consistent: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        if not hasattr(dynamodb, "call"):
            from .boto3 import Boto3

            dynamodb = Boto3.over(dynamodb, timeout)
        self._dynamodb: CallsDynamoDB = dynamodb
        # An application's own client tries again by itself, and has timeouts of its own.
        self._is_bounded = getattr(dynamodb, "is_bounded", True)
        self._table = table
        self._prefix = f"{prefix}:" if prefix else ""
        self._consistent = consistent
        self._timeout = timeout
        self._single_until = float("-inf")

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
        client: str | None = None,
        **options: Any,
    ) -> DynamoDBRequester:
        """The requester for ``dynamodb://TABLE``. Connects when first asked.

        All of these may also stand in the URL. Credentials, and the region where none is given, are found as boto3
        finds them. ``timeout`` is in seconds, for connecting and for each reply. ``client`` is ``"wire"`` for
        ldreader's own client or ``"boto3"``; left out, it is the former wherever that can serve.

        Raises:
            ConfigurationError: There is no table, or an option is unknown or makes no sense, or there is no region.
            MissingDependency: The package boto3 is needed and not installed.
        """
        base, in_url = split_query(url)
        given: dict[str, Any] = {
            "prefix": prefix,
            "region": region,
            "endpoint_url": endpoint_url,
            "consistent": consistent,
            "timeout": timeout,
            "client": client,
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
            _seam(settings.get("client"), settings.get("region"), settings.get("endpoint_url"), bound),
            table,
            prefix=settings.get("prefix", ""),
            consistent=flag_of("consistent", settings.get("consistent", True)),
            timeout=bound,
        )

    @property
    def timeout(self) -> float | None:
        """Seconds that connecting, and each reply, may take; None with an application's own client."""
        return self._timeout if self._is_bounded else None

    @property
    def guess_limit(self) -> int:
        """Bytes up to which an item is worth fetching on a guess; 0 while each would be a round trip of its own."""
        return GUESS_LIMIT if self._may_batch() else 0

    def get_many(self, refs: Sequence[ItemRef], deadline: float | None = None) -> dict[ItemRef, str | StoreError]:
        """The items that exist; one round trip for each hundred.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        rows = self._rows([(self._prefix + kind, key) for kind, key in refs], deadline)
        found: dict[ItemRef, str | StoreError] = {}
        for kind, key in refs:
            row = rows.get((self._prefix + kind, key))
            text = row if row is None or isinstance(row, StoreError) else _string(row, "item")
            if text is not None:
                found[kind, key] = text
        return found

    def get_all(self, deadline: float | None = None) -> dict[str, dict[str, str | StoreError]]:
        """Everything under the prefix: two queries, and a further one for each megabyte.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        collections: dict[str, dict[str, str | StoreError]] = {}
        for kind in (FEATURES, SEGMENTS):
            collections[kind] = {}
            for row in self._query(self._prefix + kind, deadline):
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
        self, context_hashes: Iterable[str], deadline: float | None = None
    ) -> tuple[BigSegmentsMetadata, dict[str, dict[str, bool] | None]]:
        """The metadata and the memberships of contexts in one round trip.

        Raises:
            StoreError: DynamoDB did not answer, or refused.
        """
        metadata_key = (f"{self._prefix}big_segments_metadata",) * 2
        keys = {context_hash: (f"{self._prefix}big_segments_user", context_hash) for context_hash in context_hashes}
        rows: dict[RowKey, Row] = {}
        for key, row in self._rows([metadata_key, *keys.values()], deadline).items():
            if isinstance(row, StoreError):
                raise row
            rows[key] = row
        memberships = {}
        for context_hash, key in keys.items():
            row = rows.get(key, {})
            memberships[context_hash] = membership(_strings(row, "included"), _strings(row, "excluded"))
        synchronized = _string(rows.get(metadata_key, {}), "synchronizedOn", "N")
        return BigSegmentsMetadata(epoch_ms(synchronized)), memberships

    def stop(self) -> None:
        """The same as `close`, by the name that a big segment store has."""
        self.close()

    def close(self) -> None:
        """Closes the connections, if this requester opened them."""
        self._dynamodb.close()

    def _may_batch(self) -> bool:
        return time.monotonic() >= self._single_until

    def _rows(self, keys: Iterable[RowKey], deadline: float | None) -> dict[RowKey, Row | StoreError]:
        """The rows that exist, by namespace and key."""
        keys = [key for key in dict.fromkeys(keys) if key[1] and len(key[1].encode()) <= KEY_LIMIT]
        if len(keys) > 1 and self._may_batch():
            try:
                return self._batches(keys, deadline)
            except Refused as error:
                if error.code != "AccessDeniedException":
                    raise self._clear(error) from error
                # BatchGetItem is a grant of its own; the official SDKs do without it.
                self._single_until = time.monotonic() + SINGLE_FOR
        rows: dict[RowKey, Row | StoreError] = {}
        for key in keys:
            payload = {"TableName": self._table, "Key": _key(key), "ConsistentRead": self._consistent}
            row = self._clearly("GetItem", payload, deadline).get("Item")
            if row:
                rows[key] = row
        return rows

    def _batches(self, keys: Sequence[RowKey], deadline: float | None) -> dict[RowKey, Row | StoreError]:
        end = time.monotonic() + self._timeout
        if deadline is not None and deadline < end:
            end = deadline
        rows: dict[RowKey, Row | StoreError] = {}
        for start in range(0, len(keys), BATCH_LIMIT):
            pending = [_key(key) for key in keys[start : start + BATCH_LIMIT]]
            pause = PAUSE
            while pending:
                asked = {"Keys": pending, "ConsistentRead": self._consistent}
                reply = self._ask("BatchGetItem", {"RequestItems": {self._table: asked}}, deadline)
                came = _of_the_table(reply.get("Responses"), ())
                for row in came:
                    rows[str(_string(row, "namespace")), str(_string(row, "key"))] = row
                # A batch gives 16 MB at most, and less when reads are throttled; the rest is to be asked for again.
                pending = _of_the_table(reply.get("UnprocessedKeys"), {}).get("Keys", [])
                pause = PAUSE if came else 2 * pause
                if time.monotonic() + pause > end:
                    break
                if pending:
                    time.sleep(pause)
            for left in pending:
                rows[str(_string(left, "namespace")), str(_string(left, "key"))] = StoreError(
                    f"DynamoDB left {_string(left, 'key')!r} out of its replies for {self._timeout:g} s: reads of the "
                    f"table {self._table!r} are throttled; raise its capacity"
                )
        return rows

    def _query(self, namespace: str, deadline: float | None) -> Iterable[Row]:
        payload: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#n = :n",
            "ExpressionAttributeNames": {"#n": "namespace"},
            "ExpressionAttributeValues": {":n": {"S": namespace}},
            "ConsistentRead": self._consistent,
        }
        while True:
            reply = self._clearly("Query", payload, deadline)
            yield from reply.get("Items", ())
            last = reply.get("LastEvaluatedKey")
            if not last:
                return
            if last == payload.get("ExclusiveStartKey"):
                raise Unanswered("its reply is malformed, the same page again")
            payload["ExclusiveStartKey"] = last

    def _clearly(self, operation: str, payload: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        try:
            return self._ask(operation, payload, deadline)
        except Refused as error:
            raise self._clear(error) from error

    def _ask(self, operation: str, payload: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        """The reply; a failure that came quickly and may pass is tried again, once."""
        by_then = () if deadline is None else (deadline,)
        patience = time.monotonic() + self._timeout / 2
        try:
            return self._dynamodb.call(operation, payload, *by_then)
        except (Refused, Unanswered) as error:
            passing = error.passing if isinstance(error, Unanswered) else error.code in _PASSING
            if not (passing and self._is_bounded) or time.monotonic() + PAUSE >= patience:
                raise
        time.sleep(PAUSE)
        return self._dynamodb.call(operation, payload, *by_then)

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


class Wire:
    """The seam over ldreader's own client: DynamoDB's JSON protocol, and what the environment says as boto3 reads it.

    One request costs at most twice the timeout, credentials included.
    """

    def __init__(self, http: Http, region: str, keys: Callable[[float], Keys], timeout: float) -> None:
        self._http = http
        self._region = region
        self._keys = keys
        self._timeout = timeout

    @classmethod
    def open(cls, region: str | None, endpoint_url: str | None, timeout: float) -> Wire:
        """The client for a region; contacts nothing.

        Raises:
            Unserved: Only boto3 can do what is asked for, or find what is not given.
        """
        region = region or os.environ.get("AWS_DEFAULT_REGION")  # boto3 does not look at AWS_REGION
        if not region:
            raise credentials.Unserved("there is no region in the URL or in AWS_DEFAULT_REGION")
        if not region.isascii() or not region.replace("-", "").isalnum():
            raise credentials.Unserved("the region's name is none")
        for name, value in (
            ("AWS_USE_FIPS_ENDPOINT", "true"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
            ("AWS_ENDPOINT_DISCOVERY_ENABLED", "true"),
            ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "required"),
        ):
            if os.environ.get(name, "").lower() == value:
                raise credentials.Unserved(f"{name} is {value}")
        url = endpoint_url or _configured_endpoint() or f"https://dynamodb.{region}.{_suffix(region)}"
        try:
            secure, host, port, path = split_url(url)
        except ValueError as error:
            raise credentials.Unserved(f"the endpoint is {error}") from None
        if path != "/":
            raise credentials.Unserved("the endpoint has a path")
        if _has_proxy(secure, f"{host}:{port}"):
            raise credentials.Unserved("there is a proxy for it")
        context = _tls_context if secure else None
        http = Http(host, port, timeout=timeout, secure=context, default_port=443 if secure else 80)
        return cls(http, region, credentials.find(timeout, _tls_context), timeout)

    def call(self, operation: str, payload: dict[str, Any], deadline: float | None = None) -> dict[str, Any]:
        """The reply to one operation.

        Raises:
            Refused: DynamoDB answered with an error.
            StoreError: DynamoDB did not answer, or there are no credentials.
        """
        end = time.monotonic() + 2 * self._timeout
        if deadline is not None and deadline < end:
            end = deadline
        body = json_dumps(payload).encode()
        headers = self._signed(operation, body, end)
        try:
            status, told, data = self._http.exchange("POST", "/", headers, body, end)
        except OSError as error:
            # What a frozen process finds when it wakes: a connection that the other side has closed.
            closed = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
            raise Unanswered(error, passing=closed) from error
        except MalformedReply as error:
            raise Unanswered(f"its reply is malformed, {error}") from error
        checksum = told.get("x-amz-crc32")
        if checksum is not None:
            from binascii import crc32

            if checksum != str(crc32(data)):
                raise Unanswered("its reply was damaged on the way", passing=True)
        if status != 200:
            raise _refusal(status, told, data)
        try:
            reply: dict[str, Any] = json_loads(data)
            _check_rows(reply)
        except (ValueError, RecursionError, TypeError, AttributeError, KeyError) as error:
            raise Unanswered("its reply is malformed, not what DynamoDB says") from error
        return reply

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._http.close()

    def _signed(self, operation: str, body: bytes, end: float) -> dict[str, str]:
        """The headers of a request."""
        try:
            key_id, secret, token = self._keys(end)
        except credentials.NoCredentials as error:
            raise StoreError(f"DynamoDB cannot be asked: {words(error)}; give credentials or a role") from error
        shown = f"{key_id}{secret}{token}"
        if not (shown.isascii() and shown.isprintable()):
            raise StoreError("DynamoDB cannot be asked: the credentials hold a character that does not belong")
        headers = {
            "Host": self._http.host,
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        }
        if token:
            headers["X-Amz-Security-Token"] = token
        signature = sigv4.authorization(
            headers, body, key_id=key_id, secret=secret, region=self._region, service="dynamodb"
        )
        del headers["Host"]  # the HTTP client says that itself
        return {**headers, "Authorization": signature}


def _seam(client: str | None, region: str | None, endpoint_url: str | None, timeout: float) -> CallsDynamoDB:
    """The client of that name; without one, the wire client wherever it can serve, else boto3."""
    if client not in (None, *CLIENTS):
        raise unknown("client for DynamoDB", str(client), CLIENTS)
    if endpoint_url is not None and ("://" not in endpoint_url or "@" in endpoint_url):
        # Not shown: before an @ there may be a password.
        raise ConfigurationError("endpoint_url must be a URL like http://localhost:8000, without a user")
    if client != "boto3":
        try:
            return Wire.open(region, endpoint_url, timeout)
        except credentials.Unserved as error:
            if client is not None:
                raise ConfigurationError(
                    f"the client 'wire' cannot read this DynamoDB: {error}; leave the option client out"
                ) from None
    from .boto3 import Boto3

    return Boto3.open(region, endpoint_url, timeout)


def _configured_endpoint() -> str | None:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return os.environ.get("AWS_ENDPOINT_URL_DYNAMODB") or os.environ.get("AWS_ENDPOINT_URL")


def _suffix(region: str) -> str:
    """The domain of a region's hosts.

    Raises:
        Unserved: It is in a part of AWS that has a domain of its own, or in one that is new.
    """
    area, *place = region.split("-")
    if area in _AREAS and (len(place) == 2 or place[:1] == ["gov"]) and place[-1].isdigit():
        return "amazonaws.com.cn" if area == "cn" else "amazonaws.com"
    raise credentials.Unserved(f"the domain of the region {region!r} is not known here")


_AREAS = ("af", "ap", "ca", "cn", "eu", "il", "me", "mx", "sa", "us")


def _has_proxy(secure: bool, address: str) -> bool:
    scheme = "https" if secure else "http"
    if not (os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY")):
        return False
    from urllib.request import getproxies, proxy_bypass

    return scheme in getproxies() and not proxy_bypass(address)


def _tls_context() -> Any:
    import ssl

    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=bundle or None)


def _refusal(status: int, told: dict[str, str], data: bytes) -> StoreError:
    """What a reply with an error says; by whom it is not known when it is not in DynamoDB's words."""
    try:
        error = json_loads(data)
        code = error.get("__type") or told["x-amzn-errortype"].partition(":")[0]
        message = error.get("message") or error.get("Message") or ""
        return Refused(words(code.rpartition("#")[2]), words(message))
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError):
        return Unanswered(f"the status of its reply is {status}")


def _check_rows(reply: dict[str, Any]) -> None:
    """Raises what happens to happen when the reply does not have the shape of DynamoDB's."""
    rows = list(reply.get("Items", ()))
    rows += [reply[name] for name in ("Item", "LastEvaluatedKey") if name in reply]
    for found in reply.get("Responses", {}).values():
        rows += found
    for left in reply.get("UnprocessedKeys", {}).values():
        rows += left["Keys"]
    for row in rows:
        for value in row.values():
            value.keys()


def words(error: object) -> str:
    """The message on one line."""
    return " ".join(str(error).split())


def _key(key: RowKey) -> Row:
    return {"namespace": {"S": key[0]}, "key": {"S": key[1]}}


def _string(row: Row, name: str, kind: str = "S") -> str | None:
    value = row.get(name, {}).get(kind)
    return value if isinstance(value, str) else None


def _strings(row: Row, name: str) -> Sequence[str]:
    value = row.get(name, {}).get("SS")
    return [text for text in value if isinstance(text, str)] if isinstance(value, (list, tuple)) else ()


def _of_the_table(by_table: dict[str, Any] | None, default: Any) -> Any:
    # Only one table is asked; a reply may name it otherwise than the request did, by its ARN.
    return next(iter((by_table or {}).values()), default)
