"""``completion``: a script that completes command lines in a shell, made from the table; it never asks a store."""

from __future__ import annotations

from ..errors import ConfigurationError
from . import ANSWERED
from .options import COMMANDS, OPTIONS, POSITIONALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Options

STORES = (
    *("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://", "redis+cluster://"),
    *("rediss+cluster://", "dynamodb://", "consul://", "consul+https://", "file:"),
)
"""How the URL of a store may begin."""

_WORDS = {"shell": ("bash", "zsh", "fish")}
"""What a positional argument may be, where that is known."""

_HELP = "show what there is, with examples"

_BASH = r"""# Completes the command lines of ldreader in bash. To load it: eval "$(ldreader completion bash)"
_ldreader() {
    # The words of bash itself end at ":", "=" and "@", which are parts of ours.
    local line=${COMP_LINE:0:COMP_POINT} words candidates mark before='' cut=''
    read -r -a words <<<"$line."
    local last=$((${#words[@]} - 1))
    local word=${words[last]%.} option=${words[last - 1]}
    local value=$word
    if [[ $word == --*=* ]]; then
        option=${word%%=*} value=${word#*=} before=$option=
    fi
    if ((last == 1)); then
        candidates='<commands> --help --version'
    else
        case ${words[1]} in
<candidates>
        esac
    fi
    COMPREPLY=()
    case $option,$value in
<values>
        *) COMPREPLY=($(compgen -W "$candidates" -- "$word")) ;;
    esac
    # Bash replaces only what stands behind the last of them, and an "@" itself.
    for mark in : = @; do
        if [[ $COMP_WORDBREAKS == *"$mark"* && $word == *"$mark"* ]]; then
            before=${word%"$mark"*}${mark#@}
            ((${#before} > ${#cut})) && cut=$before
        fi
    done
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
_ldreader_files() {
    local path typed rest folders=$'\n'$(compgen -d -- "$2")$'\n'
    while IFS= read -r path; do
        # What was typed stays as it is: bash is to expand the "$" in it.
        typed=$2
        [[ $path == "$2"* ]] || typed=
        rest=${path#"$typed"}
        [[ -z $rest ]] || printf -v rest %q "$rest"
        if [[ $folders == *$'\n'"$path"$'\n'* ]]; then
            rest=$rest/
            compopt -o nospace 2>/dev/null
        fi
        COMPREPLY+=("$1$typed$rest")
    done < <(compgen -f -- "$2")
}
_ldreader_stores() {
    compopt -o nospace 2>/dev/null
    COMPREPLY=($(compgen -P "$1" -W '<stores>' -- "$2"))
}
complete -F _ldreader ldreader
"""

_ZSH = r"""#compdef ldreader
# Completes the command lines of ldreader in zsh. To load it, save it as _ldreader in a directory of $fpath, or:
# eval "$(ldreader completion zsh)"
_ldreader() {
    local context curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C '(- *)'{-h,--help}'[<help>]' '(- *)--version[show the version]' \
        '1: :->command' '*:: :->argument' && return
    case $state in
        command)
            local -a commands=(
<commands>
            )
            _describe -t commands command commands ;;
        argument)
            case $words[1] in
<arguments>
            esac ;;
    esac
}
_ldreader_stores() {
    if compset -P file:; then
        _files
    else
        local -a stores=(<stores>)
        compadd -S '' -a stores
    fi
}
_ldreader_contexts() {
    compset -P @ && _files
}
if [[ $funcstack[1] == _ldreader ]]; then
    _ldreader "$@"
else
    compdef _ldreader ldreader
fi
"""

_FISH = r"""# Completes the command lines of ldreader in fish. To load it: ldreader completion fish | source
function __ldreader_command
    set -l words (commandline -opc)
    test "$words[2]" = "$argv[1]"
end
function __ldreader_files
    set -l token (string replace -r '^--[^=]*=' '' -- (commandline -ct))
    string match -q -- "$argv[1]*" $token
    and __fish_complete_path (string replace -- $argv[1] '' $token) | string replace -r '^' $argv[1]
end
function __ldreader_stores
    __ldreader_files file:
    or printf '%s\n' <stores>
end
complete -c ldreader -f
complete -c ldreader -s h -l help -d '<help>'
complete -c ldreader -n '__ldreader_command ""' -l version -d 'show the version'
<commands>
"""


def script(options: Options) -> int:
    """Prints the script for a shell."""
    shell = options["shell"]
    if shell not in _SCRIPTS:
        from .parser import nearest

        raise ConfigurationError(f"there is no completion for the shell {shell!r}; {nearest(shell, _SCRIPTS)}")
    print(_SCRIPTS[shell](), end="")
    return ANSWERED


def _bash() -> str:
    candidates = []
    for name, (positional, options, _, _) in COMMANDS.items():
        words = " ".join([*_WORDS.get(positional or "", ()), *(f"--{option}" for option in options), "--help"])
        candidates.append(f"            {name}) candidates='{words}' ;;")
    values = []
    for option, (value, _) in OPTIONS.items():
        if value == "URL":
            values.append(f"""        --{option},file:*) _ldreader_files "${{before}}file:" "${{value#file:}}" ;;""")
            values.append(f"""        --{option},*) _ldreader_stores "$before" "$value" ;;""")
        elif value:
            if "@FILE" in value:
                values.append(f"""        --{option},@*) _ldreader_files "$before@" "${{value#@}}" ;;""")
            values.append(f"        --{option},*) ;;")
    return _filled(_BASH, commands=" ".join(COMMANDS), candidates="\n".join(candidates), values="\n".join(values))


def _zsh() -> str:
    commands = [f"                {_quoted(f'{name}:{command[2]}')}" for name, command in COMMANDS.items()]
    arguments = []
    for name, (positional, options, _, _) in COMMANDS.items():
        specifications = []
        for option in options:
            value, meaning = OPTIONS[option]
            action = "_ldreader_stores" if value == "URL" else "_ldreader_contexts" if "@FILE" in (value or "") else " "
            parameter = f":{value}:{action}" if value else ""
            specifications.append(f"--{option}{'=' if value else ''}[{meaning}]{parameter}")
        if positional:
            number = "*" if positional == "flags" else "1"
            # Nothing, rather than a message: zsh would not insert an option that it completes beside one.
            words = " ".join(_WORDS.get(positional, ()))
            specifications.append(f"{number}:{POSITIONALS[positional][0]}:({words})")
        lines = [f"{name}) _arguments '(- *)'{{-h,--help}}{_quoted(f'[{_HELP}]')}", *map(_quoted, specifications)]
        arguments.append(" " * 16 + " \\\n                    ".join(lines) + " ;;")
    return _filled(_ZSH, commands="\n".join(commands), arguments="\n".join(arguments))


def _fish() -> str:
    lines = []
    for name, (positional, options, summary, _) in COMMANDS.items():
        lines.append(f"""complete -c ldreader -n '__ldreader_command ""' -a {name} -d {_quoted(summary)}""")
        here = f"complete -c ldreader -n '__ldreader_command {name}'"
        if positional in _WORDS:
            lines.append(f"{here} -a '{' '.join(_WORDS[positional])}'")
        for option in options:
            value, meaning = OPTIONS[option]
            candidates = ""
            if value == "URL":
                candidates = " -a '(__ldreader_stores)'"
            elif value and "@FILE" in value:
                candidates = " -a '(__ldreader_files @)'"
            required = " -x" if value else ""
            lines.append(f"{here} -l {option}{required}{candidates} -d {_quoted(meaning)}")
    return _filled(_FISH, commands="\n".join(lines))


def _filled(template: str, **parts: str) -> str:
    """The template with each <name> replaced."""
    for name, text in {**parts, "stores": " ".join(STORES), "help": _HELP}.items():
        template = template.replace(f"<{name}>", text)
    return template


def _quoted(text: str) -> str:
    """The text as one word for zsh or fish."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
