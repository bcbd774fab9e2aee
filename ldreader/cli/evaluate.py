"""One evaluation: ``variation`` of one flag, and ``all``; and what every evaluation reads from its options."""

from __future__ import annotations

import os

from .. import detail as reasons
from ..context import Context
from ..detail import EvaluationDetail
from ..errors import ConfigurationError, EvaluationError, InvalidContext
from ..reader import FlagReader
from ..schema import dumps, loads
from . import ANSWERED, complain, exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .options import Options


def variation(options: Options) -> int:
    """Prints the value of one flag; with a default, also when the flag gives none."""
    default = default_of(options)
    code = ANSWERED
    with reader_of(options) as reader:
        try:
            detail = reader.variation_detail(options["flags"][0], context_of(options), default)
        except EvaluationError as error:
            if options["default"] is None and not options["detail"]:
                raise
            complain(error)
            detail = error.detail or without_context(default)
            code = exit_code(error)
    print(dumps(detail.to_json_dict() if options["detail"] else detail.value))
    return code


def all_flags(options: Options) -> int:
    """Prints the state of all flags."""
    with reader_of(options) as reader:
        print(state_of(reader, context_of(options), options))
    return ANSWERED


def state_of(reader: FlagReader, context: Context, options: Options) -> str:
    """The state of all flags as JSON text."""
    state = reader.all_flags_state(
        context,
        client_side_only=options["client-side-only"],
        with_reasons=options["with-reasons"],
        details_only_for_tracked_flags=options["details-only-for-tracked-flags"],
    )
    return state.to_json_string()


def reader_of(options: Options, *, read_ahead: bool | None = False) -> FlagReader:
    """The strict reader of the store that is named; by default it learns nothing, since the process soon ends.

    Raises:
        ConfigurationError: No store is named, or not in a way that can be used.
    """
    reader: FlagReader | None = options.get("reader")
    if reader is not None and not options["store"]:
        return reader
    url = options["store"] or os.environ.get("LDREADER_STORE")
    if not url:
        raise ConfigurationError("no store is named: give --store URL, or set LDREADER_STORE")
    return FlagReader.from_url(url, strict=True, read_ahead=read_ahead)


def context_of(options: Options) -> Context:
    """The context to evaluate for.

    Raises:
        ConfigurationError: None is named, or two are.
        InvalidContext: It cannot be read.
    """
    text = options["context"]
    key = options["context-key"]
    if (text is None) == (key is None):
        raise ConfigurationError("give either --context JSON|KEY|@FILE|- or --context-key KEY")
    if key is not None:
        return Context.create(key)
    source = "--context"
    if text.startswith("@"):
        source = text[1:]
        text = _content(source)
    elif not text.lstrip().startswith("{"):
        return Context.create(text)
    context = Context.from_json(text)
    if not context.valid:
        raise InvalidContext(f"{source} holds no valid context: {context.error}")
    return context


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise InvalidContext(
            f"cannot read the context from {path}: {getattr(error, 'strerror', None) or error}"
        ) from error


def default_of(options: Options) -> Any:
    """The default's value; None when none is given.

    Raises:
        ConfigurationError: It is no JSON.
    """
    if options["default"] is None:
        return None
    try:
        return loads(options["default"])
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"--default must be JSON, such as false, 3 or '\"text\"' (a string keeps its quotes): {error}"
        ) from error


def without_context(default: Any) -> EvaluationDetail:
    """What a flag gives for a context that cannot be read."""
    return EvaluationDetail(default, None, reasons.error(reasons.USER_NOT_SPECIFIED))
