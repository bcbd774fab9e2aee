"""Moving an application from one system to another in the stages of a flag (spec: client behaviour, section 6).

A migration flag serves the name of a `Stage`. `FlagReader.migration_variation` gives that stage, and an `OpTracker` for
telling how the two systems did; a `Migrator` does all of it around functions that read from and write to them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from threading import Lock

from . import detail as reasons
from . import log
from .detail import EvaluationDetail
from .errors import MalformedItem
from .sampling import sampled
from .schema import FEATURES, blamed_on, integer, mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from .context import Context
    from .reader import AnyContext, FlagReader
    from .schema import Item

    MigratorFn: TypeAlias = Callable[[Any], "Result"]
    MigratorCompareFn: TypeAlias = Callable[[Any, Any], bool]


class Stage(Enum):
    """How far a migration has come, from the first stage to the last."""

    OFF = "off"
    """All happens in the old system."""
    DUALWRITE = "dualwrite"
    """What is written goes to both; the old one is read and decides."""
    SHADOW = "shadow"
    """Both are read and written; the old one decides."""
    LIVE = "live"
    """Both are read and written; the new one decides."""
    RAMPDOWN = "rampdown"
    """What is written goes to both; the new one is read and decides."""
    COMPLETE = "complete"
    """All happens in the new system."""

    @staticmethod
    def from_str(stage: str) -> Stage | None:
        """The stage of that name, None if there is none."""
        return next((known for known in Stage if known.value == stage), None)


class Operation(Enum):
    """What is done in a migration."""

    READ = "read"
    WRITE = "write"


class Origin(Enum):
    """The system in which it is done."""

    OLD = "old"
    NEW = "new"


class ExecutionOrder(Enum):
    """How both systems are read where both are."""

    SERIAL = "serial"
    """One after the other, the one that decides first."""
    RANDOM = "random"
    """One after the other; either may be first."""
    PARALLEL = "parallel"
    """At the same time, the one that does not decide in a thread of its own that ends with the read."""

    @staticmethod
    def from_str(order: str) -> ExecutionOrder | None:
        """The order of that name, None if there is none."""
        return next((known for known in ExecutionOrder if known.value == order), None)


class Result:
    """What came of a read or a write: a value, or words for what went wrong; cannot be changed."""

    __slots__ = ("_error", "_exception", "_value")

    def __init__(self, value: Any, error: str | None, exception: Exception | None) -> None:
        """Prefer ``success`` and ``fail``."""
        self._value = value
        self._error = error
        self._exception = exception

    @staticmethod
    def success(value: Any) -> Result:
        """The result of something that went well."""
        return Result(value, None, None)

    @staticmethod
    def fail(error: str, exception: Exception | None = None) -> Result:
        """The result of something that went wrong."""
        return Result(None, error, exception)

    def is_success(self) -> bool:
        """True if it went well."""
        return self._error is None

    @property
    def value(self) -> Any:
        """What was read or written; None for a failure."""
        return self._value

    @property
    def error(self) -> str | None:
        """What went wrong, None if nothing did."""
        return self._error

    @property
    def exception(self) -> Exception | None:
        """What was raised, if anything was."""
        return self._exception


class OperationResult(Result):
    """A result and the system that it is from."""

    __slots__ = ("_origin",)

    def __init__(self, origin: Origin, result: Result) -> None:
        super().__init__(result.value, result.error, result.exception)
        self._origin = origin

    @property
    def origin(self) -> Origin:
        """The system that was read or written."""
        return self._origin


class WriteResult:
    """The results of a write; cannot be changed."""

    __slots__ = ("_authoritative", "_nonauthoritative")

    def __init__(self, authoritative: OperationResult, nonauthoritative: OperationResult | None = None) -> None:
        self._authoritative = authoritative
        self._nonauthoritative = nonauthoritative

    @property
    def authoritative(self) -> OperationResult:
        """The result of the system that decides."""
        return self._authoritative

    @property
    def nonauthoritative(self) -> OperationResult | None:
        """The result of the other system; None where it was not written, as after a failure of the one that decides."""
        return self._nonauthoritative


@dataclass(frozen=True, slots=True)
class MigrationOpEvent:
    """What an operation came to, as an `OpTracker` built it."""

    timestamp: int
    """When, in epoch milliseconds."""
    context: Context
    key: str
    flag: Item | None
    operation: Operation
    default_stage: Stage
    detail: EvaluationDetail
    invoked: set[Origin]
    consistent: bool | None
    consistent_ratio: int | None
    """One of how many operations is compared; None where this one was not."""
    errors: set[Origin]
    latencies: dict[Origin, timedelta]

    def members(self) -> dict[str, Any]:
        """The members that only this kind of event has, in LaunchDarkly's JSON form.

        Raises:
            MalformedItem: The flag's ``version`` or ``samplingRatio`` is no integer.
        """
        evaluation = {
            "key": self.key,
            "value": self.detail.value,
            "default": self.default_stage.value,
            "reason": dict(self.detail.reason),
        }
        if self.flag is not None:
            evaluation["version"] = integer(self.flag, "version") or 0
        if self.detail.variation_index is not None:
            evaluation["variation"] = self.detail.variation_index
        members: dict[str, Any] = {
            "operation": self.operation.value,
            "evaluation": evaluation,
            "measurements": self._measurements(),
        }
        ratio = None if self.flag is None else integer(self.flag, "samplingRatio")
        if ratio is not None and ratio != 1:
            members["samplingRatio"] = ratio
        return members

    def _measurements(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{"key": "invoked", "values": _true_for(self.invoked)}]
        if self.consistent is not None:
            measured: dict[str, Any] = {"key": "consistent", "value": self.consistent}
            if self.consistent_ratio != 1:
                measured["samplingRatio"] = self.consistent_ratio
            found.append(measured)
        if self.errors:
            found.append({"key": "error", "values": _true_for(self.errors)})
        if self.latencies:
            each = {o.value: self.latencies[o] / timedelta(milliseconds=1) for o in Origin if o in self.latencies}
            found.append({"key": "latency_ms", "values": each})
        return found


class OpTracker:
    """Collects what an application measures while it does one thing in a migration; threads may share it.

    Comes from `FlagReader.migration_variation`. The methods return the tracker, so that calls chain; an argument of
    another type is passed over.
    """

    def __init__(
        self, key: str, flag: Item | None, context: Context, detail: EvaluationDetail, default_stage: Stage
    ) -> None:
        self._key = key
        self._flag = flag
        self._context = context
        self._detail = detail
        self._default_stage = default_stage
        self._lock = Lock()
        self._operation: Operation | None = None
        self._invoked: set[Origin] = set()
        self._consistent: bool | None = None
        self._consistent_ratio = _check_ratio(key, flag)
        self._errors: set[Origin] = set()
        self._latencies: dict[Origin, timedelta] = {}

    @property
    def context(self) -> Context:
        """The context that the stage was evaluated for."""
        return self._context

    def operation(self, op: Operation) -> OpTracker:
        """This tracker, for a read or for a write."""
        if isinstance(op, Operation):
            with self._lock:
                self._operation = op
        return self

    def invoked(self, origin: Origin) -> OpTracker:
        """This tracker, told that a system was read or written."""
        if isinstance(origin, Origin):
            with self._lock:
                self._invoked.add(origin)
        return self

    def consistent(self, is_consistent: Callable[[], bool]) -> OpTracker:
        """This tracker, told whether both systems gave the same.

        The function is called only when the flag's ``checkRatio`` picks this operation; what it raises is logged, and
        nothing is noted then.
        """
        if not sampled(self._consistent_ratio):
            return self
        try:
            consistent = bool(is_consistent())
        except Exception as error:  # the application's function
            log.error(f"the comparison for migration {self._key!r} failed: {log.unexpected(error)}")
            return self
        with self._lock:
            self._consistent = consistent
        return self

    def error(self, origin: Origin) -> OpTracker:
        """This tracker, told that a system failed."""
        if isinstance(origin, Origin):
            with self._lock:
                self._errors.add(origin)
        return self

    def latency(self, origin: Origin, duration: timedelta) -> OpTracker:
        """This tracker, told how long a system took."""
        if isinstance(origin, Origin) and isinstance(duration, timedelta):
            with self._lock:
                self._latencies[origin] = duration
        return self

    def build(self) -> MigrationOpEvent | str:
        """What was measured; a text when it makes no event, which says why."""
        with self._lock:
            if self._operation is None:
                return "operation not provided"
            if not isinstance(self._key, str) or not self._key:
                return "migration operation cannot contain an empty key"
            if not self._invoked:
                return "no origins were invoked"
            if not self._context.valid:
                return "provided context was invalid"
            for origin in Origin:
                if origin not in self._invoked and origin in self._latencies:
                    return f"provided latency for origin '{origin.value}' without recording invocation"
                if origin not in self._invoked and origin in self._errors:
                    return f"provided error for origin '{origin.value}' without recording invocation"
            if self._consistent is not None and len(self._invoked) != len(Origin):
                return "provided consistency without recording both invocations"
            return MigrationOpEvent(
                int(time.time() * 1000),
                self._context,
                self._key,
                self._flag,
                self._operation,
                self._default_stage,
                self._detail,
                set(self._invoked),
                self._consistent,
                None if self._consistent is None else self._consistent_ratio,
                set(self._errors),
                dict(self._latencies),
            )


class MigratorBuilder:
    """Collects what a `Migrator` needs; the setters return the builder, so that calls chain."""

    def __init__(self, reader: FlagReader) -> None:
        self._reader = reader
        self._order = ExecutionOrder.PARALLEL
        self._track_latency = True
        self._track_errors = True
        self._read: tuple[MigratorFn, MigratorFn] | None = None
        self._comparison: MigratorCompareFn | None = None
        self._write: tuple[MigratorFn, MigratorFn] | None = None

    def read_execution_order(self, order: ExecutionOrder) -> MigratorBuilder:
        """This builder, with the way in which both systems are read; in parallel unless set."""
        if isinstance(order, ExecutionOrder):
            self._order = order
        return self

    def track_latency(self, enabled: bool) -> MigratorBuilder:
        """This builder, for a migrator that measures how long each system takes (the default) or not."""
        self._track_latency = enabled
        return self

    def track_errors(self, enabled: bool) -> MigratorBuilder:
        """This builder, for a migrator that notes which system failed (the default) or not."""
        self._track_errors = enabled
        return self

    def read(self, old: MigratorFn, new: MigratorFn, comparison: MigratorCompareFn | None = None) -> MigratorBuilder:
        """This builder, with functions that read from each system: given the payload, they return a `Result`.

        ``comparison`` is given both values, that of the deciding system first, and tells whether they are the same.
        """
        self._read = (old, new)
        self._comparison = comparison
        return self

    def write(self, old: MigratorFn, new: MigratorFn) -> MigratorBuilder:
        """This builder, with functions that write to each system: given the payload, they return a `Result`."""
        self._write = (old, new)
        return self

    def build(self) -> Migrator | str:
        """The migrator; a text when a pair of functions is missing, which says so."""
        if self._read is None:
            return "read configuration not provided"
        if self._write is None:
            return "write configuration not provided"
        return Migrator(
            self._reader,
            self._order,
            self._read,
            self._comparison,
            self._write,
            self._track_latency,
            self._track_errors,
        )


class Migrator:
    """Reads and writes in the old system, the new one or both, as the stage of a migration flag asks.

    Comes from a `MigratorBuilder`; threads may share it.
    """

    def __init__(
        self,
        reader: FlagReader,
        order: ExecutionOrder,
        read: tuple[MigratorFn, MigratorFn],
        comparison: MigratorCompareFn | None,
        write: tuple[MigratorFn, MigratorFn],
        track_latency: bool,
        track_errors: bool,
    ) -> None:
        self._reader = reader
        self._order = order
        self._functions = {Operation.READ: read, Operation.WRITE: write}
        self._comparison = comparison
        self._track_latency = track_latency
        self._track_errors = track_errors

    def read(self, key: str, context: AnyContext, default_stage: Stage, payload: Any = None) -> OperationResult:
        """The result of the system that decides; ``payload`` is handed to the functions that read.

        ``default_stage`` is where the migration stands if the flag does not tell. An exception in a function makes a
        failed result.
        """
        with self._reader.request(context) as request:
            stage, tracker = request.migration_variation(key, default_stage)
            old, new = self._calls(Operation.READ, tracker, payload)
            if stage is Stage.SHADOW:
                result = self._read_both(old, new, tracker)
            elif stage is Stage.LIVE:
                result = self._read_both(new, old, tracker)
            else:
                result = old() if stage in (Stage.OFF, Stage.DUALWRITE) else new()
            request.track_migration_op(tracker)
        return result

    def write(self, key: str, context: AnyContext, default_stage: Stage, payload: Any = None) -> WriteResult:
        """The results of the systems that were written, one after the other, the deciding one first.

        The other one is not written when the first fails; else as `read`.
        """
        with self._reader.request(context) as request:
            stage, tracker = request.migration_variation(key, default_stage)
            old, new = self._calls(Operation.WRITE, tracker, payload)
            if stage is Stage.OFF:
                result = WriteResult(old())
            elif stage is Stage.COMPLETE:
                result = WriteResult(new())
            else:
                first, second = (old, new) if stage in (Stage.DUALWRITE, Stage.SHADOW) else (new, old)
                decided = first()
                result = WriteResult(decided, second() if decided.is_success() else None)
            request.track_migration_op(tracker)
        return result

    def _calls(self, operation: Operation, tracker: OpTracker, payload: Any) -> tuple[_Call, _Call]:
        tracker.operation(operation)
        old, new = self._functions[operation]
        return (
            _Call(Origin.OLD, old, payload, tracker, self._track_latency, self._track_errors),
            _Call(Origin.NEW, new, payload, tracker, self._track_latency, self._track_errors),
        )

    def _read_both(self, deciding: _Call, other: _Call, tracker: OpTracker) -> OperationResult:
        if self._order is ExecutionOrder.PARALLEL:
            decided, compared = _at_once(deciding, other)
        elif self._order is ExecutionOrder.RANDOM and sampled(2):
            compared = other()
            decided = deciding()
        else:
            decided = deciding()
            compared = other()
        comparison = self._comparison
        if comparison is not None and decided.is_success() and compared.is_success():
            tracker.consistent(lambda: comparison(decided.value, compared.value))
        return decided


class _Call:
    """One of the application's functions, to be called once, and measured."""

    __slots__ = ("_function", "_origin", "_payload", "_track_errors", "_track_latency", "_tracker")

    def __init__(
        self,
        origin: Origin,
        function: MigratorFn,
        payload: Any,
        tracker: OpTracker,
        track_latency: bool,
        track_errors: bool,
    ) -> None:
        self._origin = origin
        self._function = function
        self._payload = payload
        self._tracker = tracker
        self._track_latency = track_latency
        self._track_errors = track_errors

    def __call__(self) -> OperationResult:
        start = time.perf_counter()
        try:
            # Made here, because anything at all may be returned.
            result = OperationResult(self._origin, self._function(self._payload))
        except Exception as error:  # the application's function
            result = self.failed(error)
        if self._track_latency:
            self._tracker.latency(self._origin, timedelta(seconds=time.perf_counter() - start))
        if self._track_errors and not result.is_success():
            self._tracker.error(self._origin)
        self._tracker.invoked(self._origin)
        return result

    def failed(self, error: Exception | None) -> OperationResult:
        """The result of a call that gave none."""
        return OperationResult(self._origin, Result.fail(f"the {self._origin.value} system raised an exception", error))


def valid_stage(default_stage: Stage) -> Stage:
    """The stage that a caller gave as the default; ``off`` where it is none, which is logged."""
    if isinstance(default_stage, Stage):
        return default_stage
    log.error(f"a default stage must be a Stage, not {type(default_stage).__name__}; 'off' is used")
    return Stage.OFF


def staged(detail: EvaluationDetail, default_stage: Stage) -> EvaluationDetail:
    """The detail as it is if its value is a stage; else the default stage, with ``WRONG_TYPE``."""
    if isinstance(detail.value, str) and Stage.from_str(detail.value) is not None:
        return detail
    return EvaluationDetail(default_stage.value, None, reasons.error(reasons.WRONG_TYPE))


def built(tracker: OpTracker) -> MigrationOpEvent | None:
    """What a tracker measured; None when that makes no event, which is logged."""
    operation = tracker.build()
    if isinstance(operation, str):
        log.error(f"no event for an operation of a migration: {operation}")
        return None
    return operation


def _at_once(deciding: _Call, other: _Call) -> tuple[OperationResult, OperationResult]:
    """Both results; the deciding one is called here, so that it finds what the application keeps by thread."""
    from contextvars import copy_context
    from threading import Thread

    found: list[OperationResult] = []
    thread = Thread(target=copy_context().run, args=(lambda: found.append(other()),))
    try:
        thread.start()
    except RuntimeError:  # there are places without threads
        return deciding(), other()
    try:
        decided = deciding()
    finally:
        thread.join()
    return decided, found[0] if found else other.failed(None)


def _check_ratio(key: str, flag: Item | None) -> int:
    try:
        ratio = integer(mapping(flag or {}, "migration") or {}, "checkRatio")
    except MalformedItem as error:
        log.error(f"all consistency checks are made: {blamed_on((FEATURES, key), flag or {}, error)}")
        ratio = None
    return 1 if ratio is None else ratio


def _true_for(origins: set[Origin]) -> dict[str, bool]:
    return {origin.value: True for origin in Origin if origin in origins}
