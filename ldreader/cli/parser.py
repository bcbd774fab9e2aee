"""The full command line by argparse: ``--name=value``, ``--help``, ``--version``, and what is wrong with it."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from .options import COMMANDS, OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from .options import Options

_EXIT_CODES = (
    "exit codes: 0 answered; 2 wrong usage; 3 no such flag; 4 the store is unreachable or too slow; "
    "5 malformed data or context"
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())
        print(f"{self.prog}: {line}; see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(2)


def parse(words: Sequence[str]) -> Options:
    """The options of a command line.

    Raises:
        SystemExit: Help or version was asked for (0), or the command line is wrong (2).
    """
    parsed = vars(_parser().parse_args(_joined(words)))
    return {name if name == "flag" else name.replace("_", "-"): value for name, value in parsed.items()}


def _parser() -> _Parser:
    examples = [command[3][0] for command in COMMANDS.values()]
    parser = _Parser(
        prog="ldreader",
        description="Reads LaunchDarkly flags from the store where they are.",
        epilog=_epilog(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ldreader {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (positional, options, summary, examples_of_command) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=_epilog(examples_of_command),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if positional:
            command.add_argument(positional, metavar=positional.upper(), help=f"the {positional}'s key")
        for option in options:
            metavar, meaning = OPTIONS[option]
            if metavar:
                command.add_argument(f"--{option}", metavar=metavar, help=meaning, type=_unmarked)
            else:
                command.add_argument(f"--{option}", action="store_true", help=meaning)
    return parser


def _epilog(examples: Sequence[str]) -> str:
    lines = "\n".join(f"  {example}" for example in examples)
    return f"examples:\n{lines}\n\n{_EXIT_CODES}"


def _joined(words: Sequence[str]) -> list[str]:
    """The words with each option and its value in one, so that a value may begin with a dash.

    The value is marked with one more "=", because some releases of argparse drop a value that is "--".
    """
    joined: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*joined, word, *rest]
        option, equals, value = word.partition("=")
        if option.startswith("--") and OPTIONS.get(option[2:], (None, ""))[0]:
            given = value if equals else next(rest, None)
            joined.append(option if given is None else f"{option}=={given}")
        else:
            joined.append(word)
    return joined


def _unmarked(value: str) -> str:
    return value[1:]
