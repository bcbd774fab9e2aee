"""Which keys a flag led to the last times, so that they can be fetched together with it.

Only keys and sizes are remembered, never what they held, so an answer always comes from the store. What is remembered
is a guess: fetched for nothing at worst.
"""

from __future__ import annotations

from .schema import FEATURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .schema import ItemRef

FLAGS = 2000
"""Flags about which something is remembered."""

REFS_PER_FLAG = 60
"""Items fetched on a guess for one flag."""

BYTES_PER_FLAG = 256 * 1024
"""Their size together, as they were last seen."""

KEY_LIMIT = 256
"""Characters of a key that is remembered; LaunchDarkly's are shorter."""

IDLE = 100
"""Evaluations in a row that did not need an item, before it is fetched on a guess no more."""


class ReadAhead:
    """The memory of one reader, shared by its threads without a lock.

    What a thread reads is never changed in place, except for counts that need not be exact; what two threads learn at
    the same moment may be learned by one of them only.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, dict[ItemRef, _Count]] = {}

    def guesses(self, flag_key: str) -> Collection[ItemRef]:
        """The items that the flag may need, as far as anything is known about it."""
        return self._known.get(flag_key, ())

    def forget(self, flag_key: str) -> None:
        """Makes no guess about the flag until something is learned again: the guesses may have made a read fail."""
        self._known.pop(flag_key, None)

    def learn(
        self,
        flag_key: str,
        needed: Mapping[ItemRef, object],
        met: Mapping[ItemRef, object],
        sizes: Mapping[ItemRef, int],
        limit: int,
    ) -> None:
        """Notes what an evaluation of the flag needed in the end, and what it met on the way.

        ``sizes`` has the bytes of each item that was found, and 0 for one that was fetched on a guess in vain. What it
        does not have was not asked for, which says nothing about it. One above the limit is not fetched on a guess.
        """
        own = (FEATURES, flag_key)
        known = self._known.get(flag_key)
        if known is None:
            if not met and len(needed) == 1 and own in needed:
                return
            known = {}
        keep = [
            ref
            for ref, count in known.items()
            if count.after(ref in needed) and 0 < sizes.get(ref, count.size) <= limit
        ]
        new = [
            ref
            for ref in (needed if not met else {**met, **needed})
            if ref not in known and 0 < sizes.get(ref, 0) <= limit and len(ref[1]) <= KEY_LIMIT
        ]
        if own in new:
            new.remove(own)
        if len(keep) == len(known) and not new:
            return
        room = BYTES_PER_FLAG
        learned: dict[ItemRef, _Count] = {}
        for ref in (*keep, *new):
            count = known.get(ref) or _Count()
            count.size = sizes.get(ref, count.size)
            room -= count.size
            if len(learned) < REFS_PER_FLAG and room >= 0:
                learned[ref] = count
        if flag_key not in self._known and len(self._known) >= FLAGS:
            self._known = {}  # to be learned anew; in one step, because other threads are reading it
        self._known[flag_key] = learned


class _Count:
    """How many evaluations in a row did without an item, and how large it was when it was last learned."""

    __slots__ = ("idle", "size")

    def __init__(self) -> None:
        self.idle = 0
        self.size = 0

    def after(self, needed: bool) -> bool:
        """False when an evaluation that needed the item, or did not, was one too many without it."""
        self.idle = 0 if needed else self.idle + 1
        return self.idle <= IDLE
