"""The walk: from a flag, a context and the items at hand to a detail (spec: evaluation, sections 3 to 5 and 9).

It is pure: no I/O, not even through a callback. What it needs and does not have, it names, and walks on as if that
could turn out either way; so one walk names all that this context may still need on this level. The caller fetches
that and walks again. A walk that lacked nothing is the answer, found by the documented order and nothing else.
"""

from __future__ import annotations

from . import detail as reasons
from .bucketing import bucket
from .detail import EvaluationDetail
from .errors import FlagNotFound, MalformedItem, StoreError
from .schema import (
    FEATURES,
    array,
    blamed_on,
    boolean,
    integer,
    mapping,
    objects,
    required_integer,
    text,
)
from .segments import LACKING, MAX_DEPTH, Matcher, bucket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .context import Context
    from .detail import Reason
    from .errors import EvaluationError
    from .schema import Item, ItemRef
    from .segments import AtHand


class Evaluation:
    """What one walk found out. Unless `lacks` is empty, nothing but `lacks` and `needs` may be used."""

    __slots__ = ("detail", "failure", "flag", "lacks", "needs", "prerequisites", "served")

    def __init__(
        self,
        detail: EvaluationDetail,
        lacks: dict[ItemRef, None],
        needs: dict[ItemRef, None],
        flag: Item | None,
        prerequisites: list[str],
        served: Mapping[str, EvaluationDetail | None],
        failure: EvaluationError | None,
    ) -> None:
        self.detail = detail
        """The result; its value is None where the caller's default is to be served."""
        self.lacks = lacks
        """The items that must be at hand before the result is certain."""
        self.needs = needs
        """All items that the walk looked at."""
        self.flag = flag
        """The decoded flag, if there is one."""
        self.prerequisites = prerequisites
        """The keys of the flag's direct prerequisites that were looked at, in order."""
        self.served = served
        """The results of the flags that this one depends on, at whatever depth, by their keys."""
        self.failure = failure
        """What went wrong, in words, when the reason is an error."""


def evaluate(key: str, context: Context, items: AtHand) -> Evaluation:
    """The evaluation of the flag with that key for a valid context, from the items at hand.

    Whatever the items hold, it returns: an item that is not as it should be gives the error reason to the flags
    that reach it.
    """
    walk = _Walk(context, items)
    flag: Item | None = None
    failure: EvaluationError | None = None
    detail: EvaluationDetail | None = None
    try:
        flag = walk.find_flag(key)
        if flag is not None:
            detail = walk.serve(flag, (key,))
            if walk.failure is not None and detail is not None and detail.reason["kind"] == "ERROR":
                failure = blamed_on((FEATURES, key), flag, walk.failure)
    except FlagNotFound as error:
        failure = error
        detail = _error(reasons.FLAG_NOT_FOUND)
    except StoreError as error:
        failure = error
        detail = _error(reasons.EXCEPTION)
    except MalformedItem as error:
        failure = error if flag is None else blamed_on((FEATURES, key), flag, error)
        detail = _error(reasons.MALFORMED_FLAG)
    if detail is None:
        detail = _error(reasons.EXCEPTION)  # never used: something is lacking
    elif walk.big_segments_status is not None:
        detail.reason["bigSegmentsStatus"] = walk.big_segments_status
    return Evaluation(detail, walk.lacks, walk.needs, flag, walk.prerequisites, walk.served, failure)


def is_experiment(flag: Item, reason: Reason) -> bool:
    """True when the evaluation is part of an experiment, so that its reason is always wanted (section 11)."""
    if reason.get("inExperiment"):
        return True
    if reason["kind"] == "FALLTHROUGH":
        return boolean(flag, "trackEventsFallthrough")
    if reason["kind"] == "RULE_MATCH":
        return boolean(array(flag, "rules")[reason["ruleIndex"]], "trackEvents")
    return False


class _Walk(Matcher):
    """One walk. Methods return None for "not known yet", which happens only when something is lacking."""

    __slots__ = ("failure", "prerequisites", "served")

    def __init__(self, context: Context, items: AtHand) -> None:
        Matcher.__init__(self, context, items)
        # A flag that is reached twice is walked once, or a chain of diamonds would take exponential time.
        self.served: dict[str, EvaluationDetail | None] = {}
        self.prerequisites: list[str] = []
        self.failure: MalformedItem | None = None

    def find_flag(self, key: str) -> Item | None:
        """The flag to evaluate, None when it is not at hand."""
        flag = self.find(FEATURES, key)
        if flag is None:
            raise FlagNotFound(f"there is no flag {key!r} in the store")
        return None if flag is LACKING else flag

    def serve(self, flag: Item, chain: tuple[str, ...]) -> EvaluationDetail | None:
        """The flag's result; ``chain`` is the root flag's key and those on the way to this flag's, itself last."""
        if not boolean(flag, "on"):
            return self._off(flag, reasons.off())
        known = True
        if array(flag, "prerequisites"):
            failed, known = self._failed_prerequisite(flag, chain)
            if failed is not None:
                return self._off(flag, reasons.prerequisite_failed(failed))
        variation = self._targeted(flag)
        if variation is not None:
            return self._variation(flag, variation, reasons.target_match()) if known else None
        for index, rule in enumerate(objects(flag, "rules")):
            matched = self.rule_matches(rule)
            if matched is None:
                known = False
            elif matched:
                reason = reasons.rule_match(index, text(rule, "id"))
                return self._roll(flag, chain[-1], rule, reason) if known else None
        if not known:
            return None
        return self._roll(flag, chain[-1], mapping(flag, "fallthrough") or {}, reasons.fallthrough())

    def _off(self, flag: Item, reason: Reason) -> EvaluationDetail:
        index = integer(flag, "offVariation")
        if index is None:
            return EvaluationDetail(None, None, reason)  # The reason stays: this is no error.
        return self._variation(flag, index, reason)

    def _failed_prerequisite(self, flag: Item, chain: tuple[str, ...]) -> tuple[str | None, bool]:
        """The key of the first one that failed, None when none is known to; and whether all are known."""
        known = True
        for prerequisite in objects(flag, "prerequisites"):
            key = text(prerequisite, "key")
            if key in chain:
                raise MalformedItem(f"flags are prerequisites of each other: {' -> '.join((*chain, key))}")
            if len(chain) == 1:
                self.prerequisites.append(key)
            met = self._prerequisite_met(key, required_integer(prerequisite, "variation"), chain)
            if met is False:
                return key, known
            if met is None:
                known = False
        return None, known

    def _prerequisite_met(self, key: str, variation: int, chain: tuple[str, ...]) -> bool | None:
        if len(chain) >= MAX_DEPTH:
            raise MalformedItem(f"prerequisites refer to each other more than {MAX_DEPTH} deep")
        flag = self.find(FEATURES, key)
        if flag is None:
            return False
        if flag is LACKING:
            return None
        if key not in self.served:
            try:
                self.served[key] = self.serve(flag, (*chain, key))
            except MalformedItem as error:
                raise blamed_on((FEATURES, key), flag, error) from None
        served = self.served[key]
        # One that is off fails, whatever its off variation is; one that is on but has failed itself may pass.
        if not boolean(flag, "on"):
            return False
        return None if served is None else served.variation_index == variation

    def _targeted(self, flag: Item) -> int | None:
        """The variation that lists one of the context's keys, None when none does."""
        if not array(flag, "contextTargets"):
            user = self._context.get_individual_context("user")
            if user is None:
                return None
            for target in objects(flag, "targets"):
                if user.key in array(target, "values"):
                    return required_integer(target, "variation")
            return None
        for target in objects(flag, "contextTargets"):
            kind = text(target, "contextKind") or "user"
            member = self._context.get_individual_context(kind)
            if member is None:
                continue
            keys = array(target, "values")
            if kind == "user" and not keys:
                keys = self._user_keys(flag, required_integer(target, "variation"))
            if member.key in keys:
                return required_integer(target, "variation")
        return None

    def _user_keys(self, flag: Item, variation: int) -> Sequence[object]:
        # An empty entry for users says only where in the order their list comes; the list stands in `targets`.
        for target in objects(flag, "targets"):
            if required_integer(target, "variation") == variation:
                return array(target, "values")
        return ()

    def _roll(self, flag: Item, key: str, served: Item, reason: Reason) -> EvaluationDetail:
        """The variation that a rule or the fallthrough serves, picked by weight where it is a rollout."""
        index = integer(served, "variation")
        if index is not None:
            return self._variation(flag, index, reason)
        rollout = mapping(served, "rollout") or {}
        if not array(rollout, "variations"):
            return self._malformed(f"{_where(reason)} serves neither a variation nor a rollout")
        experiment = text(rollout, "kind") == "experiment"
        kind = text(rollout, "contextKind")
        by = bucket_path("" if experiment else text(rollout, "bucketBy"), kind)
        if by is None:
            return self._malformed(f"bucketBy {rollout['bucketBy']!r} is no attribute reference")
        seed = integer(rollout, "seed")
        prefix = str(seed) if seed is not None else f"{text(flag, 'key') or key}.{text(flag, 'salt')}"
        own_place = bucket(self._context, kind or "user", by, prefix)
        place = (own_place or 0.0) * 100_000
        weights = 0
        for chosen in objects(rollout, "variations"):
            weights += required_integer(chosen, "weight")
            if place < weights:
                break
        # Weights that sum to less leave the rest to the last one.
        if experiment and own_place is not None and not boolean(chosen, "untracked"):
            reason["inExperiment"] = True
        return self._variation(flag, required_integer(chosen, "variation"), reason)

    def _variation(self, flag: Item, index: int, reason: Reason) -> EvaluationDetail:
        variations = array(flag, "variations")
        if 0 <= index < len(variations):
            return EvaluationDetail(variations[index], index, reason)
        return self._malformed(f"{_where(reason)} serves variation {index}, and there are {len(variations)}")

    def _malformed(self, message: str) -> EvaluationDetail:
        # In a prerequisite this is not the end: it merely serves no variation, and so fails.
        self.failure = MalformedItem(message)
        return _error(reasons.MALFORMED_FLAG)


def _error(kind: str) -> EvaluationDetail:
    return EvaluationDetail(None, None, reasons.error(kind))


def _where(reason: Reason) -> str:
    kind = reason["kind"]
    return f"rules[{reason['ruleIndex']}]" if kind == "RULE_MATCH" else str(kind).lower().replace("_", " ")
