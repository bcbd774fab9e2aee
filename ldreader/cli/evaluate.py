"""The commands that evaluate: ``variation`` and ``all``."""

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
    default = _default(options["default"])
    code = ANSWERED
    with _reader(options) as reader:
        try:
            detail = reader.variation_detail(options["flag"], _context(options), default)
        except EvaluationError as error:
            if options["default"] is None and not options["detail"]:
                raise
            complain(error)
            # A context that cannot be read fails before the flag is looked at.
            detail = error.detail or EvaluationDetail(default, None, reasons.error(reasons.USER_NOT_SPECIFIED))
            code = exit_code(error)
    print(dumps(detail.to_json_dict() if options["detail"] else detail.value))
    return code


def all_flags(options: Options) -> int:
    """Prints the state of all flags."""
    with _reader(options) as reader:
        state = reader.all_flags_state(
            _context(options),
            client_side_only=options["client-side-only"],
            with_reasons=options["with-reasons"],
            details_only_for_tracked_flags=options["details-only-for-tracked-flags"],
        )
    print(state.to_json_string())
    return ANSWERED


def _reader(options: Options) -> FlagReader:
    reader: FlagReader | None = options.get("reader")
    if reader is not None and not options["store"]:
        return reader
    url = options["store"] or os.environ.get("LDREADER_STORE")
    if not url:
        raise ConfigurationError("no store is named: give --store URL, or set LDREADER_STORE")
    # Nothing that is learned would be used: the process ends.
    return FlagReader.from_url(url, strict=True, read_ahead=False)


def _context(options: Options) -> Context:
    text = options["context"]
    key = options["context-key"]
    if (text is None) == (key is None):
        raise ConfigurationError("give either --context JSON|KEY|@FILE or --context-key KEY")
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


def _default(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"--default must be JSON, such as false, 3 or '\"text\"' (a string keeps its quotes): {error}"
        ) from error
