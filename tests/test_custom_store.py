"""A store of one's own, the one of examples/sqlite_requester.py: it behaves like ours and runs as its header says."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldreader import FeatureRequester, FlagReader
from ldreader.testing import RequesterBehaviour

PROJECT = Path(__file__).parent.parent
EXAMPLE = PROJECT / "examples" / "sqlite_requester.py"


def example() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("sqlite_requester", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SqliteStore:
    """A SQLite file with the example's table; the requester has a connection of its own, for all threads."""

    has_prefixes = False
    holds_any_text = True

    def __init__(self, file: Path) -> None:
        module = example()
        self.writes = sqlite3.connect(file, isolation_level=None)
        self.writes.execute(module.TABLE)
        self.reads = sqlite3.connect(file, check_same_thread=False)
        self.made: FeatureRequester = module.SqliteRequester(self.reads)

    def requester(self, prefix: str) -> FeatureRequester:
        return self.made

    def put(self, prefix: str, kind: str, key: str, text: str) -> None:
        self.writes.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (kind, key, text))

    def close(self) -> None:
        self.reads.close()
        self.writes.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An empty database."""
    store = SqliteStore(tmp_path / "flags.db")
    yield store
    store.close()


class TestSqliteRequester(RequesterBehaviour):
    """The published suite, as it stands."""


FLAG = {"key": "flag", "version": 1, "on": True, "variations": ["yes"], "fallthrough": {"variation": 0}}


class TestAReaderOfIt:
    def test_flags_are_evaluated(self, store: SqliteStore) -> None:
        store.put("", "features", "flag", json.dumps(FLAG))
        with FlagReader(store.made) as reader:
            assert reader.variation("flag", {"kind": "user", "key": "u"}, None) == "yes"
            assert reader.all_flags_state({"kind": "user", "key": "u"}).to_values_map() == {"flag": "yes"}

    def test_a_database_without_the_table_is_a_store_that_does_not_answer(
        self, store: SqliteStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.writes.execute("DROP TABLE items")
        detail = FlagReader(store.made).variation_detail("flag", {"kind": "user", "key": "u"}, "default")
        assert (detail.value, detail.reason) == ("default", {"kind": "ERROR", "errorKind": "EXCEPTION"})
        assert "SQLite did not answer: no such table" in caplog.text

    def test_the_database_stays_open_when_the_reader_closes(self, store: SqliteStore) -> None:
        FlagReader(store.made).close()
        assert store.reads.execute("SELECT count(*) FROM items").fetchone() == (0,)


class TestTheExample:
    def run(self, **environment: str) -> str:
        """What it prints, run from the project's directory as its header says; warnings are errors."""
        inherited = {name: value for name, value in os.environ.items() if name != "LDREADER_STORE"}
        done = subprocess.run(
            [sys.executable, "-W", "error", "examples/sqlite_requester.py"],
            cwd=PROJECT,
            env={**inherited, "PYTHONPATH": str(PROJECT), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def test_it_reads_the_shop(self) -> None:
        assert self.run() == "Welcome to the shop\n"

    def test_it_reads_the_file_that_is_named(self, store: SqliteStore, tmp_path: Path) -> None:
        store.put("", "features", "banner-text", json.dumps(FLAG | {"key": "banner-text", "variations": ["Closed"]}))
        assert self.run(LDREADER_STORE=str(tmp_path / "flags.db")) == "Closed\n"

    def test_its_requester_takes_some_thirty_lines(self) -> None:
        source = EXAMPLE.read_text(encoding="utf-8")
        requester = source[source.index("class SqliteRequester") : source.index('if __name__ == "__main__"')]
        assert len(requester.strip().splitlines()) <= 30
