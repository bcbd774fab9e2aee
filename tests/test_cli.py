"""The command line: its two ways of reading, what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

import ldreader
from ldreader.cli import evaluate, main
from ldreader.cli.options import COMMANDS, OPTIONS, POSITIONALS, read_plain
from ldreader.cli.parser import parse
from tests.benchmarks.network import Network
from tests.servers import RedisServer, free_port

PROJECT = Path(__file__).parent.parent

FLAGS = {
    "flags": {
        "greeting": {
            "version": 3,
            "on": True,
            "variations": ["hello", "guten Tag", "早上好 \U0001f44b"],
            "rules": [
                {"variation": 1, "clauses": [{"attribute": "country", "op": "in", "values": ["DE"]}]},
                {"variation": 2, "clauses": [{"attribute": "country", "op": "in", "values": ["CN"]}]},
            ],
            "fallthrough": {"variation": 0},
            "clientSide": True,
        },
        "broken": {"on": True, "variations": [], "fallthrough": {"variation": 7}},
        "off": {"on": False, "variations": [True]},
    },
    "flagValues": {"yes": True, "no": False, "-dash": "begins with a dash"},
}


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


class Cli:
    """The command, run in this process, or in one of its own where the process is the point."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Result:
        try:
            code: Any = main(words)
        except SystemExit as ended:
            code = ended.code
        return Result(code, *self._capsys.readouterr())

    def fails(self, code: int, *words: str) -> str:
        """The one line that explains it; nothing else is printed."""
        result = self(*words)
        assert (result.code, result.out) == (code, "")
        return one_line(result.err)

    @staticmethod
    def process(*words: str, module: str = "ldreader", **environment: str) -> Result:
        """The result of ``python -m ldreader``."""
        command = [sys.executable, "-W", "error", "-m", module, *words]
        done = subprocess.run(command, env=surroundings(**environment), capture_output=True, text=True, timeout=60)
        return Result(done.returncode, done.stdout, done.stderr)


def surroundings(**environment: str) -> dict[str, str]:
    """The environment of a process that can import ldreader."""
    # Unbuffered, nothing would be left to write at exit.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": str(PROJECT), **environment}


def one_line(text: str) -> str:
    """The line that a text consists of."""
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.startswith("ldreader")
    return text[:-1]


@pytest.fixture(autouse=True)
def _no_store_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDREADER_STORE", raising=False)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a file with the flags above."""
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(FLAGS), encoding="utf-8")
    return f"file:{path}"


@pytest.fixture
def redis_store(redis_server: RedisServer) -> Iterator[str]:
    """The URL of a Redis with some good items and some bad ones."""
    items = {
        "good": '{"version": 1, "on": true, "variations": ["g\\u00e9"], "fallthrough": {"variation": 0}}',
        "no-json": "{oops",
        "no-object": "7",
        "deleted": '{"version": 4, "deleted": true}',
    }
    with redis.Redis.from_url(redis_server.url) as client:
        client.hset("cli:features", mapping=items)
        yield f"{redis_server.url}?prefix=cli"
        client.delete("cli:features")


@pytest.fixture
def unreachable() -> str:
    """The URL of a Redis that is not there."""
    return f"redis://127.0.0.1:{free_port()}"


def both_ways(*words: str) -> dict[str, Any] | None:
    """What the plain reading makes of the words, after a look that argparse agrees."""
    plain = read_plain(words)
    if plain is not None:
        try:
            assert parse(words) == plain, words
        except SystemExit:
            pytest.fail(f"only the plain reading takes {words}")
    return plain


class TestTheTwoWaysOfReading:
    @pytest.mark.parametrize(
        "line",
        [
            "variation flag",
            "variation flag --store file:a --context ada --default false --detail",
            "variation --store file:a flag --context ada",
            "variation --detail --context ada flag",
            "variation flag --default -1",
            "variation flag --default --detail",
            "variation flag --default --default",
            "variation flag --default ''",
            "variation flag --context-key --weird",
            "variation flag --context-key -h",
            "variation flag --context-key -- --detail",
            "variation flag --context-key --context-key=y",
            "variation flag --context 'a b' --store 'file:a b'",
            "variation flag --context '-a b'",
            "variation flag --store one --store two --detail --detail",
            "variation 'a flag' --context é",
            "variation a=b --default a=b",
            "variation ''",
            "variation one two",
            "variation one --store file:a two --detail three one",
            "variation flag --context -",
            "test flag --context ada",
            "test one --context ada two",
            "completion bash",
            "all",
            "all --store file:a --context @f --client-side-only --with-reasons --details-only-for-tracked-flags",
            "all --context-key --help",
        ],
    )
    def test_the_plain_form_is_read_directly_and_as_argparse_reads_it(self, line: str) -> None:
        assert both_ways(*shlex.split(line)) is not None

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "-h",
            "--version",
            "unknown flag",
            "variation",
            "variation --detail",
            "variation -",
            "variation -flag",
            "variation flag --context=ada",
            "variation flag --detail=yes",
            "variation flag --with-reasons",
            "variation flag --cont ada",
            "variation flag --context",
            "variation flag --help",
            "variation -- flag",
            "variation flag --",
            "test",
            "test flag --default true",
            "test flag --detail",
            "completion",
            "completion bash zsh",
            "completion bash --store file:a",
            "all flag",
            "all --detail",
        ],
    )
    def test_any_other_form_is_left_to_argparse(self, line: str) -> None:
        assert read_plain(shlex.split(line)) is None

    def test_random_command_lines_are_read_alike(self) -> None:
        rng = random.Random(7)
        words = [*(f"--{name}" for name in OPTIONS), "flag", "-1", "--weird", "--", "-", "", "a b", "-a b", "x=y"]
        words += ["--store=x", "--detail=", "-h", "--help", "--version", "é", "@f", "variation", "all", "\udcff"]
        plain = 0
        for _ in range(2000):
            command = rng.choice(list(COMMANDS))
            line = [command, *(rng.choice(words) for _ in range(rng.randrange(7)))]
            if rng.random() < 0.5:
                # Words at random are seldom a command line, so half of them begin as one.
                names = rng.sample(COMMANDS[command][1], min(rng.randrange(4), len(COMMANDS[command][1])))
                pairs = [[f"--{name}", rng.choice(words)] if OPTIONS[name][0] else [f"--{name}"] for name in names]
                if COMMANDS[command][0]:
                    pairs += [[rng.choice(["flag", "", "a b", "é"])] for _ in range(rng.choice([1, 1, 1, 2, 3]))]
                rng.shuffle(pairs)
                line = [command, *(word for pair in pairs for word in pair)]
            plain += both_ways(*line) is not None
        assert plain > 750

    def test_the_table_is_whole(self) -> None:
        for positional, names, summary, examples in COMMANDS.values():
            assert set(names) <= set(OPTIONS)
            assert positional is None or positional in POSITIONALS
            assert summary
            assert examples

    @pytest.mark.parametrize(
        ("line", "options"),
        [
            ("variation flag --context=ada", {"flags": ["flag"], "context": "ada"}),
            ("variation flag --default=-1", {"flags": ["flag"], "default": "-1"}),
            ("variation flag --context=", {"flags": ["flag"], "context": ""}),
            ("variation flag --context-key=--weird", {"flags": ["flag"], "context-key": "--weird"}),
            ("variation flag --context-key=--", {"flags": ["flag"], "context-key": "--"}),
            ("variation flag --context-key==", {"flags": ["flag"], "context-key": "="}),
            ("variation flag --context=x --default -1", {"flags": ["flag"], "context": "x", "default": "-1"}),
            ("variation -- -flag", {"flags": ["-flag"]}),
            ("variation -- --context=x", {"flags": ["--context=x"]}),
            ("variation --default -1 -- --detail", {"flags": ["--detail"], "default": "-1"}),
            ("variation --detail -- --", {"flags": ["--"], "detail": True}),
            ("variation one --context=x two", {"flags": ["one", "two"], "context": "x"}),
            ("variation one --detail -- two --detail", {"flags": ["one", "two", "--detail"], "detail": True}),
            ("variation - -- -", {"flags": ["-", "-"]}),
            ("test one --context=x two", {"flags": ["one", "two"], "context": "x"}),
            ("completion -- bash", {"shell": "bash"}),
            ("all --context=x --with-reasons", {"context": "x", "with-reasons": True}),
        ],
    )
    def test_argparse_reads_what_is_not_plain(self, line: str, options: dict[str, Any]) -> None:
        words = shlex.split(line)
        assert read_plain(words) is None
        given = {name: value for name, value in parse(words).items() if value not in (None, False)}
        assert given == options | {"command": words[0]}


class TestVariation:
    def test_the_value_is_printed_as_json_on_one_line(self, cli: Cli, store: str) -> None:
        assert cli("variation", "greeting", "--store", store, "--context", "ada") == (0, '"hello"\n', "")
        assert cli("variation", "yes", "--store", store, "--context", "ada") == (0, "true\n", "")

    def test_other_characters_than_ascii_are_escaped(self, cli: Cli, store: str) -> None:
        context = '{"kind": "user", "key": "ada", "country": "CN"}'
        result = cli("variation", "greeting", "--store", store, "--context", context)
        assert result.out.isascii()
        assert json.loads(result.out) == "早上好 \U0001f44b"

    def test_output_needs_no_terminal_that_knows_unicode(self, cli: Cli, store: str) -> None:
        context = '{"kind": "user", "key": "ada", "country": "CN"}'
        words = ("variation", "greeting", "--store", store, "--context", context)
        result = cli.process(*words, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
        assert (result.code, json.loads(result.out), result.err) == (0, "早上好 \U0001f44b", "")

    def test_detail_adds_the_index_and_the_reason(self, cli: Cli, store: str) -> None:
        context = '{"kind": "user", "key": "ada", "country": "DE"}'
        result = cli("variation", "greeting", "--store", store, "--context", context, "--detail")
        assert json.loads(result.out) == {
            "value": "guten Tag",
            "variationIndex": 1,
            "reason": {"kind": "RULE_MATCH", "ruleIndex": 0},
        }
        assert (result.code, result.err) == (0, "")

    def test_a_flag_without_off_variation_gives_the_default_and_is_answered(self, cli: Cli, store: str) -> None:
        words = ("variation", "off", "--store", store, "--context", "ada")
        assert cli(*words) == (0, "null\n", "")
        assert cli(*words, "--default", "3") == (0, "3\n", "")

    def test_a_flag_key_may_begin_with_a_dash(self, cli: Cli, store: str) -> None:
        result = cli("variation", "--store", store, "--context", "ada", "--", "-dash")
        assert result == (0, '"begins with a dash"\n', "")

    def test_the_last_of_a_repeated_option_counts(self, cli: Cli, store: str) -> None:
        words = ("variation", "yes", "--store", "file:nowhere", "--context", "ada")
        assert cli(*words, "--store", store) == (0, "true\n", "")
        assert cli(*words, f"--store={store}") == (0, "true\n", "")

    @pytest.mark.parametrize("default", ["-1", "false", "null", '"text"', "[1, 2]", '{"a": null}', "1e3", "-0.5"])
    def test_any_json_may_be_the_default(self, cli: Cli, store: str, default: str) -> None:
        result = cli("variation", "nowhere", "--store", store, "--context", "ada", "--default", default)
        assert json.loads(result.out) == json.loads(default)
        assert result.code == 3


class TestSeveralFlags:
    def test_their_values_are_an_object_in_the_order_asked(self, cli: Cli, store: str) -> None:
        result = cli("variation", "yes", "--store", store, "greeting", "--context", "ada", "no")
        assert result == (0, '{"yes": true, "greeting": "hello", "no": false}\n', "")

    def test_a_flag_named_twice_is_there_once(self, cli: Cli, store: str) -> None:
        words = ("--store", store, "--context", "ada")
        assert cli("variation", "no", "yes", "no", *words) == (0, '{"no": false, "yes": true}\n', "")
        assert cli("variation", "no", "no", *words) == (0, '{"no": false}\n', "")

    def test_detail_adds_index_and_reason_to_each(self, cli: Cli, store: str) -> None:
        result = cli("variation", "greeting", "nowhere", "--store", store, "--context", "ada", "--detail")
        assert result.code == 3
        assert json.loads(result.out) == {
            "greeting": {"value": "hello", "variationIndex": 0, "reason": {"kind": "FALLTHROUGH"}},
            "nowhere": {
                "value": None,
                "variationIndex": None,
                "reason": {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"},
            },
        }

    def test_a_flag_that_gives_nothing_is_null_and_said_and_the_others_are_answered(self, cli: Cli, store: str) -> None:
        result = cli("variation", "yes", "nowhere", "--store", store, "--context", "ada")
        assert (result.code, json.loads(result.out)) == (3, {"yes": True, "nowhere": None})
        assert "'nowhere'" in one_line(result.err)

    def test_the_default_stands_for_each_that_gives_nothing(self, cli: Cli, store: str) -> None:
        words = ("variation", "no", "nowhere", "off", "--store", store, "--context", "ada", "--default", "-1")
        result = cli(*words)
        assert (result.code, json.loads(result.out)) == (3, {"no": False, "nowhere": -1, "off": -1})

    def test_the_largest_exit_code_counts(self, cli: Cli, store: str) -> None:
        for flags in (("broken", "nowhere", "yes"), ("yes", "nowhere", "broken")):
            result = cli("variation", *flags, "--store", store, "--context", "ada")
            assert result.code == 5
            assert result.err.count("\n") == 2

    def test_a_store_that_does_not_answer_is_said_once(self, cli: Cli, unreachable: str) -> None:
        result = cli("variation", "a", "b", "c", "--store", unreachable, "--context", "ada", "--default", "false")
        assert (result.code, json.loads(result.out)) == (4, {"a": False, "b": False, "c": False})
        one_line(result.err)

    @pytest.mark.parametrize("context", ["{oops", "", "@nowhere.json"])
    def test_a_context_that_is_none_gives_the_whole_object_too(self, cli: Cli, store: str, context: str) -> None:
        result = cli("variation", "yes", "no", "--store", store, "--context", context)
        assert (result.code, json.loads(result.out)) == (5, {"yes": None, "no": None})
        one_line(result.err)

    def test_a_wrong_store_prints_nothing(self, cli: Cli) -> None:
        cli.fails(2, "variation", "a", "b", "--store", "reddis://localhost", "--context", "ada")
        cli.fails(2, "variation", "a", "b", "--context", "ada")


class TestTest:
    """``ldreader test``: for ``ldreader test x && deploy``."""

    @pytest.mark.parametrize(
        ("flags", "code"),
        [("yes", 0), ("no", 1), ("off", 1), ("yes yes", 0), ("yes no", 1), ("no yes", 1)],
    )
    def test_the_exit_code_tells_whether_all_flags_are_true(self, cli: Cli, store: str, flags: str, code: int) -> None:
        assert cli("test", *flags.split(), "--store", store, "--context", "ada") == (code, "", "")

    @pytest.mark.parametrize(
        ("flags", "code", "why"),
        [
            ("nowhere", 3, "'nowhere'"),
            ("no nowhere", 3, "'nowhere'"),
            ("broken", 5, "variation 7"),
            ("nowhere-a broken", 5, "variation 7"),
            ("greeting", 5, "'greeting' cannot be tested: its value is a string, not a boolean"),
        ],
    )
    def test_what_cannot_be_told_is_neither_true_nor_false(
        self, cli: Cli, store: str, flags: str, code: int, why: str
    ) -> None:
        result = cli("test", *flags.split(), "--store", store, "--context", "ada")
        assert (result.code, result.out) == (code, "")
        assert why in result.err.splitlines()[-1]

    def test_a_store_that_does_not_answer(self, cli: Cli, unreachable: str) -> None:
        assert "Redis" in cli.fails(4, "test", "a", "b", "--store", unreachable, "--context", "ada")

    @pytest.mark.parametrize("context", ["{oops", ""])
    def test_a_context_that_is_none(self, cli: Cli, store: str, context: str) -> None:
        cli.fails(5, "test", "yes", "no", "--store", store, "--context", context)

    def test_it_takes_no_default_because_the_exit_code_is_the_answer(self, cli: Cli, store: str) -> None:
        line = cli.fails(2, "test", "yes", "--store", store, "--context", "ada", "--default", "true")
        assert "--default" in line

    def test_it_needs_no_standard_output(self, store: str) -> None:
        command = shlex.join([sys.executable, "-m", "ldreader", "test", "no", "--store", store, "--context", "ada"])
        done = subprocess.run(["sh", "-c", f"{command} >&-"], env=surroundings(), capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, b"")

    @pytest.mark.parametrize(
        ("script", "printed"),
        [
            ("{} test yes && echo deployed", "deployed"),
            ("{} test no || echo kept", "kept"),
            ("{} test nowhere 2>/dev/null; [ $? -le 1 ] || echo unknown", "unknown"),
            ("if {} test yes; then echo deployed; fi", "deployed"),
        ],
    )
    def test_scripts_decide_by_it(self, store: str, script: str, printed: str) -> None:
        command = shlex.join([sys.executable, "-m", "ldreader"])
        line = re.sub(r"(test \w+)", rf"\1 --store {shlex.quote(store)} --context ada", script).format(command)
        done = subprocess.run(["sh", "-c", line], env=surroundings(), capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == (f"{printed}\n", "")


class TestRoundTrips:
    def test_several_flags_take_one(self, cli: Cli, redis_store: str, redis_server: RedisServer) -> None:
        with redis.Redis.from_url(redis_server.url) as client, Network(redis_server.port) as network:
            flag = {"on": True, "variations": [False, True], "fallthrough": {"variation": 1}}
            client.hset("cli:features", mapping={key: json.dumps(flag) for key in "abc"})
            words = ("--store", f"redis://127.0.0.1:{network.port}?prefix=cli", "--context", "ada")
            assert cli("variation", "a", "b", "c", *words) == (0, '{"a": true, "b": true, "c": true}\n', "")
            assert (network.round_trips, network.connections) == (1, 1)
            network.forget()
            assert cli("test", "a", "b", "c", *words) == (0, "", "")
            assert (network.round_trips, network.connections) == (1, 1)


class TestErrors:
    def test_a_flag_that_is_not_there(self, cli: Cli, store: str) -> None:
        assert "'nowhere'" in cli.fails(3, "variation", "nowhere", "--store", store, "--context", "ada")

    def test_a_flag_that_cannot_be_evaluated(self, cli: Cli, store: str) -> None:
        assert "variation 7" in cli.fails(5, "variation", "broken", "--store", store, "--context", "ada")

    @pytest.mark.parametrize("command", [("variation", "yes"), ("all",)])
    def test_a_file_that_is_not_there_is_a_store_that_does_not_answer(self, cli: Cli, command: tuple[str, ...]) -> None:
        assert "nowhere.json" in cli.fails(4, *command, "--store", "file:nowhere.json", "--context", "ada")

    @pytest.mark.parametrize("command", [("variation", "yes"), ("all",)])
    def test_a_redis_that_is_not_there(self, cli: Cli, unreachable: str, command: tuple[str, ...]) -> None:
        assert "Redis" in cli.fails(4, *command, "--store", unreachable, "--context", "ada")

    def test_a_redis_that_is_too_slow(self, cli: Cli, redis_store: str, redis_server: RedisServer) -> None:
        redis_server.pause()
        try:
            began = time.monotonic()
            cli.fails(4, "variation", "good", "--store", f"{redis_store}&timeout=0.1", "--context", "ada")
            assert time.monotonic() - began < 1.5
        finally:
            redis_server.resume()

    @pytest.mark.parametrize("command", [("variation", "yes"), ("all",)])
    @pytest.mark.parametrize(
        ("context", "why"),
        [
            ("{oops", "JSON"),
            ("{}", "kind"),
            (' {"kind": "user"}', "key"),
            ('{"kind": "kind", "key": "a"}', "kind"),
            ("", "key"),
            ("@nowhere.json", "nowhere.json"),
            ("@", "context"),
            ("@a\0b", "context"),
        ],
    )
    def test_a_context_that_is_none(
        self, cli: Cli, store: str, command: tuple[str, ...], context: str, why: str
    ) -> None:
        assert why in cli.fails(5, *command, "--store", store, "--context", context)

    @pytest.mark.parametrize("command", [("variation", "yes"), ("all",)])
    def test_an_empty_key(self, cli: Cli, store: str, command: tuple[str, ...]) -> None:
        cli.fails(5, *command, "--store", store, "--context-key", "")

    @pytest.mark.parametrize("default", ["text", "", "{", "NaN", "Infinity", "1,"])
    def test_a_default_that_is_no_json(self, cli: Cli, store: str, default: str) -> None:
        words = ("variation", "yes", "--store", store, "--context", "ada", "--default", default)
        assert "--default" in cli.fails(2, *words)

    @pytest.mark.parametrize("command", [("variation", "yes"), ("all",)])
    def test_no_store(self, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
        assert "LDREADER_STORE" in cli.fails(2, *command, "--context", "ada")
        monkeypatch.setenv("LDREADER_STORE", "")
        assert "LDREADER_STORE" in cli.fails(2, *command, "--context", "ada", "--store", "")

    @pytest.mark.parametrize("command", [("variation", "yes"), ("all",)])
    def test_no_context_or_two(self, cli: Cli, store: str, command: tuple[str, ...]) -> None:
        for contexts in [(), ("--context", "ada", "--context-key", "ada")]:
            line = cli.fails(2, *command, "--store", store, *contexts)
            assert "--context" in line
            assert "--context-key" in line

    @pytest.mark.parametrize(
        ("url", "hint"),
        [
            ("flags.json", "file:flags.json"),
            ("reddis://localhost", "redis"),
            ("redis://localhost?prefiks=a", "prefix"),
            ("redis://localhost?timeout=soon", "timeout"),
            ("file:flags.json?watch=1", "watch"),
            ("file:", "file:PATH"),
        ],
    )
    def test_a_store_url_that_cannot_be_used(self, cli: Cli, url: str, hint: str) -> None:
        assert hint in cli.fails(2, "variation", "yes", "--store", url, "--context", "ada")

    @pytest.mark.parametrize(
        "line",
        ["", "variatoin yes", "variation", "test", "completion", "variation yes --detial", "variation yes --store"]
        + ["variation yes --cont ada", "variation yes --detail=yes", "all yes", "all --detail", "--store file:a all"],
    )
    def test_wrong_usage_points_to_the_help(self, cli: Cli, line: str) -> None:
        assert "--help" in cli.fails(2, *shlex.split(line))

    @pytest.mark.parametrize(
        ("line", "hint"),
        [
            ("variatoin yes", "did you mean 'variation'?"),
            ("deploy yes", "known: all, completion, test, variation"),
            ("variation yes --detial", "did you mean '--detail'?"),
            ("variation yes --contxt=ada", "did you mean '--context'?"),
            ("all --detail", "'ldreader variation' has it"),
            ("test yes --default true", "'ldreader variation' has it"),
            ("--store file:a all", "it stands after the command"),
            ("--store=file:a all", "it stands after the command"),
            ("--verzion", "did you mean '--version'?"),
            ("completion bsh", "did you mean 'bash'?"),
            ("completion tcsh", "known: bash, fish, zsh"),
        ],
    )
    def test_a_name_that_nobody_knows_is_answered_with_the_nearest(self, cli: Cli, line: str, hint: str) -> None:
        assert hint in cli.fails(2, *shlex.split(line))

    def test_wrong_usage_is_one_line_from_a_process_too(self, cli: Cli) -> None:
        result = cli.process("variation")
        assert (result.code, result.out) == (2, "")
        one_line(result.err)

    def test_an_interrupt_ends_it_quietly(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(options: object) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(evaluate, "all_flags", interrupted)
        assert cli("all") == (130, "", "")


class TestDefaultAndDetailOfErrors:
    """With a default, or with --detail, there is always something to print, and the exit code still tells."""

    CASES = (
        ("nowhere", ("--context", "ada"), 3, "FLAG_NOT_FOUND"),
        ("broken", ("--context", "ada"), 5, "MALFORMED_FLAG"),
        ("yes", ("--context", "ada", "--store", "file:nowhere.json"), 4, "EXCEPTION"),
        ("yes", ("--context-key", ""), 5, "USER_NOT_SPECIFIED"),
        ("yes", ("--context", ""), 5, "USER_NOT_SPECIFIED"),
        ("yes", ("--context", "{oops"), 5, "USER_NOT_SPECIFIED"),
        ("yes", ("--context", '{"kind": "user"}'), 5, "USER_NOT_SPECIFIED"),
        ("yes", ("--context", "@nowhere.json"), 5, "USER_NOT_SPECIFIED"),
    )

    @pytest.mark.parametrize(("flag", "words", "code", "kind"), CASES)
    def test_the_default_is_printed(
        self, cli: Cli, store: str, flag: str, words: tuple[str, ...], code: int, kind: str
    ) -> None:
        result = cli("variation", flag, "--store", store, *words, "--default", "[1]")
        assert (result.code, result.out) == (code, "[1]\n")
        one_line(result.err)

    @pytest.mark.parametrize(("flag", "words", "code", "kind"), CASES)
    def test_the_detail_names_the_kind_of_error(
        self, cli: Cli, store: str, flag: str, words: tuple[str, ...], code: int, kind: str
    ) -> None:
        for default, value in [((), None), (("--default", "-1"), -1)]:
            result = cli("variation", flag, "--store", store, *words, "--detail", *default)
            assert result.code == code
            assert json.loads(result.out) == {
                "value": value,
                "variationIndex": None,
                "reason": {"kind": "ERROR", "errorKind": kind},
            }
            one_line(result.err)

    def test_wrong_usage_prints_no_default(self, cli: Cli, store: str) -> None:
        cli.fails(2, "variation", "yes", "--store", store, "--default", "1", "--detail")
        cli.fails(2, "variation", "yes", "--context", "ada", "--default", "1", "--detail")


class TestContexts:
    @pytest.mark.parametrize("key", ["ada", "-1", "--weird", "--help", "-", "@ada", '{"kind": "user"}', " ", "é=b"])
    def test_a_context_key_is_taken_literally(self, cli: Cli, tmp_path: Path, key: str) -> None:
        path = tmp_path / "flags.json"
        flag = {"on": True, "variations": [0, 1], "targets": [{"variation": 1, "values": [key]}]}
        path.write_text(json.dumps({"flags": {"flag": flag}}), encoding="utf-8")
        words = ("variation", "flag", "--store", f"file:{path}")
        assert cli(*words, "--context-key", key) == (0, "1\n", "")
        assert cli(*words, f"--context-key={key}") == (0, "1\n", "")

    def test_a_context_is_a_key_unless_it_begins_as_an_object_or_a_file(self, cli: Cli, tmp_path: Path) -> None:
        path = tmp_path / "flags.json"
        flag = {"on": True, "variations": [0, 1], "targets": [{"variation": 1, "values": ["-7", "[1]", "null"]}]}
        path.write_text(json.dumps({"flags": {"flag": flag}}), encoding="utf-8")
        for key in ("-7", "[1]", "null"):
            assert cli("variation", "flag", "--store", f"file:{path}", "--context", key) == (0, "1\n", "")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_a_context_may_be_in_a_file(self, cli: Cli, store: str, tmp_path: Path, encoding: str) -> None:
        path = tmp_path / "context.json"
        path.write_text('{"kind": "user", "key": "ada", "country": "DE", "name": "Ä"}', encoding=encoding)
        result = cli("variation", "greeting", "--store", store, "--context", f"@{path}")
        assert result == (0, '"guten Tag"\n', "")

    def test_a_bad_context_in_a_file_is_named_by_the_file(self, cli: Cli, store: str, tmp_path: Path) -> None:
        path = tmp_path / "context.json"
        for text in ("{oops", "[]", '{"kind": "user"}', ""):
            path.write_text(text, encoding="utf-8")
            assert str(path) in cli.fails(5, "variation", "yes", "--store", store, "--context", f"@{path}")

    def test_what_the_context_holds_is_not_quoted(self, cli: Cli, store: str) -> None:
        for context in ('{"kind": "user", "key": "secret", oops', '{"kind": "user", "email": "secret"}'):
            assert "secret" not in cli.fails(5, "variation", "yes", "--store", store, "--context", context)


class TestStore:
    def test_the_environment_names_the_store(self, cli: Cli, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
        monkeypatch.setenv("LDREADER_STORE", store)
        assert cli("variation", "yes", "--context", "ada") == (0, "true\n", "")
        assert cli("all", "--context", "ada").code == 0

    def test_the_option_wins_over_the_environment(self, cli: Cli, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
        monkeypatch.setenv("LDREADER_STORE", "file:nowhere.json")
        assert cli("variation", "yes", "--context", "ada").code == 4
        assert cli("variation", "yes", "--context", "ada", "--store", store) == (0, "true\n", "")

    def test_redis_is_read(self, cli: Cli, redis_store: str) -> None:
        words = ("--store", redis_store, "--context", "ada")
        assert cli("variation", "good", *words) == (0, '"g\\u00e9"\n', "")
        cli.fails(3, "variation", "deleted", *words)
        cli.fails(3, "variation", "nowhere", *words)
        cli.fails(5, "variation", "no-json", *words)
        cli.fails(5, "variation", "no-object", *words)

    def test_an_empty_redis_has_no_flags(self, cli: Cli, redis_server: RedisServer) -> None:
        words = ("--store", f"{redis_server.url}?prefix=cli-empty", "--context", "ada")
        cli.fails(3, "variation", "good", *words)
        assert json.loads(cli("all", *words).out) == {"$flagsState": {}, "$valid": True}


class TestAll:
    def state(self, cli: Cli, store: str, *words: str) -> Any:
        result = cli("all", "--store", store, "--context", "ada", *words)
        assert (result.code, result.out.count("\n")) == (0, 1)
        return json.loads(result.out)

    def test_the_state_of_all_flags_is_printed(self, cli: Cli, store: str) -> None:
        state = self.state(cli, store)
        assert state["$valid"] is True
        assert state["greeting"] == "hello"
        assert state["broken"] is None
        assert state["$flagsState"]["greeting"] == {"variation": 0, "version": 3}
        assert set(state["$flagsState"]) == {"greeting", "broken", "off", "yes", "no", "-dash"}

    def test_only_what_browsers_may_see(self, cli: Cli, store: str) -> None:
        assert set(self.state(cli, store, "--client-side-only")) == {"greeting", "$flagsState", "$valid"}

    def test_with_reasons(self, cli: Cli, store: str) -> None:
        metadata = self.state(cli, store, "--with-reasons")["$flagsState"]
        assert metadata["greeting"]["reason"] == {"kind": "FALLTHROUGH"}
        assert metadata["broken"]["reason"] == {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"}

    def test_details_only_for_tracked_flags(self, cli: Cli, store: str) -> None:
        state = self.state(cli, store, "--with-reasons", "--details-only-for-tracked-flags")
        assert state["$flagsState"]["greeting"] == {"variation": 0}

    def test_a_flag_without_a_value_is_named(self, cli: Cli, store: str) -> None:
        result = cli.process("all", "--store", store, "--context", "ada")
        assert result.code == 0
        assert result.err.count("\n") == 1
        assert "'broken'" in result.err

    def test_an_item_that_is_no_flag_is_left_out_and_named(self, cli: Cli, redis_store: str) -> None:
        result = cli.process("all", "--store", redis_store, "--context", "ada")
        assert result.code == 0
        assert set(json.loads(result.out)) == {"good", "$flagsState", "$valid"}
        first, second = sorted(result.err.splitlines())
        assert "'no-json'" in first
        assert "'no-object'" in second


class TestHelp:
    def test_the_command_tells_what_it_is(self, cli: Cli) -> None:
        result = cli("--help")
        assert (result.code, result.err) == (0, "")
        for name, (_, _, summary, examples) in COMMANDS.items():
            assert name in result.out
            assert summary in " ".join(result.out.split())
            assert examples[0] in result.out
        assert "exit codes" in result.out

    @pytest.mark.parametrize("name", COMMANDS)
    def test_each_subcommand_tells_its_options_with_examples(self, cli: Cli, name: str) -> None:
        _, options, _, examples = COMMANDS[name]
        for words in ((name, "--help"), (name, "-h")):
            result = cli(*words)
            assert (result.code, result.err) == (0, "")
            assert "exit codes" in result.out
            assert all(f"--{option}" in result.out for option in options)
            assert all(example in result.out for example in examples)

    def test_the_examples_are_command_lines(self) -> None:
        for name, (_, _, _, examples) in COMMANDS.items():
            for example in examples:
                program, *words = shlex.split(re.split("&&|<|>", example)[0])
                options = both_ways(*words)
                assert program == "ldreader"
                assert options is not None
                assert options["command"] == name

    @pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5])
    def test_each_exit_code_is_explained(self, cli: Cli, code: int) -> None:
        assert f"{code} " in cli("--help").out.partition("exit codes")[2]

    def test_the_version_is_printed(self, cli: Cli) -> None:
        assert cli("--version") == (0, f"ldreader {ldreader.__version__}\n", "")


class TestProcess:
    def test_the_module_is_the_command(self, cli: Cli, store: str) -> None:
        for words in (
            ("variation", "yes", "--store", store, "--context", "ada"),
            ("variation", "nowhere", "--store", store, "--context", "ada", "--default", "1"),
            ("all", f"--store={store}", "--context", "ada", "--client-side-only"),
            ("--version",),
        ):
            assert cli.process(*words) == cli(*words)

    def test_the_installed_command_is_main(self) -> None:
        setup = (PROJECT / "setup.cfg").read_text(encoding="utf-8")
        assert "ldreader = ldreader.cli:main" in setup

    @pytest.mark.parametrize("command", [["variation", "yes"], ["all", "--client-side-only"]])
    def test_a_reader_who_left_is_not_complained_about(self, store: str, command: list[str]) -> None:
        words = [sys.executable, "-m", "ldreader", *command, "--store", store, "--context", "ada"]
        reading, writing = os.pipe()
        os.close(reading)  # as in ``ldreader all | head -c 0``, but certainly before anything is written
        try:
            done = subprocess.run(words, env=surroundings(), stdout=writing, stderr=subprocess.PIPE, timeout=60)
        finally:
            os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")

    def test_a_reader_may_leave_in_a_pipe_of_the_shell(self, store: str) -> None:
        command = shlex.join([sys.executable, "-m", "ldreader", "variation", "yes", "--store", store])
        script = f"{command} --context ada | head -c 0"
        done = subprocess.run(["sh", "-c", script], env=surroundings(), capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("", "")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    @pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
    def test_a_result_that_cannot_be_written_is_one_line_and_no_answer(self, store: str, redirection: str) -> None:
        command = shlex.join([sys.executable, "-m", "ldreader", "variation", "yes", "--store", store])
        script = f"{command} --context ada {redirection}"
        done = subprocess.run(["sh", "-c", script], env=surroundings(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith("ldreader: cannot write the result: ")
        assert done.stderr.count("\n") == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    @pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-"])
    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize(
        ("words", "code", "out"),
        [
            ("test nowhere --context ada", 3, ""),
            ("variation nowhere --context ada --default 1", 3, "1\n"),
            ("variation yes --context -", 5, "true\nnull\ntrue\n"),
            ("variation", 2, ""),
        ],
    )
    def test_where_nobody_hears_what_is_wrong_the_exit_code_still_tells(
        self, store: str, redirection: str, unbuffered: str, words: str, code: int, out: str
    ) -> None:
        script = f"{shlex.join([sys.executable, '-m', 'ldreader'])} {words} {redirection}"
        variables = surroundings(LDREADER_STORE=store, PYTHONUNBUFFERED=unbuffered)
        done = subprocess.run(
            ["sh", "-c", script], env=variables, input="ada\n\neve\n", stdout=subprocess.PIPE, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (code, out)

    @pytest.mark.parametrize(
        "words",
        [
            ["--store=redis://:se@cret@h/0", "variation", "yes"],
            ["all", "redis://:se@cret@h/0", "--context", "ada"],
            ["redis://:se@cret@h/0"],
            ["all", "--with-reasons=redis://:se@cret@h/0"],
            ["all", '{"kind": "user", "key": "cret"}'],
        ],
    )
    def test_a_store_or_a_context_in_the_wrong_place_does_not_show_its_secrets(
        self, cli: Cli, words: list[str]
    ) -> None:
        assert "cret" not in cli.fails(2, *words)

    def test_a_name_with_a_line_break_does_not_break_the_line(self, cli: Cli, store: str) -> None:
        for words in (("--context", "@no\nwhere"), ("--contxt\n", "ada")):
            assert cli("variation", "yes", "--store", store, *words).err.count("\n") == 1

    def test_options_may_come_from_a_caller(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["variation", "yes", "--store", store, "--context", "ada"]) == 0
        assert capsys.readouterr().out == "true\n"

    def test_a_mistake_of_ours_is_not_hidden(self, cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(options: object) -> int:
            raise ZeroDivisionError

        monkeypatch.setattr(evaluate, "variation", broken)
        with pytest.raises(ZeroDivisionError):
            main(["variation", "yes", "--store", store, "--context", "ada"])
