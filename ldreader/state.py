"""The state of all flags for one context: what LaunchDarkly's browser SDKs take as ``bootstrap``."""

from __future__ import annotations

from .evaluator import is_experiment
from .schema import boolean, dumps, integer, mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .evaluator import Evaluation
    from .schema import Item


class FeatureFlagsState:
    """The values of all flags and what browser SDKs want to know of them (spec: client behaviour, section 4)."""

    __slots__ = ("_metadata", "_valid", "_values")

    def __init__(self, valid: bool) -> None:
        self._valid = valid
        self._values: dict[str, Any] = {}
        self._metadata: dict[str, dict[str, Any]] = {}

    @property
    def valid(self) -> bool:
        """False when the flags could not be evaluated at all; there are no flags then."""
        return self._valid

    def get_flag_value(self, key: str) -> Any:
        """The flag's value; None when the flag is unknown or its default would have been served."""
        return self._values.get(key)

    def get_flag_reason(self, key: str) -> dict[str, Any] | None:
        """The flag's reason where reasons were asked for, None otherwise."""
        return self._metadata.get(key, {}).get("reason")

    def to_values_map(self) -> dict[str, Any]:
        """The values alone, by flag key."""
        return dict(self._values)

    def to_json_dict(self) -> dict[str, Any]:
        """The state as an object for JSON: each flag's value, ``$flagsState`` with the rest, and ``$valid``."""
        return {**self._values, "$flagsState": dict(self._metadata), "$valid": self._valid}

    def to_json_string(self) -> str:
        """The state as JSON text; not yet safe to be put into HTML as it is."""
        return dumps(self.to_json_dict())

    def _add(self, key: str, value: Any, metadata: dict[str, Any]) -> None:
        self._values[key] = value
        self._metadata[key] = metadata


def is_client_side(flag: Item) -> bool:
    """True when browsers may see the flag; the older of the two fields counts only where the newer is absent."""
    availability = mapping(flag, "clientSideAvailability")
    if availability is not None:
        return boolean(availability, "usingEnvironmentId")
    return boolean(flag, "clientSide")


def flag_metadata(evaluation: Evaluation, with_reasons: bool, details_only_for_tracked: bool) -> dict[str, Any]:
    """What the state tells of a flag besides its value; members that would be null, false or empty are left out."""
    flag = evaluation.flag or {}
    detail = evaluation.detail
    experiment = is_experiment(flag, detail.reason)
    tracked = boolean(flag, "trackEvents") or experiment
    until = debug_until(flag)
    detailed = not details_only_for_tracked or tracked or _is_ahead(until)
    members = {
        "variation": detail.variation_index,
        "version": (integer(flag, "version") or 0) if detailed else None,
        "reason": detail.reason if detailed and (with_reasons or experiment) else None,
        "trackEvents": tracked or None,
        "trackReason": experiment or None,
        "debugEventsUntilDate": until or None,
        "prerequisites": evaluation.prerequisites or None,
    }
    return {name: member for name, member in members.items() if member is not None}


def debug_until(flag: Item) -> int:
    """Until when each evaluation is to be shown in LaunchDarkly's debugger, in epoch milliseconds; 0 for not at all."""
    until = flag.get("debugEventsUntilDate")
    if type(until) is float:
        # Those who are told the date take an integer and nothing else.
        return int(until) if until - until == 0 else 0
    return integer(flag, "debugEventsUntilDate") or 0


def _is_ahead(epoch_ms: int) -> bool:
    if not epoch_ms:
        return False
    import time

    return epoch_ms > time.time() * 1000
