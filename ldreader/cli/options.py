"""The table of commands and options, and the reading of their plain form, ``--name value``.

What this cannot read goes to argparse (`parser`), which is built from the same table.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Options: TypeAlias = dict[str, Any]
    """``command``, ``flag`` where the command takes one, and each option by its name; None or False when not given."""

OPTIONS = {
    "store": ("URL", "where the flags are; otherwise $LDREADER_STORE"),
    "context": ("JSON|KEY|@FILE", "whom to evaluate for: a context as JSON, a user's key, or a file of JSON"),
    "context-key": ("KEY", "a user's key, taken literally whatever it begins with"),
    "default": ("JSON", "printed when the flag gives no value; the exit code still tells why"),
    "detail": (None, "print the value with its index and reason"),
    "client-side-only": (None, "only flags that browsers may see"),
    "with-reasons": (None, "add the reason of each value"),
    "details-only-for-tracked-flags": (None, "leave out version and reason where no event needs them"),
}
"""By name: what stands for the value in the help (None: there is no value), and what the option does."""

COMMANDS: dict[str, tuple[str | None, tuple[str, ...], str, tuple[str, ...]]] = {
    "variation": (
        "flag",
        ("store", "context", "context-key", "default", "detail"),
        "print the value of one flag as JSON",
        (
            "ldreader variation new-checkout --store redis://localhost:6379 --context user-123",
            "ldreader variation new-checkout --store file:flags.json --default false --detail "
            '--context \'{"kind": "user", "key": "user-123", "country": "NZ"}\'',
        ),
    ),
    "all": (
        None,
        ("store", "context", "context-key", "client-side-only", "with-reasons", "details-only-for-tracked-flags"),
        "print the state of all flags as JSON",
        (
            "ldreader all --store redis://localhost:6379 --context user-123",
            "ldreader all --store file:flags.json --context @context.json --client-side-only",
        ),
    ),
}
"""By name: the positional argument, the options, what the command does, and examples."""


def read_plain(words: Sequence[str]) -> Options | None:
    """The options of a command line in the plain form, None when it is not in that form."""
    if not words or words[0] not in COMMANDS:
        return None
    positional, names, _, _ = COMMANDS[words[0]]
    options: Options = {name: None if OPTIONS[name][0] else False for name in names}
    options["command"] = words[0]
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("--") and word[2:] in names:
            value = next(rest, None) if OPTIONS[word[2:]][0] else True
            if value is None:
                return None
            options[word[2:]] = value
        elif positional and positional not in options and not word.startswith("-"):
            options[positional] = word
        else:
            return None
    return options if positional is None or positional in options else None
