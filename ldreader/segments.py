"""Which clauses a context matches, and which segments it is in (spec: evaluation, sections 6 to 8).

An answer is True, False, or None: not known, because an item it depends on is not at hand yet.
"""

from __future__ import annotations

from .attribute import literal_path, parse_reference
from .bucketing import bucket
from .errors import MalformedItem
from .operators import matches_any
from .schema import MEMBERSHIPS, SEGMENTS, array, blamed_on, boolean, integer, objects, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    from .context import Context
    from .schema import Item, ItemRef

    AtHand: TypeAlias = Mapping[ItemRef, "Item | Membership | Exception | None"]
    """What a request has: decoded items, None for a missing one, the error for one that cannot be had."""

MAX_DEPTH = 50
"""How deep flags and segments may refer to each other; LaunchDarkly's own data is far from it."""

HEALTHY = "HEALTHY"
STALE = "STALE"
STORE_ERROR = "STORE_ERROR"
NOT_CONFIGURED = "NOT_CONFIGURED"
_BEST_TO_WORST = (HEALTHY, STALE, STORE_ERROR, NOT_CONFIGURED)

_BY_KEY = ("key",)

LACKING = object()
"""Stands for an item that is not at hand; None stands for one that does not exist."""


class Membership:
    """The big segments that a context is in, and how far that can be trusted."""

    __slots__ = ("included", "status")

    def __init__(self, included: Mapping[str, bool] | None, status: str) -> None:
        self.included = included
        """Whether the context is in, by segment reference (``<key>.g<generation>``); None when nothing is known."""
        self.status = status
        """HEALTHY, STALE, STORE_ERROR or NOT_CONFIGURED."""


class Matcher:
    """Matches one context against clauses and segments, using the items at hand and naming those it lacks."""

    __slots__ = ("_context", "_items", "_known_segments", "big_segments_status", "lacks", "needs")

    def __init__(self, context: Context, items: AtHand) -> None:
        self._context = context
        self._items = items
        self._known_segments: dict[str, bool | None] = {}
        self.lacks: dict[ItemRef, None] = {}
        """What was looked for and is not at hand, in the order met."""
        self.needs: dict[ItemRef, None] = {}
        """All that was looked for, at hand or not."""
        self.big_segments_status: str | None = None
        """The worst status of the big segments met; None when none was."""

    def find(self, kind: str, key: str) -> Any:
        """The item, None when it does not exist, `LACKING` when it is not at hand; raises what stands in its place."""
        ref = (kind, key)
        self.needs[ref] = None
        item = self._items.get(ref, LACKING)
        if item is LACKING:
            self.lacks[ref] = None
        elif isinstance(item, Exception):
            raise item.with_traceback(None)
        return item

    def rule_matches(self, rule: Item, chain: tuple[str, ...] = ()) -> bool | None:
        """True when all clauses of the rule match; ``chain`` holds the segments being evaluated."""
        matches: bool | None = True
        for clause in objects(rule, "clauses"):
            matched = self._clause_matches(clause, chain)
            if matched is False:
                return False
            if matched is None:
                matches = None
        return matches

    def _clause_matches(self, clause: Item, chain: tuple[str, ...]) -> bool | None:
        op = text(clause, "op")
        negate = boolean(clause, "negate")
        values = array(clause, "values")
        if op == "segmentMatch":
            found = self._in_any_segment(values, chain)
            return None if found is None else found is not negate
        attribute = text(clause, "attribute")
        kind = text(clause, "contextKind")
        if attribute == "kind":
            return any(matches_any(op, own, values) for own in self._context.kinds()) is not negate
        # The attribute is a reference only beside a kind; without one it is a plain name, slashes and all.
        path = parse_reference(attribute) if kind else literal_path(attribute)
        if path is None:
            raise MalformedItem(f"{attribute!r} is no attribute reference that a clause can use")
        member = self._context.get_individual_context(kind or "user")
        if member is None:
            return False
        value = member.resolve(path)
        if value is None:
            return False  # A missing attribute never matches, negated or not.
        if isinstance(value, (list, tuple)):
            return any(matches_any(op, element, values) for element in value) is not negate
        return matches_any(op, value, values) is not negate

    def _in_any_segment(self, keys: Sequence[Any], chain: tuple[str, ...]) -> bool | None:
        found: bool | None = False
        for key in keys:
            if not isinstance(key, str):
                continue
            contained = self._in_segment(key, chain)
            if contained:
                return True
            if contained is None:
                found = None
        return found

    def _in_segment(self, key: str, chain: tuple[str, ...]) -> bool | None:
        if key in chain:
            raise MalformedItem(f"segments refer to each other in a circle: {' -> '.join((*chain, key))}")
        if key in self._known_segments:
            return self._known_segments[key]
        if len(chain) >= MAX_DEPTH:
            raise MalformedItem(f"segments refer to each other more than {MAX_DEPTH} deep")
        segment = self.find(SEGMENTS, key)
        if segment is LACKING:
            return None
        try:
            contained = segment is not None and self._contains(segment, key, (*chain, key))
        except MalformedItem as error:
            raise blamed_on((SEGMENTS, key), segment, error) from None
        self._known_segments[key] = contained
        return contained

    def _contains(self, segment: Item, key: str, chain: tuple[str, ...]) -> bool | None:
        # Lists and the hash go by the segment's own idea of its key, as in the official SDKs.
        own_key = text(segment, "key") or key
        if boolean(segment, "unbounded"):
            return self._big_segment_contains(segment, own_key, chain)
        if self._listed(segment, "included", "includedContexts"):
            return True
        if self._listed(segment, "excluded", "excludedContexts"):
            return False
        return self._any_rule(segment, own_key, chain)

    def _listed(self, segment: Item, user_keys: str, other_keys: str) -> bool:
        user = self._context.get_individual_context("user")
        keys = array(segment, user_keys)
        if user is not None and user.key in keys:
            return True
        for target in objects(segment, other_keys):
            member = self._context.get_individual_context(text(target, "contextKind") or "user")
            keys = array(target, "values")
            if member is not None and member.key in keys:
                return True
        return False

    def _any_rule(self, segment: Item, own_key: str, chain: tuple[str, ...]) -> bool | None:
        found: bool | None = False
        for rule in objects(segment, "rules"):
            matched = self.rule_matches(rule, chain)
            if matched is False or not self._weighed_in(rule, segment, own_key):
                continue
            if matched:
                return True
            found = None
        return found

    def _weighed_in(self, rule: Item, segment: Item, own_key: str) -> bool:
        weight = integer(rule, "weight")
        if weight is None:
            return True
        kind = text(rule, "rolloutContextKind")
        by = bucket_path(text(rule, "bucketBy"), kind)
        if by is None:
            raise MalformedItem(f"bucketBy {rule['bucketBy']!r} is no attribute reference")
        place = bucket(self._context, kind or "user", by, f"{own_key}.{text(segment, 'salt')}")
        # A context without that kind is in no share of it, not even a full one (as in the Go SDK).
        return place is not None and place * 100_000 < weight

    def _big_segment_contains(self, segment: Item, own_key: str, chain: tuple[str, ...]) -> bool | None:
        generation = integer(segment, "generation")
        if generation is None:
            self._note_status(NOT_CONFIGURED)
            return False
        member = self._context.get_individual_context(text(segment, "unboundedContextKind") or "user")
        if member is None:
            return False
        membership = self.find(MEMBERSHIPS, member.key)
        if membership is LACKING:
            self._any_rule(segment, own_key, chain)  # only to name what the rules may need
            return None
        self._note_status(membership.status)
        included = (membership.included or {}).get(f"{own_key}.g{generation}")
        if included is not None:
            return bool(included)
        # Absent is not excluded: the rules decide, though never the regular lists.
        return self._any_rule(segment, own_key, chain)

    def _note_status(self, status: str) -> None:
        worst = self.big_segments_status
        if worst is None or _BEST_TO_WORST.index(status) > _BEST_TO_WORST.index(worst):
            self.big_segments_status = status


def bucket_path(by: str, kind: str) -> tuple[str, ...] | None:
    """The path of the attribute to bucket by, the key by default; None when it is no valid reference.

    It is a reference only beside a kind; without one it is a plain name.
    """
    if not by or by == "key":
        return _BY_KEY
    return parse_reference(by) if kind else literal_path(by)
