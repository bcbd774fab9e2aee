"""The protocol that every store implements, those of third parties too. Only implementers import it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..errors import StoreError

ItemRef = tuple[str, str]
"""A reference to an item: its kind, ``"features"`` or ``"segments"``, and its key."""

JsonText = bytes | str
"""An item as it stands in the store, UTF-8 JSON."""


class FeatureRequester(Protocol):
    """Reads flags and segments as JSON text from one store. It knows keys and layout, and nothing of flags.

    Tombstones, decoding and defaults are handled outside. Neither method caches.
    """

    def get_many(self, refs: Sequence[ItemRef]) -> Mapping[ItemRef, JsonText | StoreError]:
        """The items that exist, by reference, in as few round trips as the store allows.

        References come without duplicates, both kinds mixed. A missing item, also one whose key the store cannot
        hold, is left out. An item that exists but cannot be had is a `StoreError` in its place.

        Raises:
            StoreError: The store did not answer.
        """
        ...

    def get_all(self) -> Mapping[str, Mapping[str, JsonText | StoreError]]:
        """Everything in the store: ``{"features": {key: text}, "segments": {key: text}}``, both always there.

        Raises:
            StoreError: The store did not answer.
        """
        ...

    def close(self) -> None:
        """Lets go of what this requester opened itself; may be called twice."""
        ...


class BoundedRequester(FeatureRequester, Protocol):
    """What a requester over a network may offer besides; each of these attributes alone is of use, and none is needed.

    One with ``keeps_deadlines`` set takes one further argument in its reads (in ``get_big_segments`` too, where it has
    that): the value of ``time.monotonic`` by which the whole read ends, with a `StoreError` if it must. A class derived
    from such a requester takes it too, or sets ``keeps_deadlines`` to False.
    """

    keeps_deadlines: bool

    reconnects: bool
    """True where `close` only drops what the next read opens again: it is called before a snapshot is taken."""

    timeout: float | None
    """Seconds that connecting, and each reply, may take; None where that is not known."""

    @property
    def guess_limit(self) -> int:
        """Bytes up to which an item is worth fetching with others on a guess; having this turns read-ahead on.

        0 while a guess would cost a round trip of its own.
        """
        ...

    def get_many(
        self, refs: Sequence[ItemRef], deadline: float | None = None
    ) -> Mapping[ItemRef, JsonText | StoreError]:
        """As in `FeatureRequester`, by the deadline."""
        ...

    def get_all(self, deadline: float | None = None) -> Mapping[str, Mapping[str, JsonText | StoreError]]:
        """As in `FeatureRequester`, by the deadline."""
        ...


class BigSegmentsMetadata(Protocol):
    """How fresh the big segments of a store are."""

    @property
    def last_up_to_date(self) -> int | None:
        """When they were last brought up to date, in epoch milliseconds; None for never."""
        ...


class BigSegmentStore(Protocol):
    """Reads memberships in big segments; a store written for the official Python SDK is one.

    A store that has ``get_big_segments(context_hashes) -> (metadata, {hash: membership})`` as well is asked for both
    in one round trip.
    """

    def get_metadata(self) -> BigSegmentsMetadata:
        """How fresh the store's data are. May raise anything when it cannot tell."""
        ...

    def get_membership(self, context_hash: str) -> Mapping[str, bool] | None:
        """Whether a context is in, by segment reference (``<key>.g<generation>``); None when nothing is known.

        ``context_hash`` is the base64 of the SHA-256 of the context's key. May raise anything when it cannot tell.
        """
        ...

    def stop(self) -> None:
        """Lets go of what the store opened."""
        ...
