"""Completion: the scripts for bash, zsh and fish, tried in these shells as a user types."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ldreader.cli import main
from ldreader.cli.completion import STORES
from ldreader.cli.options import COMMANDS, OPTIONS
from ldreader.requesters import _SCHEMES
from tests.servers import PATIENCE, lacking

PROJECT = Path(__file__).parent.parent
SHELLS = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "--private", "-i"],
}
"""By name: the options for a user at a terminal whose home is empty."""

# In place of the command: it shows the words that it was given.
COMMAND = {
    "bash": "PS1='$ '; ldreader() { printf '<%s>' \"$@\"; echo ' end'; }",
    "zsh": "PS1='$ '; ldreader() { printf '<%s>' \"$@\"; echo ' end'; }; autoload -Uz compinit; compinit -u -D",
    "fish": "function ldreader; printf '<%s>' $argv; echo ' end'; end",
}


AT_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal on standard input the shell's own, and becomes the shell."""


def script(shell: str) -> str:
    """What the command prints for a shell."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["completion", shell]) == 0
    return printed.getvalue()


class Shell:
    """A shell at a terminal, with completion loaded, in a directory with some files."""

    def __init__(self, name: str, directory: Path) -> None:
        program = shutil.which(name)
        if program is None:
            lacking(f"{name} is not installed: apt-get install {name}", "LDREADER_REQUIRE_SERVERS")
        self.name = name
        self.directory = directory / "place"
        (self.directory / "folder").mkdir(parents=True)
        for file in ("flags.json", "context.json", "with blank.json", "folder/inner.json", "at@home.json"):
            (self.directory / file).touch()
        start = directory / "start"
        start.write_text(f"{COMMAND[name]}\n{script(name)}", encoding="utf-8")
        # A terminal of few abilities, so that what comes from it is what was written.
        variables = {"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "dumb", "LANG": "C.UTF-8"}
        self._terminal, end = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", AT_A_TERMINAL, program, *SHELLS[name]],
            cwd=self.directory,
            env=variables,
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self.type(f"source {start}; echo rea''dy\r", "ready\r\n")

    def type(self, keys: str, *until: str) -> str:
        """What the terminal shows from the time that the keys are pressed until it has shown all of these."""
        os.write(self._terminal, keys.encode())
        shown = ""
        deadline = time.monotonic() + PATIENCE
        while not all(each in shown for each in until):
            wait = deadline - time.monotonic()
            assert wait > 0, f"{keys!r} shows {shown!r}"
            if select.select([self._terminal], [], [], wait)[0]:
                shown += os.read(self._terminal, 65536).decode(errors="replace")
        return shown

    def words(self, keys: str) -> list[str]:
        """The words that the command gets when the line is sent off; an option and its value are two."""
        shown = self.type(f"ldreader {keys}\r", "> end\r\n")
        given = re.findall(r"^(<.*>) end\r$", shown, re.MULTILINE)
        assert len(given) == 1, shown  # completing does not run the command
        return re.split("><|=", given[0][1:-1])

    def offers(self, line: str, *expected: str) -> None:
        """Returns when it has shown all of these for a line that could go on in several ways."""
        if self.name == "fish":  # which shows them in a way that takes another terminal
            self.type(f"complete -C 'ldreader {line}'\r", *expected)
        else:
            self.type(f"ldreader {line}\t\t", *expected)
            os.write(self._terminal, b"\x15")  # the key that deletes the line
        assert self.words("all") == ["all"]

    def close(self) -> None:
        """Ends it."""
        os.close(self._terminal)
        self._process.wait(PATIENCE)


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    started = Shell(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    started.close()


class TestKeys:
    """What a user gets who presses the Tab key."""

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ("vari\t", "variation"),
            ("variation flag --sto\tfile:fl\t", "variation flag --store file:flags.json"),
            ("variation flag --store=file:fl\t", "variation flag --store file:flags.json"),
            ("test flag --store redis:\tx", "test flag --store redis://x"),
            ("all --store file:fol\tinn\t", "all --store file:folder/inner.json"),
            ("variation --context @con\tflag", "variation --context @context.json flag"),
            ("variation --context=@con\tflag", "variation --context @context.json flag"),
            ("variation --context @fol\tinn\t", "variation --context @folder/inner.json"),
            ("variation --context @at@\t", "variation --context @at@home.json"),
            ("variation --context @wi\t", "variation --context @with*blank.json"),
            ("all --store file:wi\t--deta\t", "all --store file:with*blank.json --details-only-for-tracked-flags"),
            ("variation one two --det\t", "variation one two --detail"),
            ("all --det\t --client\t", "all --details-only-for-tracked-flags --client-side-only"),
            ("completion z\t", "completion zsh"),
            ("test --he\t", "test --help"),
            ("--vers\t", "--version"),
        ],
    )
    def test_what_is_begun_is_completed(self, shell: Shell, keys: str, words: str) -> None:
        assert shell.words(keys) == [word.replace("*", " ") for word in words.split()]

    def test_a_variable_that_is_typed_is_still_one(self, shell: Shell) -> None:
        path = "flags.json" if shell.name != "fish" else "fl"  # which completes nothing behind one
        assert shell.words("all --store file:$PWD/fl\t")[2] == f"file:{shell.directory}/{path}"

    @pytest.mark.parametrize(
        "line",
        [
            "variation fl",
            "variation flag --context con",
            "variation flag --context-key @con",
            "variation flag --default fl",
            "test flag --deta",
            "completion bash --sto",
        ],
    )
    def test_where_nothing_is_known_nothing_is_added(self, shell: Shell, line: str) -> None:
        assert shell.words(f"{line}\t") == line.split()

    def test_the_commands_are_offered(self, shell: Shell) -> None:
        shell.offers("", *COMMANDS)

    @pytest.mark.parametrize("command", [name for name, (_, options, _, _) in COMMANDS.items() if options])
    def test_the_options_of_each_command_are_offered(self, shell: Shell, command: str) -> None:
        shell.offers(f"{command} --", *(f"--{option}" for option in COMMANDS[command][1]))

    def test_the_stores_are_offered(self, shell: Shell) -> None:
        shell.offers("all --store ", *STORES)


class TestScripts:
    def test_every_store_there_is_can_be_completed(self) -> None:
        assert {store.partition(":")[0] for store in STORES} == set(_SCHEMES)

    @pytest.mark.parametrize("name", SHELLS)
    def test_every_option_is_in_the_script(self, name: str) -> None:
        text = script(name)
        assert [option for option in OPTIONS if option not in text] == []

    @pytest.mark.parametrize("name", SHELLS)
    def test_a_process_prints_it_alone(self, name: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "ldreader", "completion", name]
        variables = {**os.environ, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, script(name), "")

    def test_bash_is_told_by_one_line(self) -> None:
        line = 'source /dev/stdin <<<"$SCRIPT"; complete -p ldreader'
        done = subprocess.run(
            ["bash", "--norc", "-c", line], env={**os.environ, "SCRIPT": script("bash")}, capture_output=True, text=True
        )
        assert (done.stdout, done.stderr) == ("complete -F _ldreader ldreader\n", "")

    def test_zsh_finds_the_script_in_its_path(self, tmp_path: Path) -> None:
        if shutil.which("zsh") is None:
            lacking("zsh is not installed: apt-get install zsh", "LDREADER_REQUIRE_SERVERS")
        (tmp_path / "_ldreader").write_text(script("zsh"), encoding="utf-8")
        line = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; echo $_comps[ldreader]"
        done = subprocess.run(["zsh", "-f", "-c", line], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("_ldreader\n", "")

    def test_fish_describes_what_it_offers(self) -> None:
        if shutil.which("fish") is None:
            lacking("fish is not installed: apt-get install fish", "LDREADER_REQUIRE_SERVERS")
        line = "source (echo $SCRIPT | psub); complete -C 'ldreader te'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", line],
            env={**os.environ, "SCRIPT": script("fish")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == (f"test\t{COMMANDS['test'][2]}\n", "")
