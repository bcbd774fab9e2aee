"""Memberships in big segments: asked of their own store, with a status (spec: evaluation, section 8.1)."""

from __future__ import annotations

from .bucketing import utf8
from .errors import ConfigurationError
from .segments import HEALTHY, NOT_CONFIGURED, STALE, STORE_ERROR, Membership
from .twins import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .requesters.protocol import BigSegmentsMetadata, BigSegmentStore

STALE_AFTER = 120.0
"""Seconds after which memberships count as stale, unless the application says otherwise."""


class BigSegmentStoreStatus:
    """How a store of big segments is doing; cannot be changed."""

    __slots__ = ("_available", "_stale")

    def __init__(self, available: bool, stale: bool) -> None:
        self._available = available
        self._stale = stale

    @property
    def available(self) -> bool:
        """False when the store did not answer, or when there is none."""
        return self._available

    @property
    def stale(self) -> bool:
        """True when it has not been brought up to date for a while, or never."""
        return self._stale

    def __repr__(self) -> str:
        return f"BigSegmentStoreStatus(available={self._available}, stale={self._stale})"


class BigSegments:
    """A store of big segments, as the reader uses it; without a store, every status is NOT_CONFIGURED."""

    __slots__ = ("stale_after", "store")

    def __init__(self, store: BigSegmentStore | None, stale_after: float = STALE_AFTER) -> None:
        self.store = store
        self.stale_after = stale_after

    @classmethod
    def of(cls, given: Any, feature_requester: Any) -> BigSegments:
        """What the application gave: a store, or an object like the official ``BigSegmentsConfig``.

        Where it gave nothing, the feature requester is the store if it can be one.

        Raises:
            ConfigurationError: It is neither.
        """
        if given is None:
            return cls(feature_requester if hasattr(feature_requester, "get_membership") else None)
        if hasattr(given, "get_membership") and hasattr(given, "get_metadata"):
            return cls(given)
        if hasattr(given, "store"):
            stale_after = getattr(given, "stale_after", None)
            return cls(given.store, STALE_AFTER if stale_after is None else stale_after)
        raise ConfigurationError("big_segments takes a store (get_metadata, get_membership) or a BigSegmentsConfig")

    def status(self) -> BigSegmentStoreStatus:
        """How the store is doing now; asks it."""
        if self.store is None:
            return BigSegmentStoreStatus(available=False, stale=False)
        try:
            stale = self.is_stale(self.store.get_metadata())
        except Exception:  # anyone can write a store
            return BigSegmentStoreStatus(available=False, stale=False)
        return BigSegmentStoreStatus(available=True, stale=stale)

    def is_stale(self, metadata: BigSegmentsMetadata | None) -> bool:
        """True when the store was never brought up to date, or too long ago."""
        import time

        # Both are milliseconds; comparing them with seconds is a mistake that others have made.
        synchronized = None if metadata is None else metadata.last_up_to_date
        # Said so that a time that is no number is stale too.
        return synchronized is None or not time.time() * 1000 - synchronized < self.stale_after * 1000

    def stop(self) -> None:
        """Lets go of what the store opened."""
        stop = getattr(self.store, "stop", None)  # not everyone's store has it
        if stop is not None:
            stop()


class Memberships:
    """The memberships that one request has asked for; a store that failed is not asked again in it."""

    __slots__ = ("_big_segments", "_failed", "_status", "round_trips", "store", "trouble")

    def __init__(self, big_segments: BigSegments) -> None:
        self._big_segments = big_segments
        self.store = big_segments.store
        self._failed = False
        self._status: str | None = None
        self.trouble: Exception | None = None
        """What went wrong, if anything did."""
        self.round_trips = 0
        """How often the last fetch asked the store."""

    def fetch(self, context_keys: Iterable[str], deadline: float | None = None) -> dict[str, Membership]:
        """The memberships of contexts by their keys; never raises.

        The deadline, of ``time.monotonic``, is kept by stores that can.
        """
        self.round_trips = 0
        store = self.store
        if store is None:
            return dict.fromkeys(context_keys, Membership(None, NOT_CONFIGURED))
        hashes = {key: context_hash(key) for key in context_keys}
        found: dict[str, Mapping[str, bool] | None] = {}
        if not self._failed:
            try:
                self._ask(store, list(hashes.values()), found, deadline)
            except Exception as error:  # anyone can write a store
                self.trouble = error
                self._failed = True
        unknown = Membership(None, STORE_ERROR)
        status = self._status or STORE_ERROR
        return {
            key: Membership(found[hashed], status) if hashed in found else unknown for key, hashed in hashes.items()
        }

    def _ask(
        self,
        store: BigSegmentStore,
        hashes: list[str],
        found: dict[str, Mapping[str, bool] | None],
        deadline: float | None,
    ) -> None:
        """Adds to `found` what the store answers, and finds out once how fresh it is."""
        together = getattr(store, "get_big_segments", None)
        if together is not None:
            self.round_trips += 1
            bounded = deadline is not None and getattr(store, "keeps_deadlines", False)
            metadata, memberships = together(hashes, deadline) if bounded else together(hashes)
            found.update({hashed: memberships[hashed] for hashed in hashes})
        else:
            self.round_trips += len(hashes) + (self._status is None)
            for hashed in hashes:
                found[hashed] = store.get_membership(hashed)
            metadata = store.get_metadata() if self._status is None else None
        if self._status is None:
            try:
                self._status = STALE if self._big_segments.is_stale(metadata) else HEALTHY
            except Exception as error:  # a time that makes no sense takes nothing from the memberships
                self.trouble = error
                self._status = STORE_ERROR


def context_hash(key: str) -> str:
    """What a context key is called in a store of big segments: the base64 of its SHA-256."""
    from binascii import b2a_base64

    return b2a_base64(sha256(utf8(key)), newline=False).decode()
