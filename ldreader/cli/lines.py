"""``--context -``: a context in each line of standard input, and for each an answer on a line of its own.

Each line is a request of its own, over connections that are kept and with read-ahead: one round trip, usually.
"""

from __future__ import annotations

import logging
import sys
import time

from ..context import Context
from ..errors import ConfigurationError, EvaluationError, InvalidContext, StoreError
from ..schema import dumps
from . import ANSWERED, complain, exit_code
from .evaluate import default_of, reader_of, state_of, without_context
from .several import details_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

    from ..detail import EvaluationDetail
    from ..reader import FlagReader
    from .options import Options

GIVE_UP = 5
"""Lines in a row without the store, after which it is asked no more."""

PAUSE = 1.0
"""Seconds before the store is asked again when it did not answer a line."""

SHOWN_AFTER = 1.0
"""Seconds without a sign of progress that nobody wonders about."""

SHOWN_EVERY = 0.25
"""Seconds between two signs of progress."""


def answer(options: Options) -> int:
    """Prints a line for each line of standard input; the largest exit code that one of them alone would have."""
    if options["command"] == "test":
        raise ConfigurationError("'test' takes one context; for many there is: ldreader variation FLAG --context -")
    if options["context-key"] is not None:
        raise ConfigurationError("give either --context JSON|KEY|@FILE|- or --context-key KEY")
    answers = _States(options) if options["command"] == "all" else _Variations(options)
    code = ANSWERED
    in_a_row = 0
    with reader_of(options, read_ahead=None) as reader, _Report() as report:
        for number, line in enumerate(_input(), 1):
            try:
                context = _context(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                if in_a_row:
                    time.sleep(PAUSE)
                text, errors = answers.of(reader, context)
                lacks_the_store = len(errors) == answers.asked and all(isinstance(each, StoreError) for each in errors)
                in_a_row = in_a_row + 1 if lacks_the_store else 0
            except InvalidContext as error:
                text, errors = answers.without_context, [error]
            report.line(number, errors)
            print(f"{text}\n", end="", flush=True)  # at once and whole: whoever asks line by line waits for it
            code = max([code, *map(exit_code, errors)])
            if in_a_row == GIVE_UP:
                report.say(f"stopped after line {number}: the store did not answer {GIVE_UP} lines in a row")
                break
    return code


class _Variations:
    """Answers with one flag's value, or with an object of several."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._flags: list[str] = options["flags"]
        self._default = default_of(options)
        self.asked = len(set(self._flags))
        """How many errors there are when nothing is answered."""
        self.without_context = self._text(dict.fromkeys(self._flags, without_context(self._default)))

    def of(self, reader: FlagReader, context: Context) -> tuple[str, list[EvaluationError]]:
        """The line for a context, and what was wrong with those that have no value."""
        details, errors = details_of(self._flags, context, self._default, reader)
        return self._text(details), errors

    def _text(self, details: dict[str, EvaluationDetail]) -> str:
        values: dict[str, Any] = {flag: shown(detail, self._options) for flag, detail in details.items()}
        return dumps(values if len(self._flags) > 1 else values[self._flags[0]])


class _States:
    """Answers with the state of all flags."""

    asked = 1
    without_context = "null"

    def __init__(self, options: Options) -> None:
        self._options = options

    def of(self, reader: FlagReader, context: Context) -> tuple[str, list[EvaluationError]]:
        """The line for a context, and why there is no state."""
        try:
            return state_of(reader, context, self._options), []
        except StoreError as error:
            return "null", [error]


class _Report(logging.Handler):
    """What stderr is told: what is wrong with a line, and, on a terminal of its own, how far it is.

    What is wrong with a flag or with the store is not said again while each line has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._notes: list[str] = []
        self._before: set[str] = set()
        self._lines = self._failed = 0
        self._all_is_said = True
        self._begin = self._shown_at = time.monotonic()
        self._width = 0  # of what stands in the terminal's line
        # A terminal that shows the answers is not to be written over, and somebody who types knows how far it is.
        self._shows = _is_terminal(sys.stderr) and not _is_terminal(sys.stdout) and not _is_terminal(sys.stdin)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps what is logged until it can be said which line it is about."""
        self._notes.append(record.getMessage())

    def line(self, number: int, errors: list[EvaluationError]) -> None:
        """Takes note of a line that is done."""
        texts = dict.fromkeys([*self._notes, *map(str, errors)])
        self._notes.clear()
        is_of_the_line = any(isinstance(error, InvalidContext) for error in errors)
        for text in texts:
            if is_of_the_line or text not in self._before:
                self.say(f"line {number}: {text}")
            else:
                self._all_is_said = False
        if not is_of_the_line:
            self._before = set(texts)
        self._lines = number
        self._failed += bool(errors)
        if self._shows and time.monotonic() - self._shown_at >= (SHOWN_EVERY if self._width else SHOWN_AFTER):
            self._show()

    def say(self, text: str) -> None:
        """Says it on a line of its own."""
        self._clear()
        complain(text)

    def __enter__(self) -> _Report:
        logging.getLogger("ldreader").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("ldreader").removeHandler(self)
        self._clear()
        if self._failed and not self._all_is_said:
            complain(f"{self._failed} of {self._lines} lines have no answer, or not all of it")

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        speed = self._lines / (self._shown_at - self._begin)
        text = f"{self._lines} lines, {speed:.0f}/s, {self._failed} with errors"
        sys.stderr.write(f"\r{text.ljust(self._width)}")
        sys.stderr.flush()
        self._width = len(text)

    def _clear(self) -> None:
        if self._width:
            sys.stderr.write(f"\r{' ' * self._width}\r")
            sys.stderr.flush()
            self._width = 0


def _input() -> Iterator[bytes]:
    """The lines of standard input, without their ends, as they come.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        if sys.stdin is None:
            raise OSError(None, "it is closed")
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise ConfigurationError(f"cannot read contexts from standard input: {error.strerror}") from error


def _context(line: bytes) -> Context:
    """The context of a line: JSON when it begins with "{", else a user's key.

    Raises:
        InvalidContext: It is none.
    """
    try:
        is_json = line.lstrip().startswith(b"{")
        context = Context.from_json(line) if is_json else Context.create(line.decode())
    except UnicodeDecodeError as error:
        raise InvalidContext("the context is not in UTF-8") from error
    if not context.valid:
        raise InvalidContext(str(context.error).replace("see line 1, column", "see column"))
    return context


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()
