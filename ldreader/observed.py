"""Requests that somebody watches: they call hooks and gather events.

A reader without hooks and without an event sink makes plain requests, which know nothing of all this.
"""

from __future__ import annotations

from . import log
from .errors import EvaluationError
from .events import Batch, EventSettings
from .hooks import EvaluationSeriesContext, TrackSeriesContext, after_evaluation, after_track, before_evaluation
from .migrations import Stage, built, staged
from .request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .detail import EvaluationDetail
    from .evaluator import Evaluation
    from .migrations import OpTracker


class Observers:
    """A reader's hooks and its event sink, and the maker of requests that serve them."""

    __slots__ = ("_hooks", "_settings")

    def __init__(self, hooks: list[object], settings: EventSettings | None) -> None:
        self._hooks = hooks
        self._settings = settings

    def request(self, *arguments: Any, **options: Any) -> ObservedRequest:
        """A `Request`, from the same arguments, that serves the observers."""
        return ObservedRequest(self._hooks, self._settings, *arguments, **options)

    @staticmethod
    def alone(request: Request) -> Request:
        """The request, which is for a single evaluation: it closes itself after that."""
        if isinstance(request, ObservedRequest):
            request.close_after_one()
        return request


class ObservedRequest(Request):
    """A request that calls the hooks around each evaluation, and gives its events to the sink when it is closed."""

    __slots__ = ("_alone", "_batch", "_evaluation", "_hooks")

    def __init__(self, hooks: list[object], settings: EventSettings | None, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._hooks = hooks
        self._batch: Batch | None = None
        self._evaluation: Evaluation | None = None
        self._alone = False
        if settings is not None and not self._offline:
            self._batch = Batch(settings, self._context, self._log_once)

    def close_after_one(self) -> None:
        """Makes the first evaluation close the request."""
        self._alone = True

    def track_migration_op(self, tracker: OpTracker) -> None:
        """Gives the event sink what the tracker measured; logs what is wrong with it, if anything is."""
        operation = built(tracker)
        if operation is not None and self._batch is not None:
            self._batch.add_migration_op(operation)

    def track(self, event_name: str, data: Any = None, metric_value: float | None = None) -> None:
        """Gives the event sink, and hooks, an event of the application's own."""
        if not self._may_tell(event_name):
            return
        if self._batch is not None:
            self._batch.add_custom(event_name, data, metric_value)
        if hooks := tuple(self._hooks):
            after_track(hooks, TrackSeriesContext(self._context, event_name, metric_value, data))

    def identify(self) -> None:
        """Gives the event sink the context alone."""
        if self._may_tell("identify") and self._batch is not None:
            self._batch.add_identify()

    def close(self) -> None:
        """Gives the event sink the events, and forgets everything that was fetched."""
        if self._batch is not None:
            self._batch.deliver()
        super().close()

    def _detail(self, key: str, default: Any, accept: Callable[[Any], Any] | None, method: str) -> EvaluationDetail:
        hooks = tuple(self._hooks)  # for as long as this evaluation takes
        try:
            if not hooks:
                return self._noted_detail(key, default, accept, method)
            series = EvaluationSeriesContext(key, self._context, default, method)
            data = before_evaluation(hooks, series)
            raised: EvaluationError | None = None
            try:
                detail = self._noted_detail(key, default, accept, method)
            except EvaluationError as error:
                if error.detail is None:
                    raise
                raised, detail = error, error.detail
            # What a hook is shown is what its caller gets, and of a migration that is a stage.
            shown = staged(detail, Stage(default)) if method == "migration_variation" else detail
            after_evaluation(hooks, series, data, shown)
            if raised is not None:
                raise raised
            return detail
        finally:
            if self._alone:
                self.close()

    def _noted_detail(
        self, key: str, default: Any, accept: Callable[[Any], Any] | None, method: str
    ) -> EvaluationDetail:
        """The result, once the batch has the events about it."""
        self._evaluation = None
        try:
            detail = super()._detail(key, default, accept, method)
        except EvaluationError as error:  # of a strict reader
            if error.detail is not None:
                self._note(key, default, method, error.detail)
            raise
        self._note(key, default, method, detail)
        return detail

    def _note(self, key: str, default: Any, method: str, detail: EvaluationDetail) -> None:
        if self._batch is None or not self._context.valid:
            return
        if isinstance(key, str) and key in self._defaults:
            default = self._defaults[key]
        try:
            with_reason = method.endswith("_detail")
            self._batch.add_evaluation(key, self._evaluation, detail, default, self._items, with_reason=with_reason)
        except Exception as error:  # a bug of ours must not become the application's
            log.error(f"no event for flag {key!r}: {log.unexpected(error)}")

    def _evaluate(self, key: str) -> Evaluation:
        self._evaluation = super()._evaluate(key)
        return self._evaluation
