"""Imports point one way, and an evaluation imports little: read from the import statements, then seen in a process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ldreader
from tests.aws import DynamoDBServer
from tests.consul_agent import ConsulAgent
from tests.servers import RedisServer

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "ldreader"
SHOP = PROJECT / "examples" / "shop.json"

LAYERS = (
    ("__main__", "integrations"),
    ("cli",),
    ("reader",),
    ("observed",),
    ("request",),
    ("events", "hooks", "migrations"),
    ("big_segments", "read_ahead"),
    ("state",),
    ("evaluator",),
    ("segments",),
    ("bucketing", "operators"),
    ("context", "schema", "detail"),
    ("attribute", "errors", "sampling", "twins"),
)
"""The steps of a flag's journey, the caller's end first: a module imports only from the lines below its own."""

BESIDE: dict[str, tuple[set[str], set[str]]] = {
    "requesters": ({"errors", "schema", "twins", "wire"}, {"integrations", "reader", "testing"}),
    "wire": ({"twins"}, {"requesters"}),
    "testing": ({"errors", "requesters"}, set()),
    "testdata": ({"schema"}, set()),
    "log": (set(), {"request", "events", "hooks", "migrations", "observed", "integrations"}),
}
"""What stands beside the chain: by name, whom it may import and who may import it."""

JSON_TEXT = {"FEATURES", "SEGMENTS", "dumps", "loads"}
"""What requesters may use of schema: the names of the kinds and JSON text, nothing of flags."""

PURE = ("evaluator", "segments", "bucketing", "operators", "context", "schema", "detail", "attribute", "errors")
FOR_VALUES = {"__future__", "collections.abc", "hashlib", "json", "re"}
"""All that the evaluator, and what it rests on, may import from the standard library: no I/O is among it."""

DEAR = {"argparse", "contextlib", "dataclasses", "datetime", "enum", "functools", "logging", "operator", "re"}
DEAR |= {
    "base64",
    "hashlib",
    "inspect",
    "json",
    "socket",
    "ssl",
    "struct",
    "threading",
    "typing",
    "urllib",
    "urllib.parse",
}
"""Modules that cost a large part of an evaluation, or more."""

OFF_THE_COLD_PATH = {
    "cli.completion",
    "cli.lines",
    "cli.parser",
    "requesters.protocol",
    "requesters.redis_py",
    "requesters.yaml",
    "testing",
}
OFF_THE_COLD_PATH |= {"requesters.boto3", "requesters.hurry", "requesters.python_consul", "testdata"}
OFF_THE_COLD_PATH |= {"events", "hooks", "migrations", "observed", "sampling", "integrations.flask"}
"""What no evaluation from a plain command line or a JSON file imports, so that it may import what it likes."""

PACKAGES = {
    "twins": {"_sha2", "_sha256"},  # one of them in each release of Python
    "requesters.redis_py": {"redis"},
    "requesters.boto3": {"botocore"},
    "requesters.hurry": {"urllib3"},
    "requesters.python_consul": {"requests"},
    "requesters.yaml": {"yaml"},
    "integrations.flask": {"click", "flask", "markupsafe", "werkzeug"},
    "integrations.aws_lambda": {"snapshot_restore_py"},
    "testing": {"pytest"},
}
"""Who imports packages that are not in the standard library."""

WHOLLY_OPTIONAL = {"requesters.yaml", "testing", "integrations.flask"}
"""Modules that are themselves imported only by those who have the package, so that it may stand at their top."""


class Import(NamedTuple):
    """One imported name: who imports what from where, and when."""

    importer: str
    module: str
    name: str | None
    at_top: bool
    """At module level, so that importing the importer pays for it."""

    @property
    def step(self) -> str | None:
        """The part of ldreader that it is from, None when it is from elsewhere."""
        if self.module == "ldreader":
            return self.name
        package, _, rest = self.module.partition(".")
        return rest.partition(".")[0] if package == "ldreader" else None


def name_of(path: Path) -> str:
    """The module's name within ldreader: ``requesters.redis``; "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) <= 2 else parts)


def imports(source: str, module: str, package: str) -> Iterator[Import]:
    """Every import that a source can execute; those for the type checker alone are left out."""

    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.orelse:
                yield from walk(statement, at_top)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, None, at_top)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(module, origin, alias.name, at_top)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    yield from walk(ast.parse(source), True)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
IMPORTS = [
    found
    for name, path in SOURCES.items()
    for found in imports(
        path.read_text(encoding="utf-8"), name, ".".join(["ldreader", *path.relative_to(PACKAGE).parts[:-1]])
    )
]


def misplaced(found: Import) -> str | None:
    """What is wrong with an import within ldreader, None when nothing is."""
    importer, step = found.importer.partition(".")[0], found.step
    if step is None or step == importer:
        return None  # within one step, the files know each other
    if step == "__version__" and importer == "cli":
        return None
    height = {name: level for level, names in enumerate(reversed(LAYERS)) for name in names}
    if step in BESIDE:
        allowed = importer in BESIDE[step][1]
    elif importer in BESIDE:
        allowed = step in BESIDE[importer][0] and (step != "schema" or found.name in JSON_TEXT)
    else:
        allowed = step in height and height[step] < height[importer]
    return None if allowed else f"ldreader.{found.importer} must not import {found.name or ''} from {found.module}"


class TestTheStatements:
    def test_every_module_has_its_place(self) -> None:
        placed = {"", *BESIDE, *(name for layer in LAYERS for name in layer)}
        assert {name.partition(".")[0] for name in SOURCES} == placed

    def test_imports_point_one_way(self) -> None:
        assert [wrong for found in IMPORTS if (wrong := misplaced(found))] == []

    @pytest.mark.parametrize(
        ("importer", "statement"),
        [
            ("evaluator", "from .request import Request"),
            ("evaluator", "from . import request"),
            ("evaluator", "from .requesters import open_requester"),
            ("evaluator", "from .requesters.redis import RedisRequester"),
            ("evaluator", "import ldreader.request"),
            ("evaluator", "def late():\n    from .reader import FlagReader"),
            ("evaluator", "from ldreader import FlagReader"),
            ("evaluator", "from . import log"),
            ("operators", "from .bucketing import bucket"),
            ("attribute", "from .context import Context"),
            ("errors", "from .detail import EvaluationDetail"),
            ("detail", "from .context import Context"),
            ("request", "from .requesters.protocol import FeatureRequester"),
            ("reader", "from .cli import main"),
            ("cli.evaluate", "from ..requesters.file import FileRequester"),
            ("requesters.redis", "from ..schema import decode"),
            ("requesters.redis", "from ..context import Context"),
            ("requesters.redis", "from ..log import error"),
            ("requesters.redis", "from ..reader import FlagReader"),
            ("log", "from .errors import StoreError"),
            ("testing", "from .reader import FlagReader"),
            ("request", "from .observed import ObservedRequest"),
            ("migrations", "from .events import Batch"),
            ("evaluator", "from .events import Batch"),
            ("testdata", "from .schema import decode"),
            ("requesters.file", "from ..testing import RequesterBehaviour"),
            ("cli.evaluate", "from ..integrations.flask import Flags"),
        ],
    )
    def test_an_import_the_other_way_is_found(self, importer: str, statement: str) -> None:
        package = ".".join(["ldreader", *importer.split(".")[:-1]])
        assert [misplaced(found) for found in imports(statement, importer, package)] != [None]

    def test_imports_for_the_type_checker_are_free(self) -> None:
        source = "if TYPE_CHECKING:\n    from .reader import FlagReader\nelse:\n    import json"
        assert [found.module for found in imports(source, "errors", "ldreader")] == ["json"]

    def test_the_evaluator_and_what_it_rests_on_do_no_io(self) -> None:
        found = {found.module for found in IMPORTS if found.importer in PURE and found.step is None}
        assert found - FOR_VALUES == set()

    def test_the_package_itself_imports_a_name_when_it_is_used(self) -> None:
        assert [found.module for found in IMPORTS if found.importer == "" and found.at_top] == []

    def test_no_module_imports_an_optional_package_before_it_is_needed(self) -> None:
        for found in IMPORTS:
            package = found.module.partition(".")[0]
            if package == "ldreader" or package in sys.stdlib_module_names:
                continue
            assert package in PACKAGES.get(found.importer, set()), found
            assert not found.at_top or found.importer in WHOLLY_OPTIONAL, found

    def test_the_cold_path_imports_nothing_dear_at_module_level(self) -> None:
        assert set(SOURCES) > OFF_THE_COLD_PATH
        at_top = [found for found in IMPORTS if found.at_top and found.importer not in OFF_THE_COLD_PATH]
        assert [found for found in at_top if found.module in DEAR] == []

    def test_nothing_on_the_cold_path_imports_at_module_level_what_is_off_it(self) -> None:
        off = {f"ldreader.{name}" for name in OFF_THE_COLD_PATH}
        at_top = [found for found in IMPORTS if found.at_top and found.importer not in OFF_THE_COLD_PATH]
        assert [found for found in at_top if {found.module, f"{found.module}.{found.name}"} & off] == []


FRESH = f"""
import json, sys
import hashlib, os  # the public modules that an evaluation uses, with all that these import
before = set(sys.modules)
sys.path.insert(0, {str(PROJECT)!r})

def report(**more):
    tasks = "/proc/self/task"
    if os.path.isdir(tasks):
        threads = len(os.listdir(tasks))
    else:
        import threading
        threads = threading.active_count()
    print(json.dumps({{"loaded": sorted(set(sys.modules) - before), "threads": threads, **more}}))
"""


class Report(NamedTuple):
    """What a fresh interpreter had at the end."""

    loaded: set[str]
    """The modules besides json, hashlib and os and what these import."""
    threads: int
    answer: Any
    printed: list[str]

    @property
    def strange(self) -> set[str]:
        """The modules of others."""
        # The machinery that imports is there in any case; its public face is used by the lazy names.
        machinery = {"__future__", "importlib", "importlib._bootstrap", "importlib._bootstrap_external", "warnings"}
        return {name for name in self.loaded if not name.startswith("ldreader")} - machinery


def fresh(program: str) -> Report:
    """What a program leaves in an interpreter of its own, without site packages or anybody's settings."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", FRESH + program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    *printed, last = done.stdout.splitlines()
    found = json.loads(last)
    return Report(set(found["loaded"]), found["threads"], found.get("answer"), printed)


CONTEXT = {"kind": "user", "key": "ada", "country": "GB", "plan": "gold"}


class TestAFreshInterpreter:
    def test_importing_the_package_imports_nothing_else(self) -> None:
        assert fresh("import ldreader\nreport()").loaded == {"ldreader"}

    def test_an_evaluation_from_a_file_loads_no_client_and_starts_no_thread(self) -> None:
        found = fresh(
            "from ldreader import Context, FlagReader\n"
            f"with FlagReader.from_url({f'file:{SHOP}'!r}) as reader:\n"
            f"    with reader.request(Context.from_dict({CONTEXT!r})) as flags:\n"
            "        answer = [flags.variation('new-checkout', None), flags.variation('banner-text', None)]\n"
            "report(answer=answer)"
        )
        assert found.answer == [True, "Welcome to the shop"]
        assert found.strange == set()
        assert found.threads == 1
        assert {"ldreader.reader", "ldreader.requesters.file"} <= found.loaded
        assert not found.loaded & {f"ldreader.{name}" for name in (*OFF_THE_COLD_PATH, "cli")}

    def test_the_plain_command_line_loads_no_argparse_and_starts_no_thread(self) -> None:
        words = ["variation", "new-checkout", "--store", f"file:{SHOP}", "--context", json.dumps(CONTEXT), "--detail"]
        found = fresh(f"from ldreader.cli import main\nreport(answer=main({words!r}))")
        assert found.answer == 0
        assert json.loads(found.printed[0])["value"] is True
        assert found.strange == set()
        assert found.threads == 1
        assert not found.loaded & {f"ldreader.{name}" for name in OFF_THE_COLD_PATH}

    def test_the_plain_command_line_for_all_flags_too(self) -> None:
        words = ["all", "--store", f"file:{SHOP}", "--context", json.dumps(CONTEXT), "--with-reasons"]
        found = fresh(f"from ldreader.cli import main\nreport(answer=main({words!r}))")
        assert found.answer == 0
        assert json.loads(found.printed[0])["new-checkout"] is True
        assert (found.strange, found.threads) == (set(), 1)

    @pytest.mark.parametrize(
        ("line", "code", "printed"),
        [
            ("test new-checkout", 0, []),
            ("test new-checkout gift-cards", 1, []),
            ("variation gift-cards new-checkout", 0, ['{"gift-cards": false, "new-checkout": true}']),
        ],
    )
    def test_the_plain_command_line_for_scripts_too(self, line: str, code: int, printed: list[str]) -> None:
        words = [*line.split(), "--store", f"file:{SHOP}", "--context", json.dumps(CONTEXT)]
        found = fresh(f"from ldreader.cli import main\nreport(answer=main({words!r}))")
        assert (found.answer, found.printed) == (code, printed)
        assert (found.strange, found.threads) == (set(), 1)

    def test_what_is_loaded_is_seen(self) -> None:
        words = ["variation", "gift-cards", "--store", f"file:{SHOP}", "--context=ada"]
        found = fresh(f"from ldreader.cli import main\nreport(answer=main({words!r}))")
        assert found.printed == ["false"]
        assert "argparse" in found.strange

    def test_a_thread_is_seen(self) -> None:
        program = "import threading\nevent = threading.Event()\nthread = threading.Thread(target=event.wait)\n"
        assert fresh(f"{program}thread.start()\nreport()\nevent.set()").threads == 2


OF_EVERY_EVALUATION = {
    *("ldreader", "ldreader.attribute", "ldreader.context", "ldreader.detail", "ldreader.errors"),
    *("ldreader.evaluator", "ldreader.reader", "ldreader.request", "ldreader.requesters", "ldreader.schema"),
    *("ldreader.segments", "ldreader.twins"),
}
CHEAP = {"__future__", "_collections_abc", "_stat", "genericpath", "nt", "ntpath", "os", "os.path", "posixpath"}
CHEAP |= {"stat", "time", "warnings", "importlib", "importlib._bootstrap", "importlib._bootstrap_external"}
CHEAP |= {"_json", "_sha1", "_socket", "binascii"}
"""What an evaluation over the wire may load from the standard library."""

COLD = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(PROJECT)!r})

def report():
    loaded = sorted(set(sys.modules) - before)
    import os
    print(len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1, *loaded)
"""
A_READER = """
from ldreader import FlagReader
with FlagReader.from_url(sys.argv[1]) as reader:
    print(repr(reader.variation("a", {"kind": "user", "key": "ada"}, None)))
report()
"""
A_LAMBDA_HANDLER = """
from ldreader import FlagReader
from ldreader.integrations.aws_lambda import with_flags
@with_flags(FlagReader.from_url(sys.argv[1]), context=lambda event: event["user"])
def handler(event, lambda_context, flags):
    return flags.variation("a", None)
print(repr(handler({"user": {"kind": "user", "key": "ada"}}, None)))
report()
"""
THE_COMMAND = """
from ldreader.cli import main
main(["variation", "a", "--store", sys.argv[1], "--context-key", "ada"])
report()
"""


def cold(program: str, *arguments: str) -> tuple[str, int, set[str]]:
    """What a program prints first in an interpreter that has loaded nothing, its threads, and what it has loaded."""
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", COLD + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    answer, last = done.stdout.splitlines()
    threads, *loaded = last.split()
    return answer, int(threads), set(loaded)


class TestAColdEvaluationOverTheWire:
    """From a database it loads no more than it uses: no package, and of the standard library only what is cheap."""

    FLAG = '{"on": true, "variations": [7], "fallthrough": {"variation": 0}}'

    @pytest.fixture(params=["redis://127.0.0.1:{}?prefix=x", "redis://cold:p%40ss@127.0.0.1:{}/0?prefix=%78"])
    def redis_url(self, redis_server: RedisServer, request: pytest.FixtureRequest) -> str:
        redis_server.ask("ACL", "SETUSER", "cold", "on", ">p@ss", "~x:*", "+hget")
        redis_server.ask("HSET", "x:features", "a", self.FLAG)
        url: str = request.param.format(redis_server.port)
        return url

    def test_from_redis(self, redis_url: str) -> None:
        answer, threads, loaded = cold(A_READER, redis_url)
        assert (answer, threads) == ("7", 1)
        assert {name for name in loaded if not name.startswith("ldreader")} - CHEAP == set()
        assert {name for name in loaded if name.startswith("ldreader")} - OF_EVERY_EVALUATION == {
            *("ldreader.bucketing", "ldreader.operators", "ldreader.read_ahead"),
            *("ldreader.requesters.redis", "ldreader.wire", "ldreader.wire.connection", "ldreader.wire.resp"),
        }

    def test_from_consul(self, consul_server: ConsulAgent) -> None:
        consul_server.put("cold/features/a", self.FLAG.encode())
        answer, threads, loaded = cold(A_READER, f"consul://127.0.0.1:{consul_server.port}?prefix=cold")
        assert (answer, threads) == ("7", 1)
        assert {name for name in loaded if not name.startswith("ldreader")} - CHEAP == set()
        assert {name for name in loaded if name.startswith("ldreader")} - OF_EVERY_EVALUATION == {
            *("ldreader.bucketing", "ldreader.operators", "ldreader.read_ahead"),
            *("ldreader.requesters.consul", "ldreader.wire", "ldreader.wire.connection", "ldreader.wire.http"),
        }

    def test_from_dynamodb(self, dynamodb: DynamoDBServer) -> None:
        dynamodb.create_table("cold")
        table = dynamodb.resource().Table("cold")
        table.put_item(Item={"namespace": "features", "key": "a", "version": 1, "item": self.FLAG})
        answer, threads, loaded = cold(A_READER, dynamodb.url("cold"))
        assert (answer, threads) == ("7", 1)
        hashes = {"_sha2", "_sha256"}  # the one or the other by the release of Python
        assert {name for name in loaded if not name.startswith("ldreader")} - CHEAP - hashes == set()
        assert {name for name in loaded if name.startswith("ldreader")} - OF_EVERY_EVALUATION == {
            *("ldreader.bucketing", "ldreader.operators", "ldreader.read_ahead"),
            *("ldreader.requesters.dynamodb", "ldreader.requesters.membership", "ldreader.wire"),
            *("ldreader.wire.connection", "ldreader.wire.credentials", "ldreader.wire.http", "ldreader.wire.sigv4"),
        }

    @pytest.mark.parametrize("url", ["rediss://127.0.0.1:1", "consul+https://127.0.0.1:1", "dynamodb://flags"])
    def test_tls_is_loaded_when_it_is_first_needed(self, aws_environment: None, url: str) -> None:
        opened = "from ldreader import FlagReader\nFlagReader.from_url(sys.argv[1])\nprint()\nreport()\n"
        _, _, loaded = cold(opened, url)
        assert "ldreader.wire.connection" in loaded
        assert {"ssl", "_ssl", "socket"} & loaded == set()

    def test_from_redis_in_a_lambda_handler(self, redis_url: str) -> None:
        answer, threads, loaded = cold(A_LAMBDA_HANDLER, redis_url)
        assert (answer, threads) == ("7", 1)
        plain = cold(A_READER, redis_url)[2]
        assert loaded - plain == {"ldreader.integrations", "ldreader.integrations.aws_lambda"}

    def test_from_redis_by_the_command(self, redis_url: str) -> None:
        answer, threads, loaded = cold(THE_COMMAND, redis_url)
        assert (answer, threads) == ("7", 1)
        assert {name for name in loaded if not name.startswith("ldreader")} - CHEAP == set()


class TestThePublicNames:
    def test_every_name_is_there_and_listed(self) -> None:
        assert sorted(set(ldreader.__all__)) == sorted(ldreader.__all__)
        for name in ldreader.__all__:
            value = getattr(ldreader, name)
            assert name in dir(ldreader)
            assert name.startswith("__") or value.__name__ == name

    def test_they_are_listed_before_they_are_used(self) -> None:
        program = "import ldreader\nreport(answer=[name in dir(ldreader) for name in ldreader.__all__])"
        found = fresh(program)
        assert set(found.answer) == {True}
        assert found.loaded == {"ldreader"}

    def test_a_name_is_imported_once(self) -> None:
        assert ldreader.FlagReader is ldreader.FlagReader
        assert "FlagReader" in vars(ldreader)

    def test_the_type_checker_sees_the_same_names(self) -> None:
        tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
        block = next(node for node in tree.body if isinstance(node, ast.If))
        statements = [statement for statement in block.body if isinstance(statement, ast.ImportFrom)]
        seen = {alias.asname: statement.module for statement in statements for alias in statement.names}
        assert seen == ldreader._HOMES

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="'ldreader' has no attribute 'FlagReeder'"):
            ldreader.FlagReeder  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(ImportError):
            exec("from ldreader import FlagReeder")
