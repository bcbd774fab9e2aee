"""A request: evaluations for one context that agree with each other.

Each item is fetched at most once in a request, a missing one included; afterwards everything is forgotten.
"""

from __future__ import annotations

from . import detail as reasons
from . import log
from .big_segments import Memberships
from .context import as_context
from .detail import EvaluationDetail
from .errors import EvaluationError, InvalidContext, MalformedItem, StoreError, WrongType
from .evaluator import evaluate
from .schema import FEATURES, MEMBERSHIPS, SEGMENTS, WrongShape, blamed_on, decode
from .segments import STORE_ERROR, Membership
from .state import FeatureFlagsState, flag_metadata, is_client_side

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Any, TypeAlias

    from .big_segments import BigSegments
    from .context import Context
    from .evaluator import Evaluation
    from .migrations import OpTracker, Stage
    from .requesters.protocol import FeatureRequester
    from .schema import ItemRef, JsonText

    Texts: TypeAlias = dict[ItemRef, JsonText | StoreError]


class Request:
    """The flags for one context, as long as one request of the application needs them.

    Made by `FlagReader.request`; for one thread. Evaluating never raises (unless the reader is strict): the
    caller's default comes back, the reason tells why, and one line is logged.
    """

    __slots__ = (
        "_big_segments",
        "_context",
        "_deadline",
        "_defaults",
        "_everything",
        "_failure",
        "_items",
        "_logged",
        "_memberships",
        "_offline",
        "_requester",
        "_strict",
        "_timeout",
    )

    def __init__(
        self,
        requester: FeatureRequester,
        context: Context | Mapping[str, Any],
        *,
        big_segments: BigSegments,
        defaults: Mapping[str, Any],
        offline: bool,
        strict: bool,
        timeout: float | None,
    ) -> None:
        self._requester = requester
        self._big_segments = big_segments
        self._context = as_context(context)
        self._defaults = defaults
        self._offline = offline
        self._strict = strict
        self._timeout = timeout
        self._deadline: float | None = None
        if timeout is not None:
            import time

            self._deadline = time.monotonic() + timeout
        self._forget()

    @property
    def context(self) -> Context:
        """The context of this request; invalid when what the application gave was."""
        return self._context

    def variation(self, key: str, default: Any) -> Any:
        """The flag's value for the context, or the default."""
        return self._detail(key, default, _anything, "variation").value

    def variation_detail(self, key: str, default: Any) -> EvaluationDetail:
        """The flag's value for the context, its index and the reason."""
        return self._detail(key, default, _anything, "variation_detail")

    def bool_variation(self, key: str, default: bool) -> bool:
        """The flag's value, or the default when it is no boolean."""
        value: bool = self._detail(key, default, _as_bool, "bool_variation").value
        return value

    def bool_variation_detail(self, key: str, default: bool) -> EvaluationDetail:
        """As `bool_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._detail(key, default, _as_bool, "bool_variation_detail")

    def string_variation(self, key: str, default: str) -> str:
        """The flag's value, or the default when it is no string."""
        value: str = self._detail(key, default, _as_string, "string_variation").value
        return value

    def string_variation_detail(self, key: str, default: str) -> EvaluationDetail:
        """As `string_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._detail(key, default, _as_string, "string_variation_detail")

    def int_variation(self, key: str, default: int) -> int:
        """The flag's value, or the default when it is no integer; 3.0 is one."""
        value: int = self._detail(key, default, _as_int, "int_variation").value
        return value

    def int_variation_detail(self, key: str, default: int) -> EvaluationDetail:
        """As `int_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._detail(key, default, _as_int, "int_variation_detail")

    def float_variation(self, key: str, default: float) -> float:
        """The flag's value as a float, or the default when it is no number."""
        value: float = self._detail(key, default, _as_float, "float_variation").value
        return value

    def float_variation_detail(self, key: str, default: float) -> EvaluationDetail:
        """As `float_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._detail(key, default, _as_float, "float_variation_detail")

    def json_variation(self, key: str, default: Any) -> Any:
        """The flag's value, of whatever JSON type."""
        return self._detail(key, default, _anything, "json_variation").value

    def json_variation_detail(self, key: str, default: Any) -> EvaluationDetail:
        """As `json_variation`, with the reason."""
        return self._detail(key, default, _anything, "json_variation_detail")

    def all_flags_state(
        self,
        client_side_only: bool = False,
        with_reasons: bool = False,
        details_only_for_tracked_flags: bool = False,
    ) -> FeatureFlagsState:
        """The state of all flags for the context; an invalid, empty one when there is no telling.

        A flag that ends in an error is listed with the value None; an item that is no flag is logged and left out.
        """
        unable: EvaluationError | None = self._unable()
        if unable is None and not self._offline:
            unable = self._fetch_everything()
        if unable is not None:
            self._report("no state of all flags", unable)
        state = FeatureFlagsState(valid=unable is None and not self._offline)
        if not state.valid:
            return state
        for kind, key in list(self._items):
            item = self._items[kind, key]
            if kind != FEATURES or item is None:
                continue
            if isinstance(item, EvaluationError):
                self._log_once(f"left out of the state of all flags: {item}")
                continue
            try:
                if client_side_only and not is_client_side(item):
                    continue
            except WrongShape as error:  # not known to be for browsers, so not shown to them
                self._log_once(f"left out of the state of all flags: {blamed_on((FEATURES, key), item, error)}")
                continue
            try:
                evaluation = self._evaluate(key)
                failure = evaluation.failure
                value = _own(evaluation.detail.value)
                metadata = flag_metadata(evaluation, with_reasons, details_only_for_tracked_flags)
            except WrongShape as error:
                value, failure = None, blamed_on((FEATURES, key), item, error)
                metadata = {"reason": reasons.error(reasons.MALFORMED_FLAG)} if with_reasons else {}
            except Exception as error:  # a bug of ours must not become the application's
                value, failure = None, StoreError(_unexpected(error))
                metadata = {"reason": reasons.error(reasons.EXCEPTION)} if with_reasons else {}
            if failure is not None:
                self._log_once(f"in the state of all flags, flag {key!r} has no value: {failure}")
            state._add(key, value, metadata)
        return state

    def migration_variation(self, key: str, default_stage: Stage) -> tuple[Stage, OpTracker]:
        """The stage that a migration is in, and a tracker for what the application does at this stage.

        It is the default stage where the flag gives no stage (spec: client behaviour, section 6).
        """
        from .migrations import OpTracker, Stage, staged, valid_stage

        default_stage = valid_stage(default_stage)
        given = self._detail(key, default_stage.value, _anything, "migration_variation")
        detail = staged(given, default_stage)
        if detail is not given:
            failure = WrongType("its value is no stage of a migration")
            self._report(f"flag {key!r} gives the default stage", failure, detail)
        flag = self._items.get((FEATURES, key)) if isinstance(key, str) else None
        known = flag if type(flag) is dict else None
        return Stage(detail.value), OpTracker(key, known, self._context, detail, default_stage)

    def track_migration_op(self, tracker: OpTracker) -> None:
        """Gives the event sink what the tracker measured; logs what is wrong with it, if anything is."""
        from .migrations import built

        built(tracker)

    def track(self, event_name: str, data: Any = None, metric_value: float | None = None) -> None:
        """Gives the event sink, and hooks, an event of the application's own; without either, it does nothing.

        ``data`` is anything that JSON can carry, ``metric_value`` the number that an experiment measures.
        """
        self._may_tell(event_name)

    def identify(self) -> None:
        """Gives the event sink the context alone; without a sink it does nothing."""
        self._may_tell("identify")

    def close(self) -> None:
        """Forgets everything that was fetched, once the event sink has the events."""
        self._forget()

    def __enter__(self) -> Request:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forget(self) -> None:
        self._items: dict[ItemRef, Any] = {}
        self._everything: Texts | None = None
        self._failure: StoreError | None = None
        self._logged: set[str] = set()
        self._memberships = Memberships(self._big_segments)

    def _detail(self, key: str, default: Any, accept: Callable[[Any], Any], method: str) -> EvaluationDetail:
        """The result for the caller: a value that `accept` lets through, or the default.

        ``method`` is the public method's name; an `ObservedRequest` tells it to hooks.
        """
        if self._defaults and isinstance(key, str):
            default = _own(self._defaults[key]) if key in self._defaults else default
        failure: EvaluationError | None = self._unable()
        if failure is not None:
            detail = EvaluationDetail(None, None, reasons.error(reasons.USER_NOT_SPECIFIED))
        elif self._offline:
            detail = EvaluationDetail(None, None, reasons.error(reasons.CLIENT_NOT_READY))
        else:
            try:
                evaluation = self._evaluate(key)
                detail, failure = evaluation.detail, evaluation.failure
                if detail.variation_index is not None:
                    return EvaluationDetail(accept(_own(detail.value)), detail.variation_index, detail.reason)
            except WrongType as error:
                failure = error
                detail = EvaluationDetail(None, None, reasons.error(reasons.WRONG_TYPE))
            except Exception as error:  # a bug of ours must not become the application's
                failure = StoreError(_unexpected(error))
                detail = EvaluationDetail(None, None, reasons.error(reasons.EXCEPTION))
        detail = EvaluationDetail(default, None, detail.reason)
        if failure is not None:
            self._report(f"flag {key!r} gives the default", failure, detail)
        return detail

    def _may_tell(self, what: str) -> bool:
        """Whether there can be an event about the context; a line is logged where there cannot."""
        if not self._context.valid:
            self._log_once(f"no event {what!r}: {self._context.error}", level=log.warning)
        return self._context.valid

    def _unable(self) -> InvalidContext | None:
        error = self._context.error
        return None if error is None else InvalidContext(error)

    def _report(self, what: str, failure: EvaluationError, detail: EvaluationDetail | None = None) -> None:
        if self._strict:
            failure.detail = detail
            raise failure.with_traceback(None)
        if isinstance(failure, StoreError):
            # One line a request: a store that fails would else repeat itself for each flag.
            self._log_once(f"{what}: {failure}", once_for=str(failure))
        else:
            self._log_once(f"{what}: {failure}", level=log.error if isinstance(failure, MalformedItem) else log.warning)

    def _log_once(self, message: str, *, once_for: str = "", level: Callable[[str], None] = log.error) -> None:
        if (once_for or message) not in self._logged:
            self._logged.add(once_for or message)
            level(message)

    def _evaluate(self, key: str) -> Evaluation:
        """The evaluation of a flag, with as many rounds of fetching as its references are deep."""
        while True:
            evaluation = evaluate(key, self._context, self._items)
            if not evaluation.lacks:
                return evaluation
            self._fetch(evaluation.lacks)

    def _fetch(self, refs: Iterable[ItemRef]) -> None:
        """Puts something in the place of each reference: an item, None when missing, or the error."""
        wanted = []
        context_keys = []
        for ref in refs:
            kind, key = ref
            if kind == MEMBERSHIPS:
                context_keys.append(key)
            elif self._everything is not None:
                self._put(ref, self._everything.get(ref))
            elif not _can_be_stored(key):
                self._items[ref] = None
            else:
                wanted.append(ref)
        if wanted:
            texts = self._ask(lambda: dict(self._requester.get_many(wanted))) or {}
            for ref in wanted:
                self._put(ref, self._failure or texts.get(ref))
        if context_keys:
            self._fetch_memberships(context_keys)

    def _fetch_memberships(self, context_keys: list[str]) -> None:
        store: object = self._big_segments.store
        reason = self._failure if store is self._requester else None
        if reason is None and store is not None and self._is_late():
            reason = self._too_late()
        if reason is not None:
            memberships = dict.fromkeys(context_keys, Membership(None, STORE_ERROR))
            self._log_once(f"the store of big segments is not asked: {reason}", once_for=str(reason))
        else:
            memberships = self._memberships.fetch(context_keys)
            trouble = self._memberships.trouble
            if trouble is not None:
                self._log_once(f"the store of big segments failed: {_words(trouble)}", once_for=str(trouble))
                if store is self._requester and isinstance(trouble, StoreError) and not trouble.answered:
                    self._failure = trouble
        for key, membership in memberships.items():
            self._items[MEMBERSHIPS, key] = membership

    def _fetch_everything(self) -> StoreError | None:
        """Takes what the store holds now, without changing what this request has seen already."""
        if self._everything is None:
            self._everything = self._ask(self._read_everything)
            # Segments wait as text: most are needed by nobody.
            for ref, text in (self._everything or {}).items():
                if ref[0] == FEATURES and ref not in self._items:
                    self._put(ref, text)
        return self._failure

    def _read_everything(self) -> Texts:
        collections = self._requester.get_all()
        return {
            (kind, key): text
            for kind in (FEATURES, SEGMENTS)
            for key, text in collections[kind].items()
            if isinstance(key, str)
        }

    def _ask(self, read: Callable[[], Texts]) -> Texts | None:
        """What the store answers; None when it does not, and then `_failure` says why.

        A store that failed once is not waited for again in this request.
        """
        if self._failure is None and self._is_late():
            self._failure = self._too_late()
        if self._failure is None:
            try:
                return read()
            except StoreError as error:
                self._failure = error
            except Exception as error:  # anyone can write a requester
                self._failure = StoreError(f"the feature requester failed: {_words(error)}")
        return None

    def _too_late(self) -> StoreError:
        return StoreError(f"the {self._timeout:g} s that the request has are over")

    def _is_late(self) -> bool:
        if self._deadline is None:
            return False
        import time

        return time.monotonic() >= self._deadline

    def _put(self, ref: ItemRef, text: JsonText | StoreError | None) -> None:
        self._items[ref] = text if text is None or isinstance(text, StoreError) else decode(ref, text)


def _can_be_stored(key: object) -> bool:
    # Whatever else a caller passes, or a flag refers to by a lone surrogate, is in no store.
    if not isinstance(key, str):
        return False
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _own(value: Any) -> Any:
    """A copy for the caller to change, so that the request's next answer stays the same."""
    try:
        return _copied(value)
    except RecursionError:
        return value  # Deeper than anyone walks by hand.


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(member) for key, member in value.items()}
    if type(value) is list:
        return [_copied(member) for member in value]
    return value


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, StoreError) else _unexpected(error)


_unexpected = log.unexpected


def _anything(value: Any) -> Any:
    return value


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong_type("a boolean", value)


def _as_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong_type("a string", value)


def _as_int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _wrong_type("an integer", value)


def _as_float(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise _wrong_type("a number", value)


def _wrong_type(wanted: str, value: object) -> WrongType:
    names = {bool: "a boolean", str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return WrongType(f"its value is {names.get(type(value), 'null')}, not {wanted}")
