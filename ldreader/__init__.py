"""LaunchDarkly flags from the database where they already are: request-scoped, without threads or a cache.

    from ldreader import Context, FlagReader

    reader = FlagReader.from_url("redis://localhost:6379")
    with reader.request(Context.create("user-123")) as flags:
        flags.variation("new-checkout", False)

A name is imported when it is first used, so that a short-lived process loads only what it needs.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .big_segments import BigSegmentStoreStatus as BigSegmentStoreStatus
    from .context import Context as Context
    from .context import ContextBuilder as ContextBuilder
    from .context import ContextMultiBuilder as ContextMultiBuilder
    from .detail import EvaluationDetail as EvaluationDetail
    from .errors import ConfigurationError as ConfigurationError
    from .errors import EvaluationError as EvaluationError
    from .errors import FlagNotFound as FlagNotFound
    from .errors import InvalidContext as InvalidContext
    from .errors import LdreaderError as LdreaderError
    from .errors import MalformedItem as MalformedItem
    from .errors import MissingDependency as MissingDependency
    from .errors import StoreError as StoreError
    from .errors import WrongType as WrongType
    from .events import JsonLinesSink as JsonLinesSink
    from .hooks import Hook as Hook
    from .migrations import ExecutionOrder as ExecutionOrder
    from .migrations import Migrator as Migrator
    from .migrations import MigratorBuilder as MigratorBuilder
    from .migrations import Operation as Operation
    from .migrations import OpTracker as OpTracker
    from .migrations import Origin as Origin
    from .migrations import Result as Result
    from .migrations import Stage as Stage
    from .reader import FlagReader as FlagReader
    from .request import Request as Request
    from .requesters.consul import ConsulRequester as ConsulRequester
    from .requesters.dynamodb import DynamoDBRequester as DynamoDBRequester
    from .requesters.file import FileRequester as FileRequester
    from .requesters.memory import MemoryRequester as MemoryRequester
    from .requesters.protocol import BigSegmentStore as BigSegmentStore
    from .requesters.protocol import FeatureRequester as FeatureRequester
    from .requesters.redis import RedisRequester as RedisRequester
    from .state import FeatureFlagsState as FeatureFlagsState
    from .testdata import TestData as TestData
    from .testdata import override_flags as override_flags

_HOMES = {
    "Context": "context",
    "ContextBuilder": "context",
    "ContextMultiBuilder": "context",
    "EvaluationDetail": "detail",
    "ConfigurationError": "errors",
    "EvaluationError": "errors",
    "FlagNotFound": "errors",
    "InvalidContext": "errors",
    "LdreaderError": "errors",
    "MalformedItem": "errors",
    "MissingDependency": "errors",
    "StoreError": "errors",
    "WrongType": "errors",
    "BigSegmentStore": "requesters.protocol",
    "BigSegmentStoreStatus": "big_segments",
    "ConsulRequester": "requesters.consul",
    "DynamoDBRequester": "requesters.dynamodb",
    "FlagReader": "reader",
    "Request": "request",
    "FileRequester": "requesters.file",
    "MemoryRequester": "requesters.memory",
    "FeatureRequester": "requesters.protocol",
    "RedisRequester": "requesters.redis",
    "FeatureFlagsState": "state",
    "ExecutionOrder": "migrations",
    "Hook": "hooks",
    "JsonLinesSink": "events",
    "Migrator": "migrations",
    "MigratorBuilder": "migrations",
    "OpTracker": "migrations",
    "Operation": "migrations",
    "Origin": "migrations",
    "Result": "migrations",
    "Stage": "migrations",
    "TestData": "testdata",
    "override_flags": "testdata",
}

__all__ = [
    "__version__",
    "BigSegmentStore",
    "BigSegmentStoreStatus",
    "ConfigurationError",
    "ConsulRequester",
    "Context",
    "ContextBuilder",
    "ContextMultiBuilder",
    "DynamoDBRequester",
    "EvaluationDetail",
    "EvaluationError",
    "ExecutionOrder",
    "FeatureFlagsState",
    "FeatureRequester",
    "FileRequester",
    "FlagNotFound",
    "FlagReader",
    "Hook",
    "InvalidContext",
    "JsonLinesSink",
    "LdreaderError",
    "MalformedItem",
    "MemoryRequester",
    "Migrator",
    "MigratorBuilder",
    "MissingDependency",
    "OpTracker",
    "Operation",
    "Origin",
    "RedisRequester",
    "Request",
    "Result",
    "Stage",
    "StoreError",
    "TestData",
    "WrongType",
    "override_flags",
]


if not TYPE_CHECKING:  # a type checker is to notice a name that does not exist

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
