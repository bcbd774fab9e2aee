"""Whether one of many is to be kept: how LaunchDarkly thins out events and consistency checks."""

from __future__ import annotations


def sampled(ratio: int | None) -> bool:
    """True in one of ``ratio`` cases, picked at random: always for 1 or None, never for 0 and below."""
    if ratio is None or ratio == 1:
        return True
    if ratio <= 0:
        return False
    import random

    # Not of the module's own state, which all environments that a snapshot is restored in would share.
    return random.SystemRandom().random() < 1 / ratio
