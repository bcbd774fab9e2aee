"""Hooks: code of the application's around each evaluation (spec: client behaviour, section 7).

A hook is any object of the official Python SDK's shape, such as an instance of `Hook` or of ``ldclient.hook.Hook``:
``metadata`` with a ``name``, ``before_evaluation``, ``after_evaluation``, and, as in the PHP SDK, ``after_track``. A
stage that it lacks is passed over. What a hook raises is logged, and the evaluation goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .context import Context
    from .detail import EvaluationDetail

BEFORE_EVALUATION = "before_evaluation"
AFTER_EVALUATION = "after_evaluation"
AFTER_TRACK = "after_track"
STAGES = (BEFORE_EVALUATION, AFTER_EVALUATION, AFTER_TRACK)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a hook says about itself."""

    name: str
    """The name by which the log speaks of the hook."""


@dataclass(frozen=True, slots=True)
class EvaluationSeriesContext:
    """The evaluation that a hook is called for; the same before and after it."""

    key: str
    """The flag's key."""
    context: Context
    """The context to evaluate for; invalid when what the application gave was."""
    default_value: Any
    """The default that the caller gave; of a migration, the stage as a string."""
    method: str
    """The method that was called: ``variation``, ``variation_detail``, ``migration_variation``, ``bool_variation`` …"""
    environment_id: str | None = None
    """Always None: no store tells it."""


@dataclass(frozen=True, slots=True)
class TrackSeriesContext:
    """The event of the application's own that a hook is called for."""

    context: Context
    """The context that the event is about."""
    key: str
    """The event's name."""
    metric_value: float | None
    """The number that experiments measure, if there is one."""
    data: Any
    """What else the application gave."""


class Hook:
    """A hook that does nothing, to be derived from; so a stage that is added one day breaks nobody."""

    @property
    def metadata(self) -> Metadata:
        """What the hook says about itself; its class's name, unless it has another."""
        return Metadata(type(self).__name__)

    def before_evaluation(self, series_context: EvaluationSeriesContext, data: dict[str, Any]) -> dict[str, Any]:
        """The data for this hook's `after_evaluation`; ``data`` is empty."""
        return data

    def after_evaluation(
        self, series_context: EvaluationSeriesContext, data: dict[str, Any], detail: EvaluationDetail
    ) -> dict[str, Any]:
        """Called with the result that the caller is about to get; what it returns is not used."""
        return data

    def after_track(self, series_context: TrackSeriesContext) -> None:
        """Called when the application has tracked an event, whether there is an event sink or not."""


def hooks_among(given: Iterable[object]) -> list[object]:
    """The objects that are hooks; each other one is logged and left out, as in the official SDKs."""
    found = []
    for hook in given:
        if not isinstance(hook, type) and any(callable(getattr(hook, stage, None)) for stage in STAGES):
            found.append(hook)
        else:
            log.warning(f"{_type_name(hook)} is no hook and is left out: give an object with {', '.join(STAGES)}")
    return found


def before_evaluation(hooks: Sequence[object], series: EvaluationSeriesContext) -> list[dict[str, Any]]:
    """What each hook returned, in their order; empty for one that failed."""
    return [_call(hook, BEFORE_EVALUATION, series, {}) or {} for hook in hooks]


def after_evaluation(
    hooks: Sequence[object], series: EvaluationSeriesContext, data: list[dict[str, Any]], detail: EvaluationDetail
) -> None:
    """Gives each hook, the last one first, the result and what it returned before."""
    for hook, own in zip(reversed(hooks), reversed(data), strict=True):
        _call(hook, AFTER_EVALUATION, series, own, detail)


def after_track(hooks: Sequence[object], series: TrackSeriesContext) -> None:
    """Tells each hook, in their order, of an event of the application's own."""
    for hook in hooks:
        _call(hook, AFTER_TRACK, series)


def _call(hook: object, name: str, *arguments: Any) -> Any:
    try:
        stage = getattr(hook, name, None)
        return None if stage is None else stage(*arguments)
    except Exception as error:  # anyone can write a hook
        log.error(f"{name} of the hook {_name(hook)} failed: {log.unexpected(error)}")
        return None


def _name(hook: Any) -> str:
    try:
        return repr(hook.metadata.name)
    except Exception:  # as above
        return _type_name(hook)


def _type_name(hook: object) -> str:
    return f"the class {hook.__name__}" if isinstance(hook, type) else f"a {type(hook).__name__}"
