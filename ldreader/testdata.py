"""Flags for an application's tests: made by builders, changed at any time, and put over a reader's own for a while.

The builders have the official Python SDK's methods (``ldclient.integrations.test_data``; spec: client behaviour,
section 9), and those that only the PHP SDK has.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from threading import Lock

from .schema import FEATURES, SEGMENTS, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from .errors import StoreError
    from .reader import FlagReader
    from .requesters.protocol import FeatureRequester
    from .schema import Item, ItemRef, JsonText

USER = "user"
TRUE, FALSE = 0, 1
"""Where a boolean flag has its values."""


class TestData:
    """A feature requester for tests, with the flags that `update` put there; threads and readers may share it.

        data = TestData()
        reader = FlagReader(data)
        data.update(data.flag("new-checkout").variation_for_all(True))

    A change shows in the next request. It has no segments.
    """

    __test__ = False  # pytest takes a class of such a name for tests

    def __init__(self) -> None:
        self._lock = Lock()
        self._builders: dict[str, FlagBuilder] = {}
        self._versions: dict[str, int] = {}
        self._texts: dict[str, str] = {}

    @staticmethod
    def data_source() -> TestData:
        """A new, empty one."""
        return TestData()

    def flag(self, key: str) -> FlagBuilder:
        """A builder that starts as the flag was last updated; for a new flag, as a boolean flag that serves True."""
        with self._lock:
            known = self._builders.get(key)
            return FlagBuilder(key).boolean_flag() if known is None else deepcopy(known)

    def update(self, flag_builder: FlagBuilder) -> TestData:
        """This source with the flag as the builder has it now, and with the flag's next version.

        Raises:
            TypeError, ValueError: JSON cannot carry one of the flag's values.
        """
        with self._lock:
            key = flag_builder.key
            version = self._versions.get(key, 0) + 1
            text = dumps(flag_builder.build(version))
            self._builders[key] = deepcopy(flag_builder)
            self._versions[key] = version
            self._texts[key] = text
        return self

    def get_many(self, refs: Sequence[ItemRef]) -> dict[ItemRef, JsonText | StoreError]:
        """The flags that exist."""
        return {(kind, key): self._texts[key] for kind, key in refs if kind == FEATURES and key in self._texts}

    def get_all(self) -> dict[str, dict[str, JsonText | StoreError]]:
        """All flags."""
        with self._lock:
            return {FEATURES: dict(self._texts), SEGMENTS: {}}

    def close(self) -> None:
        """Does nothing: nothing was opened."""


class FlagBuilder:
    """Collects what makes a flag; the setters return the builder, so that calls chain.

    A variation is the index of a value, from 0, or True or False, which makes the flag a boolean one first.
    """

    def __init__(self, key: str) -> None:
        """A flag without values; prefer `TestData.flag`."""
        self.key = key
        self._on = True
        self._variations: list[Any] = []
        self._off_variation: int | None = None
        self._fallthrough_variation: int | None = None
        self._targets: dict[str, dict[int, set[str]]] = {}
        self._rules: list[Item] = []
        self._others: Item = {}

    def on(self, on: bool) -> FlagBuilder:
        """This builder, for a flag that goes by its targets and rules, or one that is off."""
        self._on = on
        return self

    def fallthrough_variation(self, variation: bool | int) -> FlagBuilder:
        """This builder, with what is served to those whom no target and no rule matches."""
        self._fallthrough_variation = self._index(variation)
        return self

    def off_variation(self, variation: bool | int) -> FlagBuilder:
        """This builder, with what is served while the flag is off."""
        self._off_variation = self._index(variation)
        return self

    def boolean_flag(self) -> FlagBuilder:
        """This builder, for a flag of True (when on) and False (when off); one that is so already is left as it is."""
        # By identity, because to Python 1 and 0 are the same.
        if len(self._variations) == 2 and self._variations[TRUE] is True and self._variations[FALSE] is False:
            return self
        return self.variations(True, False).fallthrough_variation(TRUE).off_variation(FALSE)

    def variations(self, *variations: Any) -> FlagBuilder:
        """This builder, with the values that the flag can serve, of whatever JSON types."""
        self._variations = list(variations)
        return self

    def variation_for_all(self, variation: bool | int) -> FlagBuilder:
        """This builder, for a flag that is on and serves everyone this, without targets and rules."""
        index = self._index(variation)
        return self.clear_rules().clear_targets().on(True).fallthrough_variation(index)

    def value_for_all(self, value: Any) -> FlagBuilder:
        """This builder, for a flag that has this value only."""
        return self.variations(value).variation_for_all(0)

    def variation_for_user(self, user_key: str, variation: bool | int) -> FlagBuilder:
        """This builder, with what is served to the user of this key while the flag is on."""
        return self.variation_for_key(USER, user_key, variation)

    def variation_for_key(self, context_kind: str, context_key: str, variation: bool | int) -> FlagBuilder:
        """This builder, with what is served to the context of this kind and key while the flag is on."""
        wanted = self._index(variation)
        targets = self._targets.setdefault(context_kind, {})
        for index in range(len(self._variations)):
            if index == wanted:
                targets.setdefault(index, set()).add(context_key)
            elif index in targets:
                targets[index].discard(context_key)
        return self

    def if_match(self, attribute: str, *values: Any) -> FlagRuleBuilder:
        """A builder of a rule for users whose attribute is one of the values."""
        return self.if_match_context(USER, attribute, *values)

    def if_match_context(self, context_kind: str, attribute: str, *values: Any) -> FlagRuleBuilder:
        """A builder of a rule for contexts of the kind whose attribute is one of the values."""
        return FlagRuleBuilder(self).and_match_context(context_kind, attribute, *values)

    def if_not_match(self, attribute: str, *values: Any) -> FlagRuleBuilder:
        """A builder of a rule for users whose attribute is none of the values."""
        return self.if_not_match_context(USER, attribute, *values)

    def if_not_match_context(self, context_kind: str, attribute: str, *values: Any) -> FlagRuleBuilder:
        """A builder of a rule for contexts of the kind whose attribute is none of the values."""
        return FlagRuleBuilder(self).and_not_match_context(context_kind, attribute, *values)

    def clear_rules(self) -> FlagBuilder:
        """This builder without rules."""
        self._rules = []
        return self

    def clear_targets(self) -> FlagBuilder:
        """This builder without targets."""
        self._targets = {}
        return self

    def migration_settings(self, *, check_ratio: int) -> FlagBuilder:
        """This builder, for a migration that compares results in one of ``check_ratio`` cases (PHP SDK)."""
        self._others["migration"] = {"checkRatio": check_ratio}
        return self

    def sampling_ratio(self, sampling_ratio: int) -> FlagBuilder:
        """This builder, for a flag of whose events one of so many is kept (PHP SDK)."""
        self._others["samplingRatio"] = sampling_ratio
        return self

    def exclude_from_summaries(self, exclude_from_summaries: bool) -> FlagBuilder:
        """This builder, for a flag whose evaluations are not to be counted (PHP SDK)."""
        self._others["excludeFromSummaries"] = exclude_from_summaries
        return self

    def build(self, version: int) -> Item:
        """The flag in LaunchDarkly's JSON form."""
        targets = []
        context_targets = []
        for kind, by_variation in self._targets.items():
            for index, keys in by_variation.items():
                listed = sorted(keys)
                if kind == USER:
                    # Users stand in `targets`; their entry here tells only where in the order they come.
                    targets.append({"variation": index, "values": listed})
                    listed = []
                context_targets.append({"contextKind": kind, "variation": index, "values": listed})
        return {
            "key": self.key,
            "version": version,
            "on": self._on,
            "variations": self._variations,
            "prerequisites": [],
            "salt": "",
            "offVariation": self._off_variation,
            "fallthrough": {"variation": self._fallthrough_variation},
            "targets": targets,
            "contextTargets": context_targets,
            "rules": [{"id": f"rule{number}", **rule} for number, rule in enumerate(self._rules)],
            **self._others,
        }

    def _index(self, variation: bool | int) -> int:
        if not isinstance(variation, bool):
            return variation
        self.boolean_flag()
        return TRUE if variation else FALSE

    def _add_rule(self, variation: bool | int, clauses: list[Item]) -> FlagBuilder:
        self._rules.append({"variation": self._index(variation), "clauses": clauses})
        return self


class FlagRuleBuilder:
    """Collects the clauses of a rule, all of which a context must match; `then_return` ends it."""

    def __init__(self, flag_builder: FlagBuilder) -> None:
        self._flag_builder = flag_builder
        self._clauses: list[Item] = []

    def and_match(self, attribute: str, *values: Any) -> FlagRuleBuilder:
        """This builder, for users whose attribute is one of the values."""
        return self.and_match_context(USER, attribute, *values)

    def and_match_context(self, context_kind: str, attribute: str, *values: Any) -> FlagRuleBuilder:
        """This builder, for contexts of the kind whose attribute is one of the values."""
        return self._clause(context_kind, attribute, values, negate=False)

    def and_not_match(self, attribute: str, *values: Any) -> FlagRuleBuilder:
        """This builder, for users whose attribute is none of the values."""
        return self.and_not_match_context(USER, attribute, *values)

    def and_not_match_context(self, context_kind: str, attribute: str, *values: Any) -> FlagRuleBuilder:
        """This builder, for contexts of the kind whose attribute is none of the values."""
        return self._clause(context_kind, attribute, values, negate=True)

    def then_return(self, variation: bool | int) -> FlagBuilder:
        """The flag's builder, with this rule added and what it serves."""
        return self._flag_builder._add_rule(variation, self._clauses)

    def _clause(self, kind: str, attribute: str, values: tuple[Any, ...], *, negate: bool) -> FlagRuleBuilder:
        self._clauses.append(
            {"contextKind": kind, "attribute": attribute, "op": "in", "values": list(values), "negate": negate}
        )
        return self


@contextmanager
def override_flags(reader: FlagReader, flags: Mapping[str, Any]) -> Iterator[TestData]:
    """Puts flags over those that a reader finds in its store, for a block of a test.

        with override_flags(reader, {"new-checkout": True}):
            ...

    A flag is given as the value that everyone gets, or as a `FlagBuilder`. All other flags and all segments are the
    store's; where only these flags are asked for, the store is not. The block is given a `TestData` to change them
    with. It concerns all threads, and each request that begins within it. Blocks may be nested.
    """
    data = TestData()
    for key, given in flags.items():
        data.update(given if isinstance(given, FlagBuilder) else data.flag(key).value_for_all(given))
    below = reader._requester
    above = _Overlay(data, below)
    reader._requester = above
    try:
        yield data
    finally:
        reader._requester = below


class _Overlay:
    """Some flags, and for everything else another requester."""

    def __init__(self, data: TestData, below: FeatureRequester) -> None:
        self._data = data
        self._below = below

    # A deadline is given only where the store keeps deadlines: whether it does is asked through `__getattr__`.

    def get_many(self, refs: Sequence[ItemRef], *deadline: float) -> dict[ItemRef, JsonText | StoreError]:
        """The flags that are overridden, and what the store has of the others."""
        found = self._data.get_many(refs)
        others = [ref for ref in refs if ref not in found]
        return {**self._below.get_many(others, *deadline), **found} if others else found

    def get_all(self, *deadline: float) -> dict[str, dict[str, JsonText | StoreError]]:
        """Everything, with the flags that are overridden in the place of the store's."""
        below = self._below.get_all(*deadline)
        return {
            FEATURES: {**below[FEATURES], **self._data.get_all()[FEATURES]},
            SEGMENTS: dict(below[SEGMENTS]),
        }

    def close(self) -> None:
        """Closes the store."""
        self._below.close()

    def __getattr__(self, name: str) -> Any:
        # What else the store can do, such as big segments, it still can.
        return getattr(self._below, name)
