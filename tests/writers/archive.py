"""The flag archive that the Relay Proxy reads in offline mode."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Any

from .stream import PATHS, Data

ENVIRONMENT = "0123456789abcdef01234567"


class Archive:
    """The whole of ``data`` in a file, which is replaced at each change. What is deleted is no longer in it."""

    def __init__(self, data: Data, path: Path) -> None:
        self._data = {kind: dict(items) for kind, items in data.items()}
        self._path = path
        self._version = 0

    @property
    def url(self) -> str:
        """The file's path."""
        return str(self._path)

    def __enter__(self) -> Archive:
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def upsert(self, kind: str, key: str, item: dict[str, Any]) -> None:
        """Has an item that is new or has changed."""
        self._data[kind][key] = item
        self._write()

    def delete(self, kind: str, key: str, version: int) -> None:
        """No longer has an item."""
        del self._data[kind][key]
        self._write()

    def _write(self) -> None:
        self._version += 1
        environment = {
            "envID": ENVIRONMENT,
            "envKey": "test",
            "envName": "Test",
            "mobKey": "mob-key",
            "projKey": "default",
            "projName": "Default",
            "sdkKey": {"value": "sdk-key"},
            "version": 1,
        }
        # In the order of their names, as the checksum wants them.
        files = {
            f"{ENVIRONMENT}-data.json": _json({PATHS[kind]: items for kind, items in self._data.items()}),
            f"{ENVIRONMENT}.json": _json({"env": environment, "dataId": str(self._version)}),
        }
        checksum = hashlib.md5(b"".join(files.values()), usedforsecurity=False).digest()
        part = self._path.with_suffix(".part")
        with tarfile.open(part, "w:gz") as archive:
            for name, content in {**files, "checksum.md5": checksum}.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        os.replace(part, self._path)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
