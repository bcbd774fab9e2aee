"""What the stores that hold big segments share (spec: store schemas, section 10)."""

from __future__ import annotations

from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class BigSegmentsMetadata:
    """How fresh the big segments are."""

    __slots__ = ("_last_up_to_date",)

    def __init__(self, last_up_to_date: int | StoreError | None) -> None:
        self._last_up_to_date = last_up_to_date

    @property
    def last_up_to_date(self) -> int | None:
        """When they were last brought up to date, in epoch milliseconds; None for never.

        Raises:
            StoreError: The store holds no integer there; the memberships that came along are none the worse for it.
        """
        if isinstance(self._last_up_to_date, StoreError):
            raise self._last_up_to_date
        return self._last_up_to_date


def membership(included: Iterable[str], excluded: Iterable[str]) -> dict[str, bool] | None:
    """Whether a context is in, by segment reference; being included wins. None when nothing is known."""
    refs = {**dict.fromkeys(excluded, False), **dict.fromkeys(included, True)}
    return refs or None


def epoch_ms(text: bytes | str | None) -> int | StoreError | None:
    """The time that a store holds as decimal text; the error where it is no integer."""
    try:
        return None if text is None else int(text)
    except ValueError:
        error = StoreError(f"the time when big segments were last brought up to date is no integer: {text!r:.40}")
        error.answered = True
        return error
