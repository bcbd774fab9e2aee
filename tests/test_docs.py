"""The documentation's pages: their programs run, their table names tests that exist, and moving changes no answer."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import re
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
from ldclient.config import Config

from ldreader import cli
from ldreader.big_segments import context_hash
from ldreader.cli import lines
from ldreader.cli.options import COMMANDS
from tests.flags import flag, in_segment, rule, segment
from tests.servers import RedisServer
from tests.test_readme import fenced_blocks, place  # noqa: F401

PROJECT = Path(__file__).parent.parent
DOCS = PROJECT / "docs"
SHOP = json.loads((PROJECT / "examples" / "shop.json").read_text(encoding="utf-8"))


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "blocks"), [("observing.md", 4), ("flask.md", 3)])
def test_each_program_prints_what_is_shown_below_it(
    name: str, blocks: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    names: dict[str, Any] = {"__name__": "page"}
    programs = [block for block in fenced_blocks(page(name)) if block.language == "python"]
    assert len(programs) == blocks
    for block in programs:
        exec(compile("\n" * block.line + block.text, name, "exec"), names)
        assert capsys.readouterr().out == block.output, f"{name}, line {block.line}"


class TestFlask:
    def test_every_key_of_the_configuration_is_in_the_table(self) -> None:
        source = (PROJECT / "ldreader" / "integrations" / "flask.py").read_text(encoding="utf-8")
        keys = re.findall(r'config\.get\("(\w+)"\)', source)
        assert keys == re.findall(r"^\| `(LDREADER_\w+)` \|", page("flask.md"), re.MULTILINE)


class TestCommandLine:
    @pytest.mark.usefixtures("place")
    def test_each_shell_block_prints_what_is_shown_below_it(self) -> None:
        blocks = [block for block in fenced_blocks(page("cli.md")) if block.language == "sh"]
        assert len(blocks) == 4
        for block in blocks:
            script = f"export LDREADER_STORE=file:examples/shop.json\n{block.text}"
            done = subprocess.run(["sh", "-e", "-c", script], capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stdout) == (0, block.output), f"cli.md, line {block.line}"

    def test_every_command_and_exit_code_is_told(self) -> None:
        text = page("cli.md")
        assert [name for name in COMMANDS if f"\nldreader {name} " not in text] == []
        told = set(re.findall(r"^\| (\d) \|", text, re.MULTILINE))
        codes = {cli.ANSWERED, cli.FALSE, cli.USAGE, cli.NOT_FOUND, cli.UNREACHABLE, cli.MALFORMED}
        assert told == set(map(str, codes))

    def test_its_numbers_are_those_of_the_code(self) -> None:
        assert (lines.GIVE_UP, lines.PAUSE) == (5, 1.0)
        assert "a pause of a second. After five such lines" in " ".join(page("cli.md").split())


class TestDeployment:
    def test_every_link_leads_to_a_file(self) -> None:
        links = re.findall(r"\]\(([^)]+)\)", page("deployment.md"))
        assert links
        assert [link for link in links if not (DOCS / link).exists()] == []


class TestLambda:
    def test_the_handler_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LDREADER_STORE", f"file:{PROJECT}/examples/shop.json")
        (block,) = [block for block in fenced_blocks(page("lambda.md")) if block.language == "python"]
        names: dict[str, Any] = {"__name__": "lambda"}
        exec(compile("\n" * block.line + block.text, "lambda.md", "exec"), names)
        user = {"kind": "user", "key": "ada", "country": "GB", "plan": "gold"}
        assert names["handler"]({"user": user}, None) == {"checkout": "new"}
        assert names["handler"]({}) == {"checkout": "old"}

    def test_every_link_leads_to_a_file(self) -> None:
        links = [link for link in re.findall(r"\]\(([^)]+)\)", page("lambda.md")) if "://" not in link]
        assert links
        assert [link for link in links if not (DOCS / link).exists()] == []


@cache
def names_in(file: str) -> set[str]:
    """The tests in a file, by the names that pytest gives them."""
    found = set()
    for node in ast.parse((PROJECT / "tests" / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{member.name}" for member in node.body if isinstance(member, ast.FunctionDef)}
    return found


class TestComparison:
    ROWS = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page("comparison.md").splitlines()
        if line.startswith("|") and not line.startswith(("|---", "| Feature", "| **"))
    ]

    def test_each_yes_names_a_test_that_there_is(self) -> None:
        named = 0
        for feature, *_, ours in self.ROWS:
            if not ours.startswith("yes"):
                assert ours.startswith("no"), feature
                continue
            found = re.findall(r"`(\w+\.py)::([\w:]+)`", ours)
            assert found, feature
            for file, test in found:
                assert test in names_in(f"test_{file}"), f"{feature}: {file}::{test}"
                named += 1
        assert named >= 40

    def test_each_row_says_something_of_each_library(self) -> None:
        assert len(self.ROWS) >= 44
        assert all(len(row) == 4 and all(row) for row in self.ROWS)


class TestMoving:
    @pytest.fixture
    def url(self, redis_server: RedisServer) -> Iterator[str]:
        """A Redis with the shop's flags, and a big segment, where the page's code looks for them."""
        big = segment("first-customers", unbounded=True, generation=2)
        flags = {**SHOP["flags"], "early-access": flag("early-access", rules=[rule(in_segment("first-customers"))])}
        membership = f"shop:big_segment_include:{context_hash('ada')}"
        with redis.Redis.from_url(redis_server.url) as client:
            for kind, items in (("features", flags), ("segments", {**SHOP["segments"], "first-customers": big})):
                client.hset(f"shop:{kind}", mapping={key: json.dumps(item) for key, item in items.items()})
            client.set("shop:$inited", "")
            client.sadd(membership, "first-customers.g2")
            client.set("shop:big_segments_synchronized_on", int(time.time() * 1000))
            yield redis_server.url
            client.delete(*client.keys("shop:*"))

    def test_the_same_code_prints_the_same_with_both_libraries(
        self,
        url: str,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        caplog.set_level(logging.CRITICAL + 1)
        monkeypatch.chdir(PROJECT)
        blocks = [block.text for block in fenced_blocks(page("moving.md")) if block.language == "python"]
        programs = list(zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True))
        assert len(programs) == 3
        answers = []
        for before, after, code in programs:
            assert "ldreader" not in before
            assert "ldclient" not in after + code
            printed = []
            for construction in (before, after):
                names: dict[str, Any] = {"__name__": "moving"}
                exec(construction.replace("redis://localhost:6379", url), names)
                exec(code, names)
                printed.append(capsys.readouterr().out)
            assert printed[0] == printed[1]
            answers.append(printed[1].splitlines())
        over_redis, in_tests, from_files = answers
        assert len(over_redis) == programs[0][2].count("print(")
        assert over_redis[:2] == ["True", "default dark"]
        assert "'bigSegmentsStatus': 'HEALTHY'" in over_redis[2] and "RULE_MATCH" in over_redis[2]
        assert over_redis[-3] == "new"
        assert [line.split()[-1] for line in in_tests] == ["dark", "dark", "dark", "light"]
        assert len(set(in_tests)) == 4
        assert len(set(from_files)) == 2

    def test_the_names_on_the_right_of_the_table_exist(self) -> None:
        import ldreader

        rows = [line for line in page("moving.md").splitlines() if line.startswith("| ")]
        right = " ".join(line.rsplit(" | ", 1)[-1] for line in rows)
        modules = re.findall(r"`ldreader\.(\w+)`", right)
        assert modules == ["hooks", "migrations", "testdata"]
        for module in modules:
            __import__(f"ldreader.{module}")
        for name in ("FlagReader", "TestData", "RedisRequester", "FileRequester"):
            assert f"{name}(" in right or f"{name}." in right
            assert name in ldreader.__all__
        given = inspect.signature(ldreader.FlagReader).parameters
        (same,) = [row.split(" | ")[0] for row in rows if "the same names" in row]
        options = re.findall(r"`(\w+)`", same)
        assert len(options) == 6
        assert set(options) <= set(given) & set(inspect.signature(Config).parameters)
