"""Flags for AWS Lambda handlers: one request for each invocation, within the time that the invocation has left.

    reader = FlagReader.from_url(os.environ["LDREADER_STORE"])  # once for each execution environment

    @with_flags(reader, context=lambda event: event["user"])
    def handler(event, lambda_context, flags):
        return {"checkout": "new" if flags.variation("new-checkout", False) else "old"}

Importing this imports nothing that an evaluation does not: a cold start pays for it.
"""

from __future__ import annotations

import os

from ..context import no_context
from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..reader import AnyContext, FlagReader
    from ..request import Request

    Answer = TypeVar("Answer")

MARGIN = 0.25
"""Seconds of an invocation that are the handler's, for its answer, when a store does not give one."""

_LASTING = 0x20 | 0x80 | 0x200
"""The marks of generators and of ``async def``, whose bodies run after the call (``inspect.CO_GENERATOR``, …)."""


def with_flags(
    reader: FlagReader, context: Callable[[Any], AnyContext], *, margin: float = MARGIN
) -> Callable[[Callable[[Any, Any, Request], Answer]], Callable[..., Answer]]:
    """A decorator: the handler gets the flags for its event as a third argument, a `Request` that ends with the call.

    The result is a handler as Lambda calls it, ``handler(event, lambda_context)``; its ``__wrapped__`` is the
    function that was decorated. ``context`` makes of an event whom the flags are for, as for `FlagReader.request`. If
    it raises, the invocation goes on with the defaults, whose reason is ``USER_NOT_SPECIFIED``, and one line is logged.

    The store is not waited for longer than the invocation lasts, less ``margin`` seconds, or less half of what is left
    where that is shorter: then flags have their defaults, and the handler has that time to answer. Without a Lambda
    context, as in tests, only the reader's own timeouts count. Connections are kept from one invocation to the next,
    and dropped before a snapshot of SnapStart is taken.

    Raises:
        ConfigurationError: The margin is no number of seconds; the function that makes the context, or the handler, is
            none, or is a generator or asynchronous.
    """
    if not isinstance(margin, (int, float)) or not 0 <= margin < 900:
        raise ConfigurationError(f"margin must be a number of seconds, not {margin!r}")

    if not _is_plain(context):
        raise ConfigurationError(f"context must be a function of the event, and not async, but this is {context!r}")

    def decorate(handler: Callable[[Any, Any, Request], Answer]) -> Callable[..., Answer]:
        if not _is_plain(handler):
            raise ConfigurationError(
                "with_flags is for plain functions: one that goes on after it was called, a generator or async def, "
                "uses reader.request(context) within itself"
            )

        def with_request(event: Any, lambda_context: Any = None) -> Answer:
            timeout = _seconds(lambda_context, margin)
            bound = reader._timeout
            if timeout is None or (bound is not None and bound < timeout):
                timeout = bound
            with reader.request(_context_of(event, context), timeout=timeout) as flags:
                return handler(event, lambda_context, flags)

        # By hand, because importing functools costs more than this.
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            if hasattr(handler, name):
                setattr(with_request, name, getattr(handler, name))
        with_request.__wrapped__ = handler  # type: ignore[attr-defined]
        _let_go_before_snapshot(reader)
        return with_request

    return decorate


def _is_plain(function: Any) -> bool:
    """Whether it can be called, and is done when the call is."""
    while type(function).__name__ == "partial":  # by its name, because importing functools costs more than this
        function = function.func
    called = function if hasattr(function, "__code__") else type(function).__call__
    return callable(function) and not getattr(getattr(called, "__code__", None), "co_flags", 0) & _LASTING


def _seconds(lambda_context: Any, margin: float) -> float | None:
    """How long the store may be waited for in this invocation; None when that is not known."""
    try:
        left = lambda_context.get_remaining_time_in_millis() / 1000
    except Exception:  # none, or somebody's stand-in for tests
        return None
    return max(left - margin, left / 2, 0.0) if isinstance(left, float) else None


def _context_of(event: Any, context: Callable[[Any], AnyContext]) -> AnyContext:
    try:
        return context(event)
    except Exception as error:  # it is the application's, and so is the event
        from ..log import unexpected

        return no_context(f"the function that makes it of the event failed: {unexpected(error)}")


def _let_go_before_snapshot(reader: FlagReader) -> None:
    """Has connections and borrowed credentials dropped before Lambda takes a snapshot, which many environments share.

    There is nothing to do afterwards: the next question opens another connection.
    """
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    try:
        from snapshot_restore_py import register_before_snapshot
    except ImportError:  # a runtime of the application's own
        return
    register_before_snapshot(_let_go, reader)


def _let_go(reader: FlagReader) -> None:
    stores: tuple[Any, ...] = (reader._requester, getattr(reader._big_segments, "store", None))
    for store in stores:
        if getattr(store, "reconnects", False):  # closing somebody else's may be for good
            try:
                store.close()
            except Exception as error:  # anyone can write a store, and the function is to be published
                from .. import log

                log.error(f"a store was not closed before the snapshot: {log.unexpected(error)}")
