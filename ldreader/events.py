"""Events in LaunchDarkly's form, for a sink of the application's (spec: client behaviour, section 10).

They are those of the PHP SDK: each evaluation is a ``feature`` event with the whole context in it, and whoever receives
them summarises. A request gives its events to the sink in one call at its end. Nothing here sends anything anywhere.
"""

from __future__ import annotations

import time

from . import log
from .attribute import parse_reference, reference_of_literal
from .context import cleaned
from .errors import ConfigurationError, MalformedItem
from .evaluator import is_experiment
from .sampling import sampled
from .schema import FEATURES, blamed_on, boolean, dumps, integer, objects, required_integer, text
from .state import debug_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike
    from typing import Any, Protocol, TypeAlias

    from .context import Context
    from .detail import EvaluationDetail, Reason
    from .evaluator import Evaluation
    from .migrations import MigrationOpEvent
    from .schema import Item

    Event: TypeAlias = dict[str, Any]
    EventSink: TypeAlias = Callable[[list[Event]], object]

    class Writable(Protocol):
        """A text stream."""

        def write(self, text: str, /) -> object:
            """Takes the text."""
            ...


class JsonLinesSink:
    """An event sink that writes each event as a line of JSON to a stream or appends it to a file.

    Args:
        target: A text stream such as ``sys.stdout``, or the path of a file, which is opened for each batch alone. The
            lines of one batch are written at once, so that threads and processes may share the target.
    """

    def __init__(self, target: Writable | str | PathLike[str]) -> None:
        self._target: Any = target

    def __call__(self, events: list[Event]) -> None:
        """Writes the events.

        Raises:
            OSError: The target cannot be written; the reader logs it.
        """
        lines = "".join([f"{dumps(event)}\n" for event in events])
        if hasattr(self._target, "write"):
            self._target.write(lines)
            if hasattr(self._target, "flush"):
                self._target.flush()  # a process such as a Lambda function may be frozen at any moment
            return
        with open(self._target, "ab", buffering=0) as file:
            unwritten = lines.encode()
            while unwritten:
                unwritten = unwritten[file.write(unwritten) :]


class EventSettings:
    """Where a reader's events go, and what they may tell of a context."""

    __slots__ = ("_all_private", "_private", "omit_anonymous", "sink")

    def __init__(
        self,
        sink: EventSink,
        *,
        private_attributes: Iterable[str] = (),
        all_attributes_private: bool = False,
        omit_anonymous_contexts: bool = False,
    ) -> None:
        if not callable(sink):
            raise ConfigurationError("events takes a callable that is given a list of events, such as a JsonLinesSink")
        if isinstance(private_attributes, str):
            raise ConfigurationError("private_attributes takes a list of attribute names or references, not one string")
        self.sink = sink
        self.omit_anonymous = bool(omit_anonymous_contexts)
        self._private = _parsed(private_attributes)
        self._all_private = bool(all_attributes_private)

    def context(self, context: Context, *, redact_anonymous: bool) -> dict[str, Any]:
        """The context as an event tells it, without what is private and with the names of what was left out.

        ``redact_anonymous`` makes all attributes of an anonymous member private.
        """
        if not context.multiple:
            return {"kind": context.kind, **self._member(context, redact_anonymous)}
        told: dict[str, Any] = {"kind": "multi"}
        for kind in context.kinds():
            member = context.get_individual_context(kind)
            if member is not None:
                told[kind] = self._member(member, redact_anonymous)
        return told

    def _member(self, member: Context, redact_anonymous: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"key": member.key}
        if member.anonymous:
            told["anonymous"] = True
        # The context's own list is for this context only.
        private = {**_parsed(member.private_attributes), **self._private}
        all_private = self._all_private or (redact_anonymous and member.anonymous)
        redacted: list[str] = []
        for name in ("name", *member.custom_attributes):
            value = member.get(name)
            if value is None:
                continue
            if all_private or (name,) in private:
                redacted.append(reference_of_literal(name))
                continue
            value = cleaned(value)
            if value is not None:
                told[name] = _without(value, (name,), private, redacted)
        if redacted:
            told["_meta"] = {"redactedAttributes": redacted}
        return told


class Batch:
    """The events of one request, in the order in which things happened."""

    __slots__ = ("_context", "_events", "_inline", "_say", "_settings")

    def __init__(self, settings: EventSettings, context: Context, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._context = context
        self._say = say
        self._events: list[Event] = []
        self._inline: dict[str, Any] | None = None

    def add_evaluation(
        self,
        key: str,
        evaluation: Evaluation | None,
        detail: EvaluationDetail,
        default: Any,
        items: Mapping[Any, Any],
        *,
        with_reason: bool,
    ) -> None:
        """Notes the flags that this one depends on, and then the flag itself, with what its caller was given."""
        if not isinstance(key, str):
            return
        flag = None if evaluation is None else evaluation.flag
        if evaluation is None or flag is None:
            event = self._event("feature", key)
            reason = detail.reason if with_reason else None
            self._add(f"flag {key!r}", key, None, lambda: _with_outcome(event, detail.value, default, reason))
            return
        for name, prerequisite, served, dependent in _prerequisites(flag, key, evaluation.served, items, {key}):
            self._add_feature(name, prerequisite, served, None, with_reason, dependent)
        self._add_feature(key, flag, detail, default, with_reason, None)

    def add_custom(self, name: str, data: Any, metric_value: float | None) -> None:
        """Notes an event of the application's own."""

        def built() -> Event:
            event = self._event("custom", _string(name, "name"))
            if data is not None:
                event["data"] = _json_value(data, "data")
            if metric_value is not None:
                if isinstance(metric_value, bool) or not isinstance(metric_value, (int, float)):
                    raise NotJson("metric value is no number")
                event["metricValue"] = _json_value(metric_value, "metric value")
            return event

        self._add(f"custom event {name!r}", "", None, built)

    def add_identify(self) -> None:
        """Notes the context; nothing where it is anonymous and such are to be left out."""
        context = self._context
        if self._settings.omit_anonymous:
            context = context.without_anonymous_contexts()
        if context.valid:
            told = self._settings.context(context, redact_anonymous=False)
            self._events.append({"kind": "identify", "creationDate": _now(), "context": told})

    def add_migration_op(self, operation: MigrationOpEvent) -> None:
        """Notes what the application did in a migration, and how it went."""

        def built() -> Event:
            ours = operation.context is self._context
            context = self._context_told() if ours else self._settings.context(operation.context, redact_anonymous=True)
            return {
                "kind": "migration_op",
                "creationDate": operation.timestamp,
                "context": context,
                **operation.members(),
            }

        self._add(f"an operation of migration {operation.key!r}", operation.key, operation.flag, built)

    def deliver(self) -> None:
        """Gives the sink what there is, and forgets it; what the sink raises is logged."""
        events, self._events = self._events, []
        if events:
            try:
                self._settings.sink(events)
            except Exception as error:  # anyone can write a sink
                log.error(f"the event sink failed, with {len(events)} events: {log.unexpected(error)}")

    def _add_feature(
        self,
        key: str,
        flag: Item,
        detail: EvaluationDetail,
        default: Any,
        with_reason: bool,
        dependent: tuple[str, Item] | None,
    ) -> None:
        def built() -> Event:
            event = self._event("feature", text(flag, "key") or key)
            experiment = is_experiment(flag, detail.reason)
            event["variation"] = detail.variation_index
            _with_outcome(event, detail.value, default, None)
            event["version"] = integer(flag, "version") or 0
            if boolean(flag, "excludeFromSummaries"):
                event["excludeFromSummaries"] = True
            ratio = integer(flag, "samplingRatio")
            if ratio is not None and ratio != 1:
                event["samplingRatio"] = ratio
            if boolean(flag, "trackEvents") or experiment:
                event["trackEvents"] = True
            if until := debug_until(flag):
                event["debugEventsUntilDate"] = until
            if dependent is not None:
                event["prereqOf"] = text(dependent[1], "key") or dependent[0]
            if with_reason or experiment:
                event["reason"] = dict(detail.reason)
            return event

        self._add(f"flag {key!r}", key, flag, built)

    def _add(self, what: str, key: str, flag: Item | None, build: Callable[[], Event]) -> None:
        """Adds an event, unless its flag's sampling leaves it out; one that cannot be built spoils no other."""
        try:
            if flag is None or sampled(integer(flag, "samplingRatio")):
                self._events.append(build())
        except NotJson as error:
            self._say(f"no event for {what}: its {error}")
        except MalformedItem as error:
            self._say(f"no event for {what}: {blamed_on((FEATURES, key), flag or {}, error)}")

    def _event(self, kind: str, key: str) -> Event:
        return {"kind": kind, "creationDate": _now(), "key": key, "context": self._context_told()}

    def _context_told(self) -> dict[str, Any]:
        # One for all events of the request: most requests have many.
        if self._inline is None:
            self._inline = self._settings.context(self._context, redact_anonymous=True)
        return self._inline


class NotJson(ValueError):
    """A value that JSON cannot carry."""


def _prerequisites(
    flag: Item, key: str, served: Mapping[str, EvaluationDetail | None], items: Mapping[Any, Any], seen: set[str]
) -> Iterator[tuple[str, Item, EvaluationDetail, tuple[str, Item]]]:
    """The flags that were evaluated for this one, each with its key, its result and the flag that lists it.

    They come in the order in which a walk finishes them. One that several flags list comes once for each.
    """
    try:
        if not boolean(flag, "on"):
            return
        for prerequisite in objects(flag, "prerequisites"):
            name = text(prerequisite, "key")
            other = items.get((FEATURES, name))
            if type(other) is not dict:
                return
            if name not in seen:
                seen.add(name)
                yield from _prerequisites(other, name, served, items, seen)
            detail = served.get(name)
            if detail is None:
                return  # The walk broke off there.
            yield name, other, detail, (key, flag)
            if not boolean(other, "on") or detail.variation_index != required_integer(prerequisite, "variation"):
                return
    except MalformedItem:
        return  # The walk broke off there too, and has said why.


def _with_outcome(event: Event, value: Any, default: Any, reason: Reason | None) -> Event:
    # Copies, because the caller may change its value before the events are given away.
    event["value"] = _json_value(value, "value")
    event["default"] = _json_value(default, "default")
    if reason is not None:
        event["reason"] = dict(reason)
    return event


def _json_value(value: Any, what: str) -> Any:
    try:
        return _copied(value)
    except RecursionError:
        raise NotJson(f"{what} is nested too deeply") from None
    except (TypeError, ValueError):
        raise NotJson(f"{what} is nothing that JSON can carry") from None


def _copied(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)  # an enumeration of strings would be written by its name
    if isinstance(value, int):
        if value.bit_length() > 1024:
            raise ValueError  # more than any double; Python may refuse to print it
        return int(value)
    if isinstance(value, float) and value - value == 0:
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_copied(member) for member in value]
    if isinstance(value, dict):
        return {_string(name, "name"): _copied(member) for name, member in value.items()}
    raise TypeError


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise NotJson(f"{what} is no string")
    return value


def _parsed(references: Iterable[str]) -> dict[tuple[str, ...], str]:
    """The references by what they mean; an invalid one means nothing and is passed over."""
    paths = [(parse_reference(reference), reference) for reference in references if isinstance(reference, str)]
    return {path: reference for path, reference in paths if path is not None}


def _without(value: Any, path: tuple[str, ...], private: Mapping[tuple[str, ...], str], redacted: list[str]) -> Any:
    """A value less what is private in it; only objects are entered."""
    if type(value) is not dict:
        return value
    kept = {}
    for name, member in value.items():
        place = (*path, name)
        if place in private:
            redacted.append(private[place])
        else:
            kept[name] = _without(member, place, private, redacted)
    return kept


def _now() -> int:
    return int(time.time() * 1000)
