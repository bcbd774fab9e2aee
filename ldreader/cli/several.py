"""Several flags for one context, fetched together: ``variation A B`` and ``test``."""

from __future__ import annotations

from ..errors import EvaluationError, InvalidContext, WrongType
from ..schema import dumps
from . import ANSWERED, FALSE, complain, exit_code
from .evaluate import context_of, default_of, reader_of, without_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..context import Context
    from ..detail import EvaluationDetail
    from ..reader import FlagReader
    from .options import Options


def variations(options: Options) -> int:
    """Prints an object of flags and their values, always a whole one; the default, else null, where there is none."""
    default = default_of(options)
    with reader_of(options) as reader:
        try:
            details, errors = details_of(options["flags"], context_of(options), default, reader)
        except InvalidContext as error:
            details, errors = dict.fromkeys(options["flags"], without_context(default)), [error]
    print(dumps({flag: shown(detail, options) for flag, detail in details.items()}))
    return _worst(errors)


def test(options: Options) -> int:
    """Prints nothing; the exit code tells whether all flags are true."""
    code = ANSWERED
    errors: list[EvaluationError] = []
    with reader_of(options) as reader:
        request = reader.request(context_of(options))
        request.prefetch(*options["flags"])
        for flag in dict.fromkeys(options["flags"]):
            try:
                if not request.bool_variation(flag, False):
                    code = FALSE
            except WrongType as error:
                errors.append(WrongType(f"flag {flag!r} cannot be tested: {error}"))
            except EvaluationError as error:
                errors.append(error)
    return max(code, _worst(errors))


def details_of(
    flags: Iterable[str], context: Context, default: Any, reader: FlagReader
) -> tuple[dict[str, EvaluationDetail], list[EvaluationError]]:
    """The detail of each flag, the default's where it gives no value, and what was wrong with those."""
    request = reader.request(context)
    request.prefetch(*flags)
    details: dict[str, EvaluationDetail] = {}
    errors: list[EvaluationError] = []
    for flag in flags:
        if flag in details:
            continue
        try:
            details[flag] = request.variation_detail(flag, default)
        except EvaluationError as error:
            details[flag] = error.detail or without_context(default)
            errors.append(error)
    return details, errors


def shown(detail: EvaluationDetail, options: Options) -> Any:
    """What is printed of a detail: the value, or all of it."""
    return detail.to_json_dict() if options["detail"] else detail.value


def _worst(errors: Iterable[EvaluationError]) -> int:
    """Says each thing that is wrong, once; the largest of their exit codes."""
    # A store that fails is wrong with every flag alike.
    for text in dict.fromkeys(str(error) for error in errors):
        complain(text)
    return max(map(exit_code, errors), default=ANSWERED)
