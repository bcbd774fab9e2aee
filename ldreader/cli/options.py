"""The table of commands and options, and the reading of their plain form, ``--name value``.

What this cannot read goes to argparse (`parser`), which is built from the same table.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Options: TypeAlias = dict[str, Any]
    """``command``, its positional (``flags``: a list), and each option by its name; None or False when not given."""

OPTIONS = {
    "store": ("URL", "where the flags are; otherwise $LDREADER_STORE"),
    "context": (
        "JSON|KEY|@FILE|-",
        "whom to evaluate for: a context as JSON, a user's key, a file of JSON, or - for one in each line of standard "
        "input",
    ),
    "context-key": ("KEY", "a user's key, taken literally whatever it begins with"),
    "default": ("JSON", "printed when a flag gives no value; the exit code still tells why"),
    "detail": (None, "print each value with its index and reason"),
    "client-side-only": (None, "only flags that browsers may see"),
    "with-reasons": (None, "add the reason of each value"),
    "details-only-for-tracked-flags": (None, "leave out version and reason where no event needs them"),
}
"""By name: what stands for the value in the help (None: there is no value), and what the option does."""

POSITIONALS = {
    "flags": ("FLAG", "a flag's key; there may be several"),
    "shell": ("SHELL", "bash, zsh or fish"),
}
"""By name: what stands for it in the help, and what it is. Of ``flags`` there are one or more, in a list."""

COMMANDS: dict[str, tuple[str | None, tuple[str, ...], str, tuple[str, ...]]] = {
    "variation": (
        "flags",
        ("store", "context", "context-key", "default", "detail"),
        "print the value of one flag as JSON, or of several as a JSON object",
        (
            "ldreader variation new-checkout --store redis://localhost:6379 --context user-123",
            "ldreader variation new-checkout --store file:flags.json --default false --detail "
            '--context \'{"kind": "user", "key": "user-123", "country": "NZ"}\'',
            "ldreader variation new-checkout banner-text --store file:flags.json --context @context.json",
            "ldreader variation new-checkout --store file:flags.json --context - < contexts.jsonl",
        ),
    ),
    "test": (
        "flags",
        ("store", "context", "context-key"),
        "exit with 0 when the flag, or each of several, is true, else with 1; print nothing",
        (
            "ldreader test new-checkout --store redis://localhost:6379 --context user-123 && ./deploy",
            "ldreader test new-checkout gift-cards --store file:flags.json --context @context.json",
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
    "completion": (
        "shell",
        (),
        "print a script that completes command lines in a shell",
        (
            "ldreader completion bash > ~/.local/share/bash-completion/completions/ldreader",
            "ldreader completion zsh > ~/.zfunc/_ldreader",
            "ldreader completion fish > ~/.config/fish/completions/ldreader.fish",
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
    given = []
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("--") and word[2:] in names:
            value = next(rest, None) if OPTIONS[word[2:]][0] else True
            if value is None:
                return None
            options[word[2:]] = value
        elif positional and not word.startswith("-"):
            given.append(word)
        else:
            return None
    if positional:
        if not given or (len(given) > 1 and positional != "flags"):
            return None
        options[positional] = given if positional == "flags" else given[0]
    return options
