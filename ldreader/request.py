"""A request: evaluations for one context that agree with each other.

Each item is fetched at most once in a request, a missing one included; afterwards everything is forgotten.
"""

from __future__ import annotations

import time

from . import detail as reasons
from .context import as_context
from .detail import EvaluationDetail
from .errors import EvaluationError, InvalidContext, MalformedItem, StoreError, WrongType
from .evaluator import evaluate
from .schema import FEATURES, MEMBERSHIPS, SEGMENTS, WrongShape, blamed_on, decode
from .segments import STORE_ERROR, Membership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Any, TypeAlias

    from .big_segments import BigSegments, Memberships
    from .context import Context
    from .evaluator import Evaluation
    from .migrations import OpTracker, Stage
    from .read_ahead import ReadAhead
    from .requesters.protocol import FeatureRequester
    from .schema import ItemRef, JsonText
    from .state import FeatureFlagsState

    Texts: TypeAlias = dict[ItemRef, JsonText | StoreError]


GUESS_LIMIT = 65536
"""Bytes of an item that is still fetched on a guess, where the requester has no ``guess_limit`` of its own."""


GUESSES = 100
"""Items on a guess in one read, at which no more flags' guesses are added: as many as DynamoDB takes in one batch."""

QUICKLY = 0.1
"""Seconds in which a read may fail without having been waited for."""


class RequestStats:
    """What a request has cost until now."""

    __slots__ = ("bytes", "items", "round_trips", "seconds")

    def __init__(self) -> None:
        self.round_trips = 0
        """Reads of the store; each is one round trip, except where the store itself needs several (its limits)."""
        self.items = 0
        """Flags and segments that came, those fetched on a guess included."""
        self.bytes = 0
        """Their JSON text; characters where the store gives text that is decoded already."""
        self.seconds = 0.0
        """The time spent waiting for the store."""

    def __repr__(self) -> str:
        return (
            f"RequestStats(round_trips={self.round_trips}, items={self.items}, bytes={self.bytes}, "
            f"seconds={self.seconds:.6f})"
        )


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
        "_read_ahead",
        "_requester",
        "_settled",
        "_sizes",
        "_strict",
        "_timeout",
        "stats",
    )

    def __init__(
        self,
        requester: FeatureRequester,
        context: Context | Mapping[str, Any],
        *,
        big_segments: BigSegments | None,
        defaults: Mapping[str, Any],
        offline: bool,
        strict: bool,
        timeout: float | None,
        read_ahead: ReadAhead | None = None,
    ) -> None:
        self.stats = RequestStats()
        self._requester = requester
        self._read_ahead = read_ahead
        self._big_segments = big_segments
        self._context = as_context(context)
        self._defaults = defaults
        self._offline = offline
        self._strict = strict
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._forget()

    @property
    def context(self) -> Context:
        """The context of this request; invalid when what the application gave was."""
        return self._context

    def variation(self, key: str, default: Any) -> Any:
        """The flag's value for the context, or the default."""
        return self._detail(key, default, None, "variation").value

    def variation_detail(self, key: str, default: Any) -> EvaluationDetail:
        """The flag's value for the context, its index and the reason."""
        return self._detail(key, default, None, "variation_detail")

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
        return self._detail(key, default, None, "json_variation").value

    def json_variation_detail(self, key: str, default: Any) -> EvaluationDetail:
        """As `json_variation`, with the reason."""
        return self._detail(key, default, None, "json_variation_detail")

    def all_flags_state(
        self,
        client_side_only: bool = False,
        with_reasons: bool = False,
        details_only_for_tracked_flags: bool = False,
    ) -> FeatureFlagsState:
        """The state of all flags for the context; an invalid, empty one when there is no telling.

        A flag that ends in an error is listed with the value None; an item that is no flag is logged and left out.
        """
        from .state import FeatureFlagsState, flag_metadata, is_client_side

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

    def prefetch(self, *keys: str) -> None:
        """Fetches what these flags need, level by level, so that evaluating them asks the store for nothing more.

        Never raises: what cannot be had, the evaluations tell.
        """
        if self._offline or not self._context.valid:
            return
        new = dict.fromkeys(key for key in keys if isinstance(key, str) and key not in self._settled)
        try:
            self._settled.update(self._settle(new))
        except Exception:  # a bug of ours; the evaluation will meet and report it
            return

    def migration_variation(self, key: str, default_stage: Stage) -> tuple[Stage, OpTracker]:
        """The stage that a migration is in, and a tracker for what the application does at this stage.

        It is the default stage where the flag gives no stage (spec: client behaviour, section 6).
        """
        from .migrations import OpTracker, Stage, staged, valid_stage

        default_stage = valid_stage(default_stage)
        given = self._detail(key, default_stage.value, None, "migration_variation")
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
        self._sizes: dict[ItemRef, int] = {}
        self._settled: dict[str, Evaluation] = {}
        self._everything: Texts | None = None
        self._failure: StoreError | None = None
        self._logged: set[str] = set()
        self._memberships: Memberships | None = None

    def _detail(self, key: str, default: Any, accept: Callable[[Any], Any] | None, method: str) -> EvaluationDetail:
        """The result for the caller: a value that `accept` lets through (None: any), or the default.

        ``method`` is the public method's name; an `ObservedRequest` tells it to hooks.
        """
        if self._defaults and isinstance(key, str):
            default = _own(self._defaults[key]) if key in self._defaults else default
        failure: EvaluationError | None = None
        if self._context.error is not None:
            failure = self._unable()
            detail = EvaluationDetail(None, None, reasons.error(reasons.USER_NOT_SPECIFIED))
        elif self._offline:
            detail = EvaluationDetail(None, None, reasons.error(reasons.CLIENT_NOT_READY))
        else:
            try:
                evaluation = self._evaluate(key)
                detail, failure = evaluation.detail, evaluation.failure
                index = detail.variation_index
                if index is not None:
                    found = detail.value
                    value = _own(found) if accept is None else accept(_own(found))
                    return detail if value is found else EvaluationDetail(value, index, detail.reason)
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
            self._log_once(f"no event {what!r}: {self._context.error}", serious=False)
        return self._context.valid

    def _unable(self) -> InvalidContext | None:
        error = self._context.error
        return None if error is None else InvalidContext(error)

    def _report(self, what: str, failure: EvaluationError, detail: EvaluationDetail | None = None) -> None:
        if self._strict:
            failure.detail = detail
            raise failure.with_traceback(None)
        if isinstance(failure, (StoreError, InvalidContext)):
            # One line a request: what is wrong with the store or the context would else be said for each flag.
            serious = isinstance(failure, StoreError)
            self._log_once(f"{what}: {failure}", once_for=str(failure), serious=serious)
        else:
            self._log_once(f"{what}: {failure}", serious=isinstance(failure, MalformedItem))

    def _log_once(self, message: str, *, once_for: str = "", serious: bool = True) -> None:
        if (once_for or message) not in self._logged:
            from . import log

            self._logged.add(once_for or message)
            (log.error if serious else log.warning)(message)

    def _evaluate(self, key: str) -> Evaluation:
        """The evaluation of a flag, as `prefetch` has left it or new."""
        settled = self._settled.pop(key, None)
        if settled is not None:
            return settled
        if (FEATURES, key) not in self._items:
            self._fetch(((FEATURES, key),))
        evaluation = evaluate(key, self._context, self._items)
        met: dict[ItemRef, None] = {}
        while evaluation.lacks:
            met.update(evaluation.lacks)
            self._fetch(evaluation.lacks)
            evaluation = evaluate(key, self._context, self._items)
        self._learn(key, evaluation, met)
        return evaluation

    def _settle(self, keys: Iterable[str]) -> dict[str, Evaluation]:
        """The evaluations of many flags, with as many rounds of fetching as their references are deep."""
        settled: dict[str, Evaluation] = {}
        met: dict[str, dict[ItemRef, None]] = {key: {} for key in keys}
        pending = list(met)
        absent = [(FEATURES, key) for key in pending if (FEATURES, key) not in self._items]
        if absent:
            self._fetch(absent)
        while pending:
            lacks: dict[ItemRef, None] = {}
            for key in pending:
                evaluation = evaluate(key, self._context, self._items)
                if evaluation.lacks:
                    lacks.update(evaluation.lacks)
                    met[key].update(evaluation.lacks)
                else:
                    settled[key] = evaluation
                    self._learn(key, evaluation, met[key])
            pending = [key for key in pending if key not in settled]
            if pending:
                self._fetch(lacks)
        return settled

    def _learn(self, key: str, evaluation: Evaluation, met: dict[ItemRef, None]) -> None:
        if self._read_ahead is None or self._failure is not None or self._everything is not None:
            return
        # Most flags lead to nothing, and nothing is known about them.
        if met or len(evaluation.needs) > 1 or self._read_ahead.guesses(key):
            self._read_ahead.learn(key, evaluation.needs, met, self._sizes, self._guess_limit())

    def _guesses(self, refs: Iterable[ItemRef]) -> dict[ItemRef, None]:
        """What the flags among these references led to before, unless it is at hand or asked for anyway."""
        guesses: dict[ItemRef, None] = {}
        if self._read_ahead is None or self._failure is not None:
            return guesses
        for kind, key in refs:
            known = self._read_ahead.guesses(key) if kind == FEATURES else ()
            if known and len(guesses) < GUESSES and self._guess_limit():
                guesses.update((ref, None) for ref in known if ref not in self._items)
        if guesses:
            for ref in refs:
                guesses.pop(ref, None)
        return guesses

    def _guess_limit(self) -> int:
        # Asked each time: a requester that finds that it may not read in batches gives 0.
        limit: int = getattr(self._requester, "guess_limit", GUESS_LIMIT)
        return limit

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
            elif _can_be_stored(key):
                wanted.append(ref)
            else:
                self._items[ref] = None
        if wanted:
            self._fetch_items(wanted)
        if context_keys:
            self._fetch_memberships(context_keys)

    def _fetch_items(self, wanted: list[ItemRef]) -> None:
        """Puts something in the place of each of these, and of what they led to before if that came along."""
        guesses = self._guesses(wanted)
        alone = wanted
        end: float | None = None
        if guesses:
            # Half of the time that a read may take; a failure leaves the other half for a read without guesses.
            patience: float | None = getattr(self._requester, "timeout", None)
            begin = time.monotonic()
            half = patience and begin + patience
            if half and self._deadline is not None:
                half = min(half, (begin + self._deadline) / 2)
            found = self._ask([*wanted, *guesses], half)
            if self._failure is None:
                for ref in guesses:
                    self._sizes.setdefault(ref, 0)
                    text = found.get(ref)
                    if not isinstance(text, StoreError):
                        self._put(ref, text)
                alone = [ref for ref in wanted if isinstance(found.get(ref), StoreError)]
            else:
                self._forget_guesses(wanted)
                # Without a bound that is known, what had to be waited for is not waited for twice.
                if patience or self._failure.answered or time.monotonic() - begin < QUICKLY:
                    self._failure = None
            for ref in wanted:
                if ref not in alone:
                    self._put(ref, found.get(ref))
            end = patience and begin + 2 * patience
        if alone:
            found = self._ask(alone, end)
            for ref in alone:
                self._put(ref, found.get(ref, self._failure))

    def _forget_guesses(self, refs: Iterable[ItemRef]) -> None:
        for kind, key in refs:
            if kind == FEATURES and self._read_ahead is not None:
                self._read_ahead.forget(key)

    def _fetch_memberships(self, context_keys: list[str]) -> None:
        if self._memberships is None:
            from .big_segments import BigSegments, Memberships

            self._memberships = Memberships(self._big_segments or BigSegments.of(None, self._requester))
        store: object = self._memberships.store
        reason = self._failure if store is self._requester else None
        if reason is None and store is not None and self._is_late():
            reason = self._too_late()
        if reason is not None:
            memberships = dict.fromkeys(context_keys, Membership(None, STORE_ERROR))
            self._log_once(f"the store of big segments is not asked: {reason}", once_for=str(reason))
        else:
            begin = time.monotonic()
            memberships = self._memberships.fetch(context_keys, self._deadline)
            self.stats.seconds += time.monotonic() - begin
            self.stats.round_trips += self._memberships.round_trips
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
            everything = self._ask(None)
            if self._failure is None:
                self._everything = everything
            # Segments wait as text: most are needed by nobody.
            for ref, text in everything.items():
                if ref[0] == FEATURES and ref not in self._items:
                    self._put(ref, text)
        return self._failure

    def _ask(self, refs: list[ItemRef] | None, end: float | None = None) -> Texts:
        """What the store has of these, or all, by the request's deadline and by this end; nothing when it failed.

        `_failure` says why then: a store that failed once is not waited for again in this request.
        """
        begin = time.monotonic()
        if self._deadline is not None:
            if self._failure is None and begin >= self._deadline:
                self._failure = self._too_late()
            if end is None or self._deadline < end:
                end = self._deadline
        if self._failure is not None:
            return {}
        deadline = () if end is None or not getattr(self._requester, "keeps_deadlines", False) else (end,)
        texts: Texts = {}
        try:
            if refs is None:
                texts = _flat(self._requester.get_all(*deadline))
            else:
                found = self._requester.get_many(refs, *deadline)
                texts = found if type(found) is dict else dict(found)
        except StoreError as error:
            self._failure = error
        except Exception as error:  # anyone can write a requester
            self._failure = StoreError(f"the feature requester failed: {_words(error)}")
        stats = self.stats
        stats.round_trips += 1
        stats.seconds += time.monotonic() - begin
        for ref, text in texts.items():
            if isinstance(text, (bytes, str)):
                size = self._sizes[ref] = len(text)
                stats.items += 1
                stats.bytes += size
        return texts

    def _too_late(self) -> StoreError:
        return StoreError(f"the {self._timeout:g} s that the request has are over")

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _put(self, ref: ItemRef, text: JsonText | StoreError | None) -> None:
        self._items[ref] = text if text is None or isinstance(text, StoreError) else decode(ref, text)


def _flat(collections: Mapping[str, Mapping[str, JsonText | StoreError]]) -> Texts:
    return {
        (kind, key): text
        for kind in (FEATURES, SEGMENTS)
        for key, text in collections[kind].items()
        if isinstance(key, str)
    }


def _can_be_stored(key: object) -> bool:
    # Whatever else a caller passes, or a flag refers to by a lone surrogate, is in no store.
    if not isinstance(key, str):
        return False
    if key.isascii():
        return True
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _own(value: Any) -> Any:
    """A copy for the caller to change, so that the request's next answer stays the same."""
    if type(value) is not dict and type(value) is not list:
        return value
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


def _unexpected(error: BaseException) -> str:
    from .log import unexpected

    return unexpected(error)


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
