"""The command ``ldreader``: only the result goes to stdout, everything else to stderr.

Exit codes: 0 answered, 1 false (``test``), 2 usage, 3 flag not found, 4 store unreachable or timed out, 5 malformed
data or context. Where several are met, the largest.
"""

from __future__ import annotations

import os
import sys

from ..errors import ConfigurationError, FlagNotFound, LdreaderError, StoreError
from .options import read_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import FlagReader
    from .options import Options

ANSWERED = 0
FALSE = 1
USAGE = 2
NOT_FOUND = 3
UNREACHABLE = 4
MALFORMED = 5


def main(argv: Sequence[str] | None = None, *, reader: FlagReader | None = None) -> int:
    """Runs one command and returns its exit code; ``argv`` is what follows the program's name.

    ``reader``, a strict one, takes the place of the store that the environment names; ``--store`` wins over it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # The plain form is read directly: argparse alone costs as much as a whole evaluation.
    options = read_plain(words)
    if options is None:
        from .parser import parse

        options = parse(words)
    options["reader"] = reader
    try:
        return _run(options)
    except LdreaderError as error:
        complain(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left; nothing more can be said to it, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        sys.stdout = None  # else the interpreter tries once more to write, and fails, at exit
        complain(f"cannot write the result: {error.strerror}")
        return USAGE


def complain(error: object, program: str = "ldreader") -> None:
    """Says what is wrong, in one line on stderr; where nobody can be told, the exit code still tells."""
    if sys.stderr is None:  # ``print`` would take stdout in its place
        return
    try:
        print(f"{program}:", " ".join(str(error).splitlines()), file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None  # else the interpreter tries once more at exit, and ends with a code of its own


def exit_code(error: LdreaderError) -> int:
    """The exit code that tells a script what went wrong."""
    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, FlagNotFound):
        return NOT_FOUND
    if isinstance(error, StoreError):
        return UNREACHABLE
    return MALFORMED


def _run(options: Options) -> int:
    command = options["command"]
    if command == "completion":
        from . import completion

        code = completion.script(options)
    elif options["context"] == "-":
        from . import lines

        code = lines.answer(options)
    elif command == "all":
        from . import evaluate

        code = evaluate.all_flags(options)
    elif command == "test":
        from . import several

        code = several.test(options)
    elif len(options["flags"]) > 1:
        from . import several

        code = several.variations(options)
    else:
        from . import evaluate

        code = evaluate.variation(options)
    if sys.stdout is not None:
        sys.stdout.flush()
    elif command != "test":
        raise OSError(None, "standard output is closed")
    return code
