"""The hash that places a context in a rollout, the same in every LaunchDarkly SDK (spec: evaluation, section 9)."""

from __future__ import annotations

from .twins import sha1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_SCALE = float(0xFFFFFFFFFFFFFFF)


def bucket(context: Context, kind: str, by: tuple[str, ...], seed: str) -> float | None:
    """The context's fixed place in [0, 1], or None when it has no context of that kind.

    Only the arguments matter, so every process places a context alike. An attribute that is missing or
    is neither a string nor an integer places the context at 0.
    """
    member = context.get_individual_context(kind)
    if member is None:
        return None
    value = member.resolve(by)
    text = value if type(value) is str else _bucketable(value)
    if text is None:
        return 0.0
    return int(sha1(utf8(f"{seed}.{text}"))[:15], 16) / _SCALE


def utf8(text: str) -> bytes:
    """The text in UTF-8; a lone surrogate, which JSON can carry and UTF-8 cannot, as U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text).encode()


def _bucketable(value: object) -> str | None:
    if isinstance(value, str):
        return str.__str__(value)  # An enumeration of strings would be written by its name.
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        try:
            return str(int(value))
        except ValueError:  # Python refuses to write out integers of more than some thousand digits.
            return None
    return None
