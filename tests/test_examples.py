"""The examples run as their first lines say, on the file beside them and on a store that is named."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ldreader import FlagReader
from tests import sam
from tests.servers import RedisServer
from tests.test_imports import DEAR

PROJECT = Path(__file__).parent.parent
EXAMPLES = PROJECT / "examples"
SHOP = json.loads((EXAMPLES / "shop.json").read_text(encoding="utf-8"))


def run(*words: str, **environment: str) -> str:
    """What Python prints for these words, run from the project's directory as a user would; warnings are errors."""
    inherited = {name: value for name, value in os.environ.items() if name != "LDREADER_STORE"}
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=PROJECT,
        env={**inherited, "PYTHONPATH": str(PROJECT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def views(*paths: str, **environment: str) -> list[Any]:
    """What the Flask example answers to these paths, loaded as the command ``flask --app`` loads it."""
    program = (
        "import json, sys\n"
        "from flask.cli import ScriptInfo\n"
        "client = ScriptInfo('examples/flask_app.py').load_app().test_client()\n"
        "answers = [client.get(path) for path in sys.argv[1:]]\n"
        "print(json.dumps([answer.json or [answer.status_code, answer.text] for answer in answers]))"
    )
    answers: list[Any] = json.loads(run("-c", program, *paths, **environment))
    return answers


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[str]:
    """The URL of a store with the shop's flags, but new-checkout is off, there are gift cards, and shipping is free."""
    flags = SHOP["flags"]
    changed = {
        "gift-cards": flags["gift-cards"] | {"on": True, "rules": [], "fallthrough": {"variation": 0}},
        "new-checkout": flags["new-checkout"] | {"on": False},
        "shipping-prices": flags["shipping-prices"] | {"variations": [{"standard": 0, "currency": "GBP"}] * 3},
    }
    with redis.Redis.from_url(redis_server.url) as client:
        for kind, items in (("features", flags | changed), ("segments", SHOP["segments"])):
            client.hset(f"examples:{kind}", mapping={key: json.dumps(item) for key, item in items.items()})
        yield f"{redis_server.url}?prefix=examples"
        client.delete("examples:features", "examples:segments")


class TestScript:
    def test_it_decides_for_the_customer_that_is_named(self) -> None:
        assert run("examples/script.py") == "ada sees the new checkout; shipping costs 3.95 GBP\n"
        assert run("examples/script.py", "grace") == "grace sees the old checkout; shipping costs 3.95 GBP\n"

    def test_it_reads_the_database_that_is_named(self, store: str) -> None:
        printed = run("examples/script.py", LDREADER_STORE=store)
        assert printed == "ada sees the old checkout; shipping costs 0 GBP\n"


class TestFlaskApp:
    """What the browser makes of its page is in ``test_bootstrap.py``."""

    def test_each_visitor_has_a_checkout_of_their_own(self) -> None:
        assert views("/checkout?key=ada&country=GB&plan=gold", "/checkout?key=eve", "/checkout") == [
            {"checkout": "new"},
            {"checkout": "old"},
            {"checkout": "old"},
        ]

    def test_the_page_has_the_servers_decision_and_the_flags_that_the_browser_may_see(self) -> None:
        ((status, page),) = views("/?key=ada&country=GB&plan=gold")
        assert status == 200
        assert "Try our new checkout" in page
        bootstrap = json.loads(page.partition('id="flags">')[2].partition("</script>")[0])
        assert bootstrap["$valid"] is True
        assert set(bootstrap["$flagsState"]) == {"banner-text", "gift-cards", "items-per-page", "new-checkout"}

    def test_a_view_behind_a_flag_is_there_only_when_it_is_true(self, store: str) -> None:
        assert views("/gift-cards")[0][0] == 404
        assert views("/gift-cards", LDREADER_STORE=store) == [{"values": [10, 25, 50]}]

    def test_it_reads_the_database_that_is_named(self, store: str) -> None:
        assert views("/checkout?key=ada&country=GB&plan=gold", LDREADER_STORE=store) == [{"checkout": "old"}]

    def test_the_command_flask_knows_its_routes(self) -> None:
        printed = run("-m", "flask", "--app", "examples/flask_app.py", "routes")
        assert "/gift-cards" in printed


class TestLambdaHandler:
    def test_it_answers_with_the_prices_for_the_user_of_the_event(self) -> None:
        answer = json.loads(run("examples/lambda_handler.py"))
        assert answer["statusCode"] == 200
        assert answer["headers"] == {}
        assert json.loads(answer["body"]) == SHOP["flags"]["shipping-prices"]["variations"][1]

    def test_it_reads_the_database_that_is_named(self, store: str) -> None:
        answer = json.loads(run("examples/lambda_handler.py", LDREADER_STORE=store))
        assert json.loads(answer["body"]) == {"standard": 0, "currency": "GBP"}

    def test_the_default_is_marked_as_one(self) -> None:
        program = (
            "import json, logging, sys\n"
            "sys.path.insert(0, 'examples')\n"
            "logging.disable()\n"
            "from lambda_handler import handler\n"
            "print(json.dumps(handler({'user': {'kind': 'user'}}, None)))"
        )
        answer = json.loads(run("-c", program))
        assert answer["headers"] == {"cache-control": "no-store"}
        assert json.loads(answer["body"]) == {"currency": "EUR", "standard": 5}


class TestCgiPage:
    """What web servers make of it is in test_cgi.py."""

    ADA = "customer=ada&country=GB&plan=gold"

    def page(self, query: str, **environment: str) -> list[str]:
        """The lines of the body that it prints when it is run as a program."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {"PATH": path, "PYTHONPATH": str(PROJECT), "QUERY_STRING": query, **environment}
        done = subprocess.run(["examples/cgi_page.py"], cwd=PROJECT, env=variables, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        assert head == b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d" % len(body)
        return body.decode().splitlines()

    def test_it_decides_for_the_visitor_of_the_query_or_the_cookie(self) -> None:
        assert self.page(self.ADA) == ["Welcome to the shop", "You see the new checkout."]
        assert self.page("country=GB&plan=gold", HTTP_COOKIE="a=b; customer=grace")[1] == "You see the old checkout."
        assert self.page("customer=%C3%A4+b&locale=de-CH")[0] == "Bis Sonntag: kostenloser Versand für alle"
        assert len(self.page("")) == 2

    def test_it_reads_the_database_that_is_named(self, store: str) -> None:
        assert self.page(self.ADA, LDREADER_STORE=store)[1] == "You see the old checkout."

    def test_it_loads_nothing_that_costs_more_than_the_evaluations(self, store: str) -> None:
        program = (
            "import sys\n"
            "before = set(sys.modules)\n"
            "sys.path.insert(0, '')\n"
            "path = 'examples/cgi_page.py'\n"
            "with open(path, encoding='utf-8') as file:\n"
            "    exec(compile(file.read(), path, 'exec'), {'__name__': '__main__', '__file__': path})\n"
            "print(*set(sys.modules) - before)"
        )
        for address in (store, ""):
            printed = run("-I", "-S", "-c", program, QUERY_STRING=self.ADA, LDREADER_STORE=address)
            loaded = set(printed.splitlines()[-1].split())
            assert "ldreader.reader" in loaded
            assert loaded & DEAR == set()


class TestTheTemplateOfTheLambdaHandler:
    """Its policy is held against what is sent by tests/test_dynamodb_requester.py."""

    FUNCTION = sam.function({"FlagsTable": "flags", "Prefix": "staging"})

    def test_nothing_is_wrong_with_it(self) -> None:
        pytest.importorskip("cfnlint")
        program = "import sys; from cfnlint.runner import main; sys.exit(main())"
        assert run("-W", "ignore", "-c", program, "examples/template.yaml") == ""

    def test_the_handler_is_the_example(self) -> None:
        module, _, name = self.FUNCTION["Handler"].rpartition(".")
        assert run("-c", f"from examples.{module} import {name}; print({name}.__wrapped__.__name__)") == f"{name}\n"

    def test_the_store_is_the_table_by_that_prefix_and_needs_no_package(
        self, aws_environment: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = self.FUNCTION["Environment"]["Variables"]["LDREADER_STORE"]
        assert url == "dynamodb://flags?prefix=staging"
        for package in ("boto3", "botocore"):
            monkeypatch.setitem(sys.modules, package, None)
        FlagReader.from_url(url).close()

    def test_the_layer_is_the_one_that_is_made(self) -> None:
        made = re.search(r"^layer: .*: (build/\S+\.zip)$", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert made is not None
        template = sam.TEMPLATE.read_text(encoding="utf-8")
        assert f"ContentUri: ../{made[1]}\n" in template
        assert f"make layer PYTHON={self.FUNCTION['Runtime']} " in template  # bytecode is good for one release


class TestEveryExample:
    def test_all_are_tested_here(self) -> None:
        found = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
        assert found == {
            "shop.json",
            "script.py",
            "cgi_page.py",
            "flask_app.py",
            "lambda_handler.py",
            "relay_sink.py",
            "sqlite_requester.py",
            "template.yaml",
        }

    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
    def test_it_says_what_it_shows_and_needs_and_how_to_run_it_and_fits_a_screen(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        shows, needs, run_it, reads = (ast.get_docstring(ast.parse(text)) or "").replace("\n\n", "\n").split("\n")
        assert shows.startswith("Shows ")
        assert needs.startswith("Needs ldreader")
        assert run_it.startswith("Run it ")
        assert f"examples/{path.name}" in run_it
        assert "LDREADER_STORE" in reads
        assert len(text.splitlines()) <= 48

    def test_the_shop_holds_its_items_under_their_own_keys(self) -> None:
        for section in ("flags", "segments"):
            for key, item in SHOP[section].items():
                assert item["key"] == key
