"""Flags in a mapping, for tests and for code that has them already."""

from __future__ import annotations

from ..errors import StoreError
from ..schema import FEATURES, SEGMENTS, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..schema import ItemRef, JsonText


class MemoryRequester:
    """Flags and segments from ``{"features": {key: item}, "segments": {key: item}}``.

    An item is JSON text as in a store, or the object that such text would decode to. The mapping is read anew
    each time, so a change to it shows in the next request.
    """

    def __init__(self, collections: Mapping[str, Mapping[str, Any]]) -> None:
        self._collections = collections

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, JsonText | StoreError]:
        """The items that exist."""
        found: dict[ItemRef, JsonText | StoreError] = {}
        for kind, key in refs:
            collection = self._collections.get(kind) or {}
            if key in collection:
                found[kind, key] = _text(collection[key])
        return found

    def get_all(self) -> dict[str, dict[str, JsonText | StoreError]]:
        """Everything in the mapping."""
        return {
            kind: {key: _text(item) for key, item in (self._collections.get(kind) or {}).items()}
            for kind in (FEATURES, SEGMENTS)
        }

    def close(self) -> None:
        """Does nothing: nothing was opened."""


def _text(item: Any) -> JsonText | StoreError:
    if isinstance(item, (bytes, str, StoreError)):
        return item
    try:
        return dumps(item)
    except (TypeError, ValueError, RecursionError) as error:
        return StoreError(f"an item in memory cannot be written as JSON: {error}")
