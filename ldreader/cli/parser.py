"""The full command line by argparse: ``--name=value``, ``--help``, ``--version``, and what is wrong with it."""

from __future__ import annotations

import argparse
import re

from .. import __version__
from . import USAGE, complain
from .options import COMMANDS, OPTIONS, POSITIONALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

    from .options import Options

_EXIT_CODES = (
    "exit codes: 0 answered, or true (test); 1 false (test); 2 wrong usage; 3 no such flag; "
    "4 the store is unreachable or too slow; 5 malformed data or context"
)
_OF_ARGPARSE = ("--help", "--version")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _wrong(self.prog, message)


def parse(words: Sequence[str]) -> Options:
    """The options of a command line.

    Raises:
        SystemExit: Help or version was asked for (0), or the command line is wrong (2).
    """
    command = words[0] if words else ""
    if command.startswith("--") and command not in _OF_ARGPARSE:
        given = command[2:].partition("=")[0]
        hint = "it stands after the command" if given in OPTIONS else nearest(command, _OF_ARGPARSE)
        _wrong("ldreader", f"no option {command!r} here; {hint}")
    if command and not command.startswith("-") and command not in COMMANDS:
        _wrong("ldreader", f"unknown command {command!r}; {nearest(command, COMMANDS)}")
    parsed = vars(_parser().parse_args(_joined(words)))
    return {name if name in POSITIONALS else name.replace("_", "-"): value for name, value in parsed.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is nearest to an unknown one, or at all of them."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1, 0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"


def _wrong(program: str, message: str) -> NoReturn:
    """Says in one line what is wrong with the command line, and ends."""
    # What stands in the wrong place may be a store's URL with a password, or a context.
    message = re.sub(r"\{.*\}", "{…}", re.sub(r"://\S*@", "://…@", message), flags=re.DOTALL)
    complain(f"{message}; see '{program} --help'", program)
    raise SystemExit(USAGE)


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
            metavar, meaning = POSITIONALS[positional]
            number = "+" if positional == "flags" else None
            command.add_argument(positional, metavar=metavar, help=meaning, nargs=number)
        for option in options:
            value, meaning = OPTIONS[option]
            if value:
                command.add_argument(f"--{option}", metavar=value, help=meaning, type=_unmarked)
            else:
                command.add_argument(f"--{option}", action="store_true", help=meaning)
    return parser


def _epilog(examples: Sequence[str]) -> str:
    lines = "\n".join(f"  {example}" for example in examples)
    return f"examples:\n{lines}\n\n{_EXIT_CODES}"


def _joined(words: Sequence[str]) -> list[str]:
    """The words with each option and its value in one, so that a value may begin with a dash, and options first.

    Positional arguments stand together, because argparse takes several only so. The value is marked with one more
    "=", because some releases of argparse drop a value that is "--".
    """
    command = words[0] if words else ""
    names = COMMANDS[command][1] if command in COMMANDS else ()
    joined: list[str] = []
    positionals: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        option, equals, value = word.partition("=")
        if word == "--":
            positionals += [word, *rest]
        elif option.startswith("--") and option[2:] in names:
            if OPTIONS[option[2:]][0]:
                given = value if equals else next(rest, None)
                joined.append(option if given is None else f"{option}=={given}")
            else:
                joined.append(word)
        elif option.startswith("--") and option not in _OF_ARGPARSE and " " not in option:
            _wrong(f"ldreader {command}", _unknown(option, names))
        else:
            (joined if word.startswith("-") and word != "-" else positionals).append(word)
    return [command, *joined, *positionals] if words else []


def _unknown(option: str, names: Sequence[str]) -> str:
    others = [command for command, (_, options, _, _) in COMMANDS.items() if option[2:] in options]
    if others:
        return f"no option {option!r} here; 'ldreader {others[0]}' has it"
    return f"no option {option!r} here; {nearest(option, [f'--{name}' for name in names])}"


def _unmarked(value: str) -> str:
    return value[1:]
