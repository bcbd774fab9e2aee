"""The README's programs run, one after the other as a reader would try them, and print what it shows."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from ldreader import FlagReader, cli, detail
from ldreader.cli.options import COMMANDS
from ldreader.requesters import open_requester
from tests.servers import RedisServer

PROJECT = Path(__file__).parent.parent
TEXT = (PROJECT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block, and the output that is shown right below it."""

    language: str
    text: str
    output: str
    line: int


def fenced_blocks(text: str) -> list[Block]:
    """The blocks of a text; a ``text`` block with only an empty line before it is the output of the block above."""
    found: list[Block] = []
    end = -1
    for match in re.finditer(r"^```(\w*)\n(.*?)^```\n", text, re.DOTALL | re.MULTILINE):
        language, content = match.groups()
        if language == "text" and found and text[end : match.start()] == "\n":
            found[-1] = found[-1]._replace(output=content)
        else:
            found.append(Block(language, content, "", text.count("\n", 0, match.start()) + 1))
        end = match.end()
    return found


BLOCKS = fenced_blocks(TEXT)


def of_language(language: str) -> list[Block]:
    """The blocks in one language."""
    return [block for block in BLOCKS if block.language == language]


def page(name: str) -> str:
    """A file of the project."""
    return (PROJECT / name).read_text(encoding="utf-8")


def plain(source: str) -> list[str]:
    """The statements of a program, each imported name one of them, without what is for readers and type checkers."""
    found = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ImportFrom):
            found += [f"from {statement.module} import {alias.name}" for alias in statement.names]
            continue
        if isinstance(statement, ast.FunctionDef):
            statement.returns = None
            for argument in statement.args.args:
                argument.annotation = None
            if ast.get_docstring(statement) is not None:
                del statement.body[0]
        found.append(ast.unparse(statement))
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the examples and with the command ldreader at hand, where the blocks run."""
    shutil.copytree(PROJECT / "examples", tmp_path / "examples")
    command = tmp_path / "bin" / "ldreader"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ldreader "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LDREADER_STORE", raising=False)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    return tmp_path


def run_programs(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The names that the Python blocks leave, each block having printed what is shown below it."""
    names: dict[str, Any] = {"__name__": "readme"}
    for block in of_language("python"):
        # The lines of an error are then those of the README.
        exec(compile("\n" * block.line + block.text, "README.md", "exec"), names)
        assert capsys.readouterr().out == block.output, f"README.md, line {block.line}"
    return names


class TestBlocks:
    def test_each_block_says_whether_it_can_be_run(self) -> None:
        assert {block.language for block in BLOCKS} == {"python", "sh", "text"}
        assert TEXT.count("```") % 2 == 0

    def test_output_belongs_to_the_block_right_above_it(self) -> None:
        one, other, last = fenced_blocks(
            "```python\na\n```\n\n```text\nb\n```\n\nc\n\n```text\nd\n```\n```sh\ne\n```\n"
        )
        assert one == Block("python", "a\n", "b\n", 1)
        assert other == Block("text", "d\n", "", 11)
        assert last == Block("sh", "e\n", "", 14)

    def test_the_first_program_is_short_and_shows_what_it_prints(self) -> None:
        first = BLOCKS[0]
        assert first.language == "python"
        assert first.output
        assert len([line for line in first.text.splitlines() if line]) <= 10
        assert len(re.findall(r"[^.]\.\s", TEXT.partition("\n\n")[2].partition("```")[0])) == 1


@pytest.mark.usefixtures("place")
class TestPrograms:
    def test_each_python_block_prints_what_is_shown_below_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        names = run_programs(capsys)
        names["reader"].close()
        names["db"].close()

    def test_the_flask_application_answers(self, capsys: pytest.CaptureFixture[str]) -> None:
        client = run_programs(capsys)["app"].test_client()
        assert client.get("/checkout?key=ada&country=GB&plan=gold").json == {"checkout": "new"}
        assert client.get("/checkout").json == {"checkout": "old"}
        assert client.get("/gift-cards?key=ada").status_code == 404

    def test_the_flask_application_is_the_example_less_its_types(self) -> None:
        (block,) = (block.text for block in of_language("python") if "import Flags" in block.text)
        assert [part for part in plain(block) if part not in plain(page("examples/flask_app.py"))] == []

    def test_the_lambda_handler_answers_for_another_user_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        handler = run_programs(capsys)["handler"]
        assert handler({"user": {"kind": "user", "key": "eve"}}, None) == {"checkout": "old"}
        assert handler({"user": {}}, None) == {"checkout": "old"}

    def test_the_store_of_ones_own_keeps_to_the_protocol(self, capsys: pytest.CaptureFixture[str]) -> None:
        names = run_programs(capsys)
        db = names["sqlite3"].connect(":memory:")
        with FlagReader(names["SqliteRequester"](db)) as reader:
            detail = reader.variation_detail("letter", names["ada"], "z")
            assert detail.reason == {"kind": "ERROR", "errorKind": "EXCEPTION"}  # there is no table
            db.execute("CREATE TABLE item (kind, key, json)")
            detail = reader.variation_detail("letter", names["ada"], "z")
            assert detail.reason == {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"}
            db.execute("INSERT INTO item VALUES ('features', 'letter', ?)", ['{"on": false, "variations": []}'])
            assert reader.variation("letter", names["ada"], "z") == "z"
            assert reader.all_flags_state(names["ada"]).to_values_map() == {"letter": None}

    def test_each_shell_block_prints_what_is_shown_below_it(self, place: Path) -> None:
        blocks = of_language("sh")
        assert blocks
        for block in blocks:
            done = subprocess.run(["sh", "-e", "-c", block.text], capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stdout) == (0, block.output)
        assert (place / "flags-of-ada.json").read_text(encoding="utf-8").endswith("}\n")


class TestFacts:
    def test_every_link_leads_to_a_file(self) -> None:
        links = re.findall(r"\]\(([^)]+)\)", TEXT)
        assert links
        assert [link for link in links if not (PROJECT / link).exists()] == []

    def test_the_two_commands_are_targets_of_the_makefile(self) -> None:
        targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        named = set(re.findall(r"`make ([a-z-]+)`", TEXT))
        assert named == {"demo", "test"}
        assert named <= set(targets)

    def test_the_extras_are_those_of_the_package(self) -> None:
        extras = re.findall(r"^([a-z]+) =$", (PROJECT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)
        named = set(re.findall(r"'\.\[([a-z]+)\]'", TEXT))
        assert named == {"redis", "dynamodb", "consul", "yaml", "flask"}
        assert named <= set(extras)

    def test_every_kind_of_error_is_in_the_table(self) -> None:
        kinds = {value for name, value in vars(detail).items() if name.isupper() and name == value}
        assert set(re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| [^|]*\|$", TEXT, re.MULTILINE)) == kinds

    def test_every_exit_code_is_in_the_table(self) -> None:
        codes = {cli.ANSWERED, cli.FALSE, cli.USAGE, cli.NOT_FOUND, cli.UNREACHABLE, cli.MALFORMED}
        assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)} == codes

    def test_every_command_is_shown(self) -> None:
        shown = "".join(block.text for block in of_language("sh"))
        assert [name for name in COMMANDS if f"ldreader {name} " not in shown] == []

    @pytest.mark.parametrize(
        "url",
        ["rediss://localhost", "unix:///path/to/redis.sock?db=0&prefix=a&timeout=1", "file:///absolute/path.json"],
    )
    def test_each_form_of_url_opens(self, url: str) -> None:
        assert re.split(r"localhost|\?", url)[0] in TEXT
        open_requester(url).close()

    def test_the_redis_user_that_it_names_suffices(self, redis_server: RedisServer) -> None:
        (command,) = (block.text.strip() for block in BLOCKS if block.text.startswith("ACL"))
        with redis.Redis.from_url(redis_server.url) as client:
            client.execute_command(*command.replace("launchdarkly:", "readme:").split())
            try:
                client.hset(
                    "readme:features", "yes", '{"on": true, "variations": [1], "fallthrough": {"variation": 0}}'
                )
                url = redis_server.url.replace("redis://", "redis://flags:PASSWORD@")
                with FlagReader.from_url(f"{url}?prefix=readme") as reader:
                    with reader.request({"kind": "user", "key": "ada"}) as flags:
                        assert flags.variation("yes", 0) == 1
                    assert reader.all_flags_state({"kind": "user", "key": "ada"}).to_values_map() == {"yes": 1}
            finally:
                client.execute_command("ACL", "DELUSER", "flags")
                client.delete("readme:features")
