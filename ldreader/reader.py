"""The reader: as long-lived as the process, holds the way to the store and no flag data."""

from __future__ import annotations

from .context import as_context
from .errors import ConfigurationError
from .request import Request
from .requesters import open_requester, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any

    from .big_segments import BigSegments, BigSegmentStoreStatus
    from .context import Context
    from .detail import EvaluationDetail
    from .events import EventSink
    from .migrations import OpTracker, Stage
    from .observed import Observers
    from .read_ahead import ReadAhead
    from .requesters.protocol import FeatureRequester
    from .state import FeatureFlagsState

    AnyContext = Context | Mapping[str, Any]


class FlagReader:
    """Evaluates flags from a store where someone else has put them.

    It starts no thread, keeps no flag data and contacts nothing until a flag is asked for. It may be shared between
    threads. Evaluating never raises: the default comes back, with the reason.

    Args:
        feature_requester: The way to the store, such as `RedisRequester`, or one of your own.
        defaults: Values, by flag key, that win over the default given in a call.
        offline: Reads nothing and answers every evaluation with the default.
        sdk_key: Used by `secure_mode_hash` alone.
        timeout: Seconds that a request may take from its start; after them it asks no store any more. A request may
            be given another one. What bounds each single reply is the requester's own timeout.
        big_segments: Where memberships in big segments are: a store, or an object like the official SDK's
            ``BigSegmentsConfig`` (``store``, ``stale_after``); by default the feature requester, if it can.
        hooks: Objects that are called around each evaluation (see ``ldreader.hooks``); what is no hook is logged and
            left out.
        events: A callable that is given the list of a request's events, in LaunchDarkly's form, at the request's end,
            such as a `JsonLinesSink`; without one, no event is made. What it raises is logged.
        private_attributes: Names of attributes, or references to values in them, that events leave out.
        all_attributes_private: Leaves all of them out of events, but for kind, key and anonymous.
        omit_anonymous_contexts: Leaves anonymous contexts out of the events of `identify`.
        read_ahead: Remembers which keys, never which contents, each flag led to, and fetches them together with it the
            next time: one round trip however deep the references go. By default on where the requester gains by it
            (Redis, DynamoDB, Consul); False for requesters that route by tenant.
        strict: Raises an `EvaluationError` where the reason would be an error; for tests and tools.
    """

    def __init__(
        self,
        feature_requester: FeatureRequester,
        *,
        big_segments: Any = None,
        defaults: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        offline: bool = False,
        sdk_key: str | None = None,
        hooks: Iterable[object] = (),
        events: EventSink | None = None,
        private_attributes: Iterable[str] = (),
        all_attributes_private: bool = False,
        omit_anonymous_contexts: bool = False,
        strict: bool = False,
        read_ahead: bool | None = None,
    ) -> None:
        self._requester = feature_requester
        self._big_segments: BigSegments | None = None
        if big_segments is not None:
            from .big_segments import BigSegments

            self._big_segments = BigSegments.of(big_segments, feature_requester)
        self._timeout = None if timeout is None else seconds(timeout)
        self._defaults = dict(defaults or {})
        self._offline = offline
        self._sdk_key = sdk_key
        self._strict = strict
        self._hooks: list[object] = []
        self._observers: Observers | None = None
        if hooks or events is not None:
            from .events import EventSettings
            from .hooks import hooks_among
            from .observed import Observers

            settings: EventSettings | None = None
            if events is not None:
                settings = EventSettings(
                    events,
                    private_attributes=private_attributes,
                    all_attributes_private=all_attributes_private,
                    omit_anonymous_contexts=omit_anonymous_contexts,
                )
            self._hooks = hooks_among(hooks)
            self._observers = Observers(self._hooks, settings)
        if read_ahead is None:
            read_ahead = hasattr(feature_requester, "guess_limit")
        self._read_ahead: ReadAhead | None = None
        if read_ahead:
            from .read_ahead import ReadAhead

            self._read_ahead = ReadAhead()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        big_segments: Any = None,
        defaults: Mapping[str, Any] | None = None,
        offline: bool = False,
        sdk_key: str | None = None,
        hooks: Iterable[object] = (),
        events: EventSink | None = None,
        private_attributes: Iterable[str] = (),
        all_attributes_private: bool = False,
        omit_anonymous_contexts: bool = False,
        strict: bool = False,
        read_ahead: bool | None = None,
        **options: Any,
    ) -> FlagReader:
        """The reader for a store URL. Opens nothing yet.

        ``options`` are the store's, such as ``prefix`` and ``timeout`` (seconds); given here they win over the URL.

        Raises:
            ConfigurationError: The URL's scheme or an option is unknown, or a value makes no sense.
            MissingDependency: The store's client package is not installed.
        """
        requester = open_requester(url, **options)
        return cls(
            requester,
            big_segments=big_segments,
            defaults=defaults,
            offline=offline,
            sdk_key=sdk_key,
            hooks=hooks,
            events=events,
            private_attributes=private_attributes,
            all_attributes_private=all_attributes_private,
            omit_anonymous_contexts=omit_anonymous_contexts,
            strict=strict,
            read_ahead=read_ahead,
        )

    def request(self, context: AnyContext, *, timeout: float | None = None) -> Request:
        """The flags for one context and one request of the application; use it in a ``with`` block.

        ``timeout`` is the number of seconds from now after which the store is not asked any more.

        Raises:
            ConfigurationError: The timeout is no number.
        """
        if timeout is not None and (not isinstance(timeout, (int, float)) or timeout != timeout):
            raise ConfigurationError(f"timeout must be a number of seconds, not {timeout!r}")
        return (Request if self._observers is None else self._observers.request)(
            self._requester,
            context,
            big_segments=self._big_segments,
            defaults=self._defaults,
            offline=self._offline,
            strict=self._strict,
            timeout=self._timeout if timeout is None else timeout,
            read_ahead=self._read_ahead,
        )

    def variation(self, key: str, context: AnyContext, default: Any) -> Any:
        """The flag's value for the context, or the default."""
        return self._once(context).variation(key, default)

    def variation_detail(self, key: str, context: AnyContext, default: Any) -> EvaluationDetail:
        """The flag's value for the context, its index and the reason."""
        return self._once(context).variation_detail(key, default)

    def bool_variation(self, key: str, context: AnyContext, default: bool) -> bool:
        """The flag's value, or the default when it is no boolean."""
        return self._once(context).bool_variation(key, default)

    def bool_variation_detail(self, key: str, context: AnyContext, default: bool) -> EvaluationDetail:
        """As `bool_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._once(context).bool_variation_detail(key, default)

    def string_variation(self, key: str, context: AnyContext, default: str) -> str:
        """The flag's value, or the default when it is no string."""
        return self._once(context).string_variation(key, default)

    def string_variation_detail(self, key: str, context: AnyContext, default: str) -> EvaluationDetail:
        """As `string_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._once(context).string_variation_detail(key, default)

    def int_variation(self, key: str, context: AnyContext, default: int) -> int:
        """The flag's value, or the default when it is no integer; 3.0 is one."""
        return self._once(context).int_variation(key, default)

    def int_variation_detail(self, key: str, context: AnyContext, default: int) -> EvaluationDetail:
        """As `int_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._once(context).int_variation_detail(key, default)

    def float_variation(self, key: str, context: AnyContext, default: float) -> float:
        """The flag's value as a float, or the default when it is no number."""
        return self._once(context).float_variation(key, default)

    def float_variation_detail(self, key: str, context: AnyContext, default: float) -> EvaluationDetail:
        """As `float_variation`, with the reason; another type gives ``WRONG_TYPE``."""
        return self._once(context).float_variation_detail(key, default)

    def json_variation(self, key: str, context: AnyContext, default: Any) -> Any:
        """The flag's value, of whatever JSON type."""
        return self._once(context).json_variation(key, default)

    def json_variation_detail(self, key: str, context: AnyContext, default: Any) -> EvaluationDetail:
        """As `json_variation`, with the reason."""
        return self._once(context).json_variation_detail(key, default)

    def all_flags_state(
        self,
        context: AnyContext,
        client_side_only: bool = False,
        with_reasons: bool = False,
        details_only_for_tracked_flags: bool = False,
    ) -> FeatureFlagsState:
        """The state of all flags for the context; an invalid, empty one when there is no telling."""
        return self.request(context).all_flags_state(client_side_only, with_reasons, details_only_for_tracked_flags)

    def migration_variation(self, key: str, context: AnyContext, default_stage: Stage) -> tuple[Stage, OpTracker]:
        """The stage that a migration is in, and a tracker for what the application does at this stage.

        It is the default stage where the flag gives no stage (spec: client behaviour, section 6).
        """
        with self.request(context) as request:
            return request.migration_variation(key, default_stage)

    def track_migration_op(self, tracker: OpTracker) -> None:
        """Gives the event sink what the tracker measured; logs what is wrong with it, if anything is."""
        with self.request(tracker.context) as request:
            request.track_migration_op(tracker)

    def track(self, event_name: str, context: AnyContext, data: Any = None, metric_value: float | None = None) -> None:
        """Gives the event sink, and hooks, an event of the application's own; without either, it does nothing.

        ``data`` is anything that JSON can carry, ``metric_value`` the number that an experiment measures.
        """
        with self.request(context) as request:
            request.track(event_name, data, metric_value)

    def identify(self, context: AnyContext) -> None:
        """Gives the event sink the context alone; without a sink it does nothing."""
        with self.request(context) as request:
            request.identify()

    def add_hook(self, hook: object) -> None:
        """Adds a hook for all later evaluations; what is no hook is logged and left out."""
        from .hooks import hooks_among
        from .observed import Observers

        self._hooks += hooks_among([hook])
        if self._observers is None:
            self._observers = Observers(self._hooks, None)

    def big_segment_store_status(self) -> BigSegmentStoreStatus:
        """How the store of big segments is doing now, for health checks; asks it, and never raises."""
        from .big_segments import BigSegments

        if self._offline:
            return BigSegments(None).status()
        return (self._big_segments or BigSegments.of(None, self._requester)).status()

    def secure_mode_hash(self, context: AnyContext) -> str:
        """The hash that lets a browser SDK in secure mode ask for this context; "" for an invalid context.

        Raises:
            ConfigurationError: The reader was made without ``sdk_key``.
        """
        from .bucketing import utf8

        if not self._sdk_key:
            raise ConfigurationError("secure_mode_hash needs the SDK key: FlagReader(..., sdk_key=...)")
        checked = as_context(context)
        if not checked.valid:
            return ""
        import hmac

        return hmac.new(utf8(self._sdk_key), utf8(checked.fully_qualified_key), "sha256").hexdigest()

    def is_offline(self) -> bool:
        """True when the reader was made offline."""
        return self._offline

    def flush(self) -> None:
        """Does nothing: events never wait. There for code that comes from the official SDK."""

    def close(self) -> None:
        """Closes the requester and stops the store of big segments; may be called twice."""
        self._requester.close()
        if self._big_segments is not None:
            store: object = self._big_segments.store
            if store is not self._requester:
                self._big_segments.stop()

    def _once(self, context: AnyContext) -> Request:
        """A request for a single evaluation."""
        request = self.request(context)
        return request if self._observers is None else self._observers.alone(request)

    def __enter__(self) -> FlagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
