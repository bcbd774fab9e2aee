"""Feature requesters for the harness's mock of LaunchDarkly: proof that anyone can write one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from ldreader import StoreError

ItemRef = tuple[str, str]

direct = build_opener(ProxyHandler({}))


class PhpRequester:
    """Single flags and segments, as the PHP SDK asks LaunchDarkly for them."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, bytes | str | StoreError]:
        """The items that exist, one request each."""
        found: dict[ItemRef, bytes | str | StoreError] = {}
        for kind, key in refs:
            text = self._get(f"/sdk/{'flags' if kind == 'features' else 'segments'}/{quote(key, safe='')}")
            if text is not None:
                found[kind, key] = text
        return found

    def get_all(self) -> dict[str, dict[str, bytes | str | StoreError]]:
        """All flags; the mock does not list segments, so those are found in the flags' clauses and asked for."""
        text = self._get("/sdk/flags")
        if text is None:
            raise StoreError("the mock of LaunchDarkly has no data")
        flags = json.loads(text)
        return {
            "features": {key: json.dumps(item) for key, item in flags.items()},
            "segments": self._segments_of(list(flags.values())),
        }

    def close(self) -> None:
        """Does nothing: nothing is kept open."""

    def _segments_of(self, items: list[Any]) -> dict[str, bytes | str | StoreError]:
        found: dict[str, bytes | str | StoreError] = {}
        while items:
            for rule in items.pop().get("rules") or ():
                for clause in rule.get("clauses") or ():
                    named = clause.get("values") or () if clause.get("op") == "segmentMatch" else ()
                    for key in named:
                        if isinstance(key, str) and key not in found:
                            text = self._get(f"/sdk/segments/{quote(key, safe='')}")
                            if text is not None:
                                found[key] = text
                                items.append(json.loads(text))
        return found

    def _get(self, path: str) -> bytes | None:
        try:
            with direct.open(f"{self._url}{path}", timeout=10) as answer:
                text: bytes = answer.read()
                return text
        except HTTPError as error:
            if error.code == 404:
                return None
            raise StoreError(f"the mock of LaunchDarkly answered {error.code}") from error
        except OSError as error:
            raise StoreError("the mock of LaunchDarkly did not answer") from error


class StreamRequester:
    """Everything, from the first event of the stream on which LaunchDarkly gives it to an SDK on a server."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/all"

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, bytes | str | StoreError]:
        """The items that exist."""
        everything = self.get_all()
        return {(kind, key): everything[kind][key] for kind, key in refs if key in everything[kind]}

    def get_all(self) -> dict[str, dict[str, bytes | str | StoreError]]:
        """All items."""
        try:
            with direct.open(self._url, timeout=1) as stream:
                for line in stream:
                    if line.startswith(b"data:"):
                        data = json.loads(line[5:])["data"]
                        return {
                            kind: {key: json.dumps(item) for key, item in (data.get(name) or {}).items()}
                            for kind, name in (("features", "flags"), ("segments", "segments"))
                        }
        except OSError as error:
            raise StoreError("the mock of LaunchDarkly did not answer") from error
        raise StoreError("the mock of LaunchDarkly gave no data")

    def close(self) -> None:
        """Does nothing: nothing is kept open."""
