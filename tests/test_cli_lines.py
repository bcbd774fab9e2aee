"""``--context -``: contexts from standard input, answered line by line, by processes as a script would run them."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import redis

from ldreader import FlagReader, StoreError
from ldreader.cli import lines, main
from tests.benchmarks.network import Network
from tests.servers import PATIENCE, RedisServer, free_port, until

PROJECT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "ldreader"]
# A shell lets what it runs in the background, these tests maybe, ignore interrupts.
INTERRUPTIBLE = [
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])",
]
FLAGS: dict[str, Any] = {
    "flags": {
        "who": {
            "on": True,
            "variations": ["anyone", "ada", "German"],
            "targets": [{"variation": 1, "values": ["ada", "@ada", "[1]"]}],
            "rules": [{"variation": 2, "clauses": [{"attribute": "country", "op": "in", "values": ["DE"]}]}],
            "fallthrough": {"variation": 0},
        },
        "broken": {"on": True, "variations": [], "fallthrough": {"variation": 7}},
    },
    "flagValues": {"yes": True},
}
GERMAN = '{"kind": "user", "key": "bob", "country": "DE"}'


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: list[Any]
    err: str


def environment() -> dict[str, str]:
    """The environment of a process that can import ldreader."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LDREADER_STORE", "PYTHONUNBUFFERED")}
    return {**kept, "PYTHONPATH": str(PROJECT)}


def run(given: str | bytes, *words: str) -> Result:
    """What the command makes of these lines; each line that it prints is JSON."""
    data = given.encode() if isinstance(given, str) else given
    words = (*words, "--context", "-")
    done = subprocess.run([*COMMAND, *words], input=data, env=environment(), capture_output=True, timeout=60)
    return Result(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode())


class Conversation:
    """The command at work, asked line by line, for the length of a ``with`` block."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [*INTERRUPTIBLE, *COMMAND, *words, "--context", "-"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, line: str) -> Any:
        """The answer to a line, which comes before anything more is sent."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "no answer"
        return json.loads(os.read(self.process.stdout.fileno(), 65536))

    def end(self) -> Result:
        """What is left when there is no more input."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return Result(self.process.returncode, out.splitlines(), err.decode())


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a file with the flags above."""
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(FLAGS), encoding="utf-8")
    return f"file:{path}"


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis to stop and start; `filled` puts the flag ``who`` into it."""
    with RedisServer() as server:
        filled(server)
        yield server


def filled(server: RedisServer) -> None:
    """Puts the flag ``who`` into a Redis."""
    server.ask("HSET", "launchdarkly:features", "who", json.dumps(FLAGS["flags"]["who"]))


class TestAnswers:
    def test_each_line_has_one_of_its_own_in_the_same_order(self, store: str) -> None:
        given = f"ada\n{GERMAN}\neve\n  {GERMAN}\n"
        assert run(given, "variation", "who", "--store", store) == (0, ["ada", "German", "anyone", "German"], "")

    def test_a_line_is_read_as_the_option_is_but_names_no_file(self, store: str) -> None:
        result = run("@ada\n[1]\n ada\nada ", "variation", "who", "--store", store)
        assert result == (0, ["ada", "ada", "anyone", "anyone"], "")

    @pytest.mark.parametrize("given", ["ada\neve", "ada\r\neve\r\n", "\ufeffada\neve\n", "ada\n\ufeffada\n"])
    def test_lines_of_other_systems_are_read_too(self, store: str, given: str) -> None:
        assert run(given, "variation", "who", "--store", store) == (0, ["ada", "anyone"], "")

    def test_several_flags_are_an_object_in_each_line(self, store: str) -> None:
        result = run(f"ada\n{GERMAN}\n", "variation", "who", "yes", "--store", store)
        assert result == (0, [{"who": "ada", "yes": True}, {"who": "German", "yes": True}], "")

    def test_with_detail(self, store: str) -> None:
        result = run(f"ada\n{GERMAN}\n", "variation", "who", "--store", store, "--detail")
        assert [answer["reason"]["kind"] for answer in result.out] == ["TARGET_MATCH", "RULE_MATCH"]

    def test_the_state_of_all_flags(self, store: str) -> None:
        result = run(f"ada\n\n{GERMAN}\n", "all", "--store", store)
        assert [answer and answer["who"] for answer in result.out] == ["ada", None, "German"]
        assert result.code == 5
        first, second, *rest = result.err.splitlines()
        assert first.startswith("ldreader: line 1: ")
        assert "'broken'" in first
        assert second.startswith("ldreader: line 2: ")
        assert rest == ["ldreader: 1 of 3 lines have no answer, or not all of it"]

    def test_no_line_no_answer(self, store: str) -> None:
        assert run("", "variation", "who", "--store", store) == (0, [], "")

    def test_each_comes_before_the_next_line_is_sent(self, store: str) -> None:
        with Conversation("variation", "who", "--store", store) as conversation:
            assert conversation.ask("ada") == "ada"
            assert conversation.ask(GERMAN) == "German"
            assert conversation.ask("") is None
            assert conversation.ask("eve") == "anyone"
            assert conversation.end().code == 5

    def test_paste_finds_the_answers_beside_their_contexts(self, store: str, tmp_path: Path) -> None:
        contexts = tmp_path / "contexts"
        contexts.write_text(f"ada\n{GERMAN}\n\neve\n", encoding="utf-8")
        command = shlex.join([*COMMAND, "variation", "who", "--store", store, "--context", "-"])
        script = f"{command} < {shlex.quote(str(contexts))} 2>/dev/null | paste -d= {shlex.quote(str(contexts))} -"
        done = subprocess.run(["sh", "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == ['ada="ada"', f'{GERMAN}="German"', "=null", 'eve="anyone"']


class TestBadLines:
    BAD = ["{oops", '{"kind": "user"}', "", b"\xff", b'{"kind": "user", "key": "\xff"}', "{}"]

    @pytest.mark.parametrize("bad", BAD)
    def test_one_is_null_and_named_and_the_next_are_answered(self, store: str, bad: str | bytes) -> None:
        bad = bad.encode() if isinstance(bad, str) else bad
        result = run(b"ada\n" + bad + b"\nada\n", "variation", "who", "--store", store)
        assert (result.code, result.out) == (5, ["ada", None, "ada"])
        assert result.err.startswith("ldreader: line 2: ")
        assert result.err.count("\n") == 1

    def test_it_gives_the_default(self, store: str) -> None:
        result = run("{oops\nada\n", "variation", "who", "--store", store, "--default", "7")
        assert (result.code, result.out) == (5, [7, "ada"])
        result = run("{oops\nada\n", "variation", "who", "yes", "--store", store, "--default", "7", "--detail")
        assert [value["value"] for value in result.out[0].values()] == [7, 7]
        assert result.out[0]["yes"]["reason"]["errorKind"] == "USER_NOT_SPECIFIED"

    def test_each_is_named_although_the_same_is_wrong_with_it(self, store: str) -> None:
        result = run("{oops\n{oops\n", "variation", "who", "--store", store)
        assert result.err == (
            "ldreader: line 1: context is not valid JSON: see column 2\n"
            "ldreader: line 2: context is not valid JSON: see column 2\n"
        )

    def test_what_a_line_holds_is_not_quoted(self, store: str) -> None:
        assert "secret" not in run('{"key": "secret", oops\n', "variation", "who", "--store", store).err

    def test_a_flag_that_gives_nothing_is_said_once_and_counted(self, store: str) -> None:
        result = run("ada\n\nada\neve\n", "variation", "who", "nowhere", "--store", store)
        assert result.code == 5
        assert [answer["who"] for answer in result.out] == ["ada", None, "ada", "anyone"]
        first, second, last = result.err.splitlines()
        assert first.startswith("ldreader: line 1: there is no flag 'nowhere'")
        assert second.startswith("ldreader: line 2: ")
        assert last == "ldreader: 4 of 4 lines have no answer, or not all of it"

    @pytest.mark.parametrize(("flag", "code"), [("nowhere", 3), ("broken", 5)])
    def test_the_exit_code_is_the_largest_of_all_lines(self, store: str, flag: str, code: int) -> None:
        assert run("ada\neve\n", "variation", flag, "--store", store).code == code
        assert run("ada\neve\n", "variation", "who", flag, "--store", store).code == code


class TestUsage:
    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["test", "who"], "ldreader variation FLAG --context -"),
            (["variation", "who", "--context-key", "ada"], "--context-key"),
            (["variation", "who", "--default", "{"], "--default"),
        ],
    )
    def test_what_makes_no_sense_is_one_line(self, store: str, words: list[str], why: str) -> None:
        result = run("ada\n", *words, "--store", store)
        assert (result.code, result.out, result.err.count("\n")) == (2, [], 1)
        assert why in result.err

    def test_no_standard_input(self, store: str) -> None:
        command = shlex.join([*COMMAND, "variation", "who", "--store", store, "--context", "-"])
        done = subprocess.run(["sh", "-c", f"{command} <&-"], env=environment(), capture_output=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr == b"ldreader: cannot read contexts from standard input: it is closed\n"


class TestTheStore:
    def test_a_thousand_lines_take_one_connection_and_a_round_trip_each(self, redis_server: RedisServer) -> None:
        segment = {"included": ["key-7"], "version": 1}
        clause = {"attribute": "", "op": "segmentMatch", "values": ["few"]}
        flag = {
            "on": True,
            "variations": [0, 1],
            "rules": [{"variation": 1, "clauses": [clause]}],
            "fallthrough": {"variation": 0},
        }
        with redis.Redis.from_url(redis_server.url) as client, Network(redis_server.port) as network:
            client.hset("lines:features", "flag", json.dumps(flag))
            client.hset("lines:segments", "few", json.dumps(segment))
            try:
                url = f"redis://127.0.0.1:{network.port}?prefix=lines"
                result = run("".join(f"key-{n}\n" for n in range(1000)), "variation", "flag", "--store", url)
            finally:
                client.delete("lines:features", "lines:segments")
        assert result == (0, [int(n == 7) for n in range(1000)], "")
        # The first line does not know yet that the flag leads to a segment.
        assert (network.round_trips, network.connections) == (1001, 1)

    def test_one_that_goes_away_and_returns_costs_the_lines_meanwhile(self, own_redis: RedisServer) -> None:
        words = ("variation", "who", "--store", own_redis.url, "--default", '"default"')
        with Conversation(*words) as conversation:
            assert conversation.ask("ada") == "ada"
            own_redis.stop()
            assert conversation.ask("ada") == "default"
            own_redis.start()
            filled(own_redis)
            assert conversation.ask("ada") == "ada"
            assert conversation.ask(GERMAN) == "German"
            result = conversation.end()
        assert result.code == 4
        assert result.err.startswith("ldreader: line 2: ")
        assert result.err.count("\n") == 1

    def run_here(self, url: str, given: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
        """The exit code of the command in this process, without the pauses between lines that fail."""
        (tmp_path / "given").write_bytes(given)
        monkeypatch.setattr(lines, "PAUSE", 0.0)
        with (tmp_path / "given").open(encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            return main(["variation", "who", "--store", url, "--context", "-", "--default", "0"])

    def test_one_that_stays_away_is_not_asked_for_ever(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = f"redis://127.0.0.1:{free_port()}"
        # A line that is no context tells nothing of the store.
        assert self.run_here(url, b"ada\n\n" + b"eve\n" * 50, monkeypatch, tmp_path) == 5
        out, err = capsys.readouterr()
        assert out == "0\n" * 6
        first, second, third, last = err.splitlines()
        assert first.startswith("ldreader: line 1: Redis")
        assert second.startswith("ldreader: line 2: ")
        assert third == "ldreader: stopped after line 6: the store did not answer 5 lines in a row"
        assert last == "ldreader: 6 of 6 lines have no answer, or not all of it"

    def test_it_is_left_alone_for_a_while_before_it_is_asked_again(
        self, store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(lines, "time", SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
        given = iter([b"ada\n", b"\n", b"\n", b"ada\n", b"\n"])  # a line that is no context does not ask it
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given, isatty=lambda: False))
        assert main(["variation", "who", "--store", "file:/nowhere.json", "--context", "-"]) == 5
        assert pauses == [lines.PAUSE]

    def test_a_line_with_some_answer_is_none_without_the_store(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Half:
            def get_many(self, refs: Any) -> dict[Any, Any]:
                return {ref: StoreError("too big") if ref[1] == "big" else '{"on": false}' for ref in refs}

        monkeypatch.setattr(lines, "PAUSE", 0.0)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=iter([b"ada\n"] * 9), isatty=lambda: False))
        reader = FlagReader(Half(), strict=True)  # type: ignore[arg-type]
        monkeypatch.setattr(reader, "close", lambda: None)
        assert main(["variation", "big", "small", "--context", "-"], reader=reader) == 4
        assert capsys.readouterr().out.count("\n") == 9

    def test_flags_named_twice_count_once(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(lines, "PAUSE", 0.0)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=iter([b"ada\n"] * 9), isatty=lambda: False))
        assert main(["variation", "who", "who", "--store", "file:/nowhere.json", "--context", "-"]) == 4
        assert capsys.readouterr().out.count("\n") == lines.GIVE_UP

    def test_one_that_fails_now_and_then_is_asked_to_the_end(
        self, store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        here, away = tmp_path / "flags.json", tmp_path / "away.json"

        def given() -> Iterator[bytes]:
            for _ in range(3):
                here.rename(away)
                yield from [b"ada\n"] * 4
                away.rename(here)
                yield b"ada\n"

        monkeypatch.setattr(lines, "PAUSE", 0.0)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given(), isatty=lambda: False))
        assert main(["variation", "who", "--store", store, "--context", "-"]) == 4
        out, err = capsys.readouterr()
        assert out == 3 * (4 * "null\n" + '"ada"\n')
        # Each time that it begins anew, and how often in all.
        assert [line.partition(": ")[2][:8] for line in err.splitlines()] == [
            "line 1: ",
            "line 6: ",
            "line 11:",
            "12 of 15",
        ]

    def test_one_that_is_silent_is_waited_for_a_bounded_time(
        self,
        own_redis: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        own_redis.pause()
        begin = time.monotonic()
        assert self.run_here(f"{own_redis.url}?timeout=0.1", b"ada\n" * 1000, monkeypatch, tmp_path) == 4
        assert time.monotonic() - begin < 5 * 2 * 0.1 + PATIENCE
        assert capsys.readouterr().out == "0\n" * 5


class TestEndings:
    def test_an_interrupt_ends_it_quietly(self, store: str) -> None:
        with Conversation("variation", "who", "--store", store) as conversation:
            assert conversation.ask("ada") == "ada"
            conversation.process.send_signal(signal.SIGINT)
            assert conversation.end() == (130, [], "")

    def test_a_reader_who_left_is_not_complained_about(self, store: str) -> None:
        command = shlex.join([*COMMAND, "variation", "who", "--store", store, "--context", "-"])
        script = f"yes ada | {{ {command}; echo $? >&2; }} | head -n 2"
        done = subprocess.run(["sh", "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ('"ada"\n"ada"\n', "141\n")

    def test_memory_does_not_grow_with_the_lines(self, store: str, tmp_path: Path) -> None:
        peaks = []
        for number in (200, 20_000):
            contexts = tmp_path / "contexts"
            contexts.write_text(f"{GERMAN}\nada\n\n{{oops\n" * (number // 4), encoding="utf-8")
            with contexts.open("rb") as stdin, (tmp_path / "out").open("wb") as out:
                words = [*COMMAND, "variation", "who", "nowhere", "--store", store, "--context", "-"]
                process = subprocess.Popen(words, env=environment(), stdin=stdin, stdout=out, stderr=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 5
            assert (tmp_path / "out").read_bytes().count(b"\n") == number
            peaks.append(usage.ru_maxrss)
        assert peaks[1] - peaks[0] < 2048, peaks  # KB


class Terminal:
    """A terminal, and all that is written to it until it is let go."""

    def __init__(self) -> None:
        self._master, self.end = pty.openpty()
        self.written = ""

    def heard(self) -> str:
        """What has been written so far."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # nobody has it open any more
                break
            self.written += piece.decode()
        return self.written

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._master)
        os.close(self.end)


class TestProgress:
    def feed(self, process: subprocess.Popen[bytes], terminal: Terminal, enough: str) -> None:
        """Gives it lines until the terminal shows enough, or for longer than it waits before it shows anything."""
        assert process.stdin is not None
        stdin = process.stdin
        end = time.monotonic() + lines.SHOWN_AFTER + lines.SHOWN_EVERY

        def told() -> bool:
            stdin.write(b"ada\n\n")
            stdin.flush()
            return enough in terminal.heard() if enough else time.monotonic() > end

        until(told, "progress")
        stdin.close()
        process.wait(PATIENCE)

    def test_a_terminal_shows_how_far_it_is_and_is_left_clean(self, store: str, tmp_path: Path) -> None:
        words = [*COMMAND, "variation", "who", "--store", store, "--context", "-"]
        with Terminal() as terminal, (tmp_path / "out").open("wb") as out:
            process = subprocess.Popen(words, env=environment(), stdin=subprocess.PIPE, stdout=out, stderr=terminal.end)
            self.feed(process, terminal, " with errors")
            shown = terminal.heard()
        assert process.returncode == 5
        # Whatever is said later stands on a line of its own.
        told = [line.rpartition("\r")[2] for line in shown.replace("\r\n", "\n").split("\n")]
        assert told[0] == "ldreader: line 2: context key must be a non-empty string"
        assert {line.partition(": line ")[0] for line in told[:-1]} == {"ldreader"}
        assert told[-1] == ""

    def test_a_terminal_that_shows_the_answers_shows_nothing_else(self, store: str) -> None:
        words = [*COMMAND, "variation", "who", "--store", store, "--context", "-", "--default", "0"]
        with Terminal() as terminal:
            process = subprocess.Popen(
                words, env=environment(), stdin=subprocess.PIPE, stdout=terminal.end, stderr=terminal.end
            )
            self.feed(process, terminal, "")
            shown = terminal.heard()
        assert " lines, " not in shown
        assert '"ada"\r\n' in shown
