"""Shows a store of one's own: flags in SQLite, read through the methods that ldreader asks of a requester.

Needs ldreader and nothing else.
Run it with: python examples/sqlite_requester.py
It reads shop.json beside it, copied into a database in memory, or the SQLite file that LDREADER_STORE names.
"""

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ldreader import FileRequester, FlagReader, StoreError

TABLE = "CREATE TABLE items (kind TEXT, key TEXT, json TEXT, PRIMARY KEY (kind, key))"


class SqliteRequester:
    """Flags and segments from such a table, one query each; the tests in ldreader.testing hold it to its promises."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database, self.lock = database, threading.Lock()  # Threads may share a reader, not SQLite's connection.

    def get_many(self, refs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        return {ref: json for ref in refs for _, json in self.rows("kind = ? AND key = ?", *ref)}

    def get_all(self) -> dict[str, dict[str, str]]:
        return {kind: dict(self.rows("kind = ?", kind)) for kind in ("features", "segments")}

    def rows(self, where: str, *values: str) -> list[tuple[str, str]]:
        with self.lock:
            try:
                return self.database.execute(f"SELECT key, json FROM items WHERE {where}", values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"SQLite did not answer: {error}") from error

    def close(self) -> None: ...  # Whoever opened the database closes it.


if __name__ == "__main__":
    with closing(sqlite3.connect(file := os.environ.get("LDREADER_STORE", ":memory:"))) as database:
        if file == ":memory:":
            database.execute(TABLE)
            for kind, items in FileRequester(Path(__file__).with_name("shop.json")).get_all().items():
                database.executemany("INSERT INTO items VALUES (?, ?, ?)", [(kind, *item) for item in items.items()])
        print(FlagReader(SqliteRequester(database)).variation("banner-text", {"kind": "user", "key": "ada"}, "Welcome"))
