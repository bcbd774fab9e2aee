"""What an evaluation gives: a value, the index of its variation, and the reason in LaunchDarkly's JSON form."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Reason: TypeAlias = dict[str, Any]


class EvaluationDetail:
    """The result of evaluating one flag; cannot be changed.

    ``reason`` is a dict as in LaunchDarkly's JSON: ``kind`` and, by kind, ``ruleIndex``, ``ruleId``,
    ``prerequisiteKey``, ``inExperiment``, ``errorKind``, ``bigSegmentsStatus``.
    """

    __slots__ = ("_reason", "_value", "_variation_index")

    def __init__(self, value: Any, variation_index: int | None, reason: Reason) -> None:
        self._value = value
        self._variation_index = variation_index
        self._reason = reason

    @property
    def value(self) -> Any:
        """The variation's value, or the caller's default."""
        return self._value

    @property
    def variation_index(self) -> int | None:
        """The position of the value among the flag's variations, from 0; None when the default was served."""
        return self._variation_index

    @property
    def reason(self) -> Reason:
        """Why this value, in LaunchDarkly's JSON form."""
        return self._reason

    def is_default_value(self) -> bool:
        """True when the value is the caller's default, for whatever reason."""
        return self._variation_index is None

    def to_json_dict(self) -> dict[str, Any]:
        """The detail as an object for JSON: ``value``, ``variationIndex``, ``reason``."""
        return {"value": self._value, "variationIndex": self._variation_index, "reason": self._reason}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EvaluationDetail):
            return NotImplemented
        return self.to_json_dict() == other.to_json_dict()

    __hash__ = None  # type: ignore[assignment]  # a value may be a list or an object

    def __repr__(self) -> str:
        return (
            f"EvaluationDetail(value={self._value!r}, variation_index={self._variation_index!r}, "
            f"reason={self._reason!r})"
        )


# The kinds of reason; each result gets a dict of its own, because the caller may change it.

CLIENT_NOT_READY = "CLIENT_NOT_READY"
EXCEPTION = "EXCEPTION"
FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
MALFORMED_FLAG = "MALFORMED_FLAG"
USER_NOT_SPECIFIED = "USER_NOT_SPECIFIED"
WRONG_TYPE = "WRONG_TYPE"


def off() -> Reason:
    """The flag is off."""
    return {"kind": "OFF"}


def fallthrough() -> Reason:
    """Nothing else matched."""
    return {"kind": "FALLTHROUGH"}


def target_match() -> Reason:
    """The context's key is listed for the variation."""
    return {"kind": "TARGET_MATCH"}


def rule_match(index: int, rule_id: str) -> Reason:
    """A rule matched; a rule without an id has no ``ruleId`` (as in the PHP and Go SDKs)."""
    reason: Reason = {"kind": "RULE_MATCH", "ruleIndex": index}
    if rule_id:
        reason["ruleId"] = rule_id
    return reason


def prerequisite_failed(key: str) -> Reason:
    """A flag that this one depends on did not serve the wanted variation."""
    return {"kind": "PREREQUISITE_FAILED", "prerequisiteKey": key}


def error(error_kind: str) -> Reason:
    """The default was served because something is wrong; ``error_kind`` is one of the constants above."""
    return {"kind": "ERROR", "errorKind": error_kind}
