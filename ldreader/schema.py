"""The shape of flag and segment JSON, and how it is read.

Reading is tolerant where the official SDKs are (absent and null take the default, unknown properties are ignored,
an integer may be written 1.0) and strict about types: a wrong one raises `WrongShape`, whoever reaches it. Nothing is
checked before it is reached.
"""

from __future__ import annotations

from .errors import MalformedItem
from .twins import json_dumps, json_loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypeAlias, TypedDict

    from typing_extensions import Required

    Item: TypeAlias = dict[str, Any]
    ItemRef: TypeAlias = tuple[str, str]
    JsonText: TypeAlias = bytes | str

    class Prerequisite(TypedDict):
        """Another flag that must be on and serve this variation."""

        key: str
        variation: int

    class Target(TypedDict, total=False):
        """Context keys that are served a variation by name."""

        contextKind: str  # default "user"
        variation: Required[int]
        values: list[str]  # default []

    class Clause(TypedDict, total=False):
        """One test of a rule; a rule matches when all its clauses do."""

        attribute: Required[str]
        op: Required[str]
        values: list[Any]  # default []
        negate: bool  # default False
        contextKind: str  # default "user"; its presence makes `attribute` a reference

    class WeightedVariation(TypedDict, total=False):
        """A share of a rollout, in thousandths of a percent."""

        variation: Required[int]
        weight: Required[int]
        untracked: bool  # default False

    class Rollout(TypedDict, total=False):
        """Variations by weight; the weights of a full rollout sum to 100000."""

        kind: str  # "rollout" or "experiment"
        contextKind: str  # default "user"; its presence makes `bucketBy` a reference
        variations: list[WeightedVariation]
        bucketBy: str  # default "key"
        seed: int  # 0 is a real seed

    class VariationOrRollout(TypedDict, total=False):
        """What is served: one variation, or else a rollout."""

        variation: int
        rollout: Rollout

    class Rule(VariationOrRollout, total=False):
        """A rule of a flag; one without clauses matches everyone."""

        id: str
        clauses: list[Clause]
        trackEvents: bool

    class Flag(TypedDict, total=False):
        """A flag; what is absent or null takes the default (spec: store schemas, section 11)."""

        key: str
        version: int
        deleted: bool
        on: bool
        variations: list[Any]
        offVariation: int | None
        fallthrough: VariationOrRollout
        prerequisites: list[Prerequisite]
        targets: list[Target]
        contextTargets: list[Target]
        rules: list[Rule]
        salt: str
        trackEvents: bool
        trackEventsFallthrough: bool
        debugEventsUntilDate: float | None
        clientSide: bool
        clientSideAvailability: dict[str, bool]

    class SegmentRule(TypedDict, total=False):
        """A rule of a segment; `weight` keeps a share of those whom its clauses match."""

        clauses: list[Clause]
        weight: int | None
        bucketBy: str  # default "key"
        rolloutContextKind: str  # default "user"; its presence makes `bucketBy` a reference

    class Segment(TypedDict, total=False):
        """A segment; the lists of an unbounded one (a big segment) are in a store of their own."""

        key: str
        version: int
        deleted: bool
        included: list[str]
        excluded: list[str]
        includedContexts: list[Target]
        excludedContexts: list[Target]
        rules: list[SegmentRule]
        salt: str
        unbounded: bool
        unboundedContextKind: str
        generation: int | None


FEATURES = "features"
SEGMENTS = "segments"
MEMBERSHIPS = "memberships"
"""The kind of a reference to a context's big segment memberships; its key is the context's plain key."""


class WrongShape(MalformedItem):
    """A field of the wrong type. Where it stands is worked out by `blamed_on`, not before."""

    def __init__(self, holder: Any, at: str | int, wanted: str) -> None:
        super().__init__(f"{at} must be {wanted}")
        self._holder = holder
        self._at = at
        self._wanted = wanted

    def sentence(self, item: Item) -> str:
        """What is wrong and where in the item: ``rules[2].clauses[0].values must be a list, not 7``."""
        place = _place(item, self._holder) or ()
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*place, self._at))
        if isinstance(self._at, str) and self._at not in self._holder:
            return f"{path.lstrip('.')} must be {self._wanted}, and is missing"
        return f"{path.lstrip('.')} must be {self._wanted}, not {_shown(self._holder[self._at])}"


def blamed_on(ref: ItemRef, item: Item, error: MalformedItem) -> MalformedItem:
    """The error with the item that is to blame before it; the first item to be named is the one."""
    if error.names_its_item:
        return error
    said = error.sentence(item) if isinstance(error, WrongShape) else str(error)
    return _malformed(f"{name_of(ref)}: {said}")


def name_of(ref: ItemRef) -> str:
    """What people call an item: ``flag 'checkout'``."""
    kind, key = ref
    return f"{'flag' if kind == FEATURES else 'segment'} {key!r}"


def decode(ref: ItemRef, text: JsonText) -> Item | MalformedItem | None:
    """The item that a store keeps under a reference: None for a tombstone, the error for one that is unreadable."""
    try:
        item = json_loads(text)
    except RecursionError:
        return _malformed(f"{name_of(ref)} is nested too deeply")
    except (ValueError, TypeError) as error:
        return _malformed(f"{name_of(ref)} is not JSON: {error}")
    if type(item) is not dict:
        return _malformed(f"{name_of(ref)} must be a JSON object, not {_shown(item)}")
    # A tombstone may lack every other field, its key too, so nothing is read before this.
    deleted = item.get("deleted")
    if deleted is True:
        return None
    if deleted is None or deleted is False:
        return item
    return _malformed(f"{name_of(ref)}: deleted must be true or false, not {_shown(deleted)}")


def loads(text: JsonText) -> Any:
    """The value of a JSON text; ValueError for what only Python takes for JSON, such as NaN."""
    return json_loads(text)


def dumps(value: Any) -> str:
    """JSON text of a value that came from JSON; a number beyond a double's range, read as infinity, becomes null."""
    try:
        return json_dumps(value)
    except ValueError:
        return json_dumps(_finite(value))


def boolean(holder: Mapping[str, object], name: str) -> bool:
    """The field's truth, False by default."""
    value = holder.get(name)
    if value is True:
        return True
    if value is None or value is False:
        return False
    raise WrongShape(holder, name, "true or false")


def integer(holder: Mapping[str, object], name: str) -> int | None:
    """The field's integer, None by default; 1.0 is an integer too, as some writers put it."""
    value = holder.get(name)
    if value is None or type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise WrongShape(holder, name, "an integer")


def required_integer(holder: Mapping[str, object], name: str) -> int:
    """The field's integer; there is no default."""
    value = holder.get(name)
    if type(value) is int:
        return value
    found = integer(holder, name)
    if found is None:
        raise WrongShape(holder, name, "an integer")
    return found


def text(holder: Mapping[str, object], name: str) -> str:
    """The field's string, "" by default."""
    value = holder.get(name)
    if type(value) is str:
        return value
    if value is None:
        return ""
    raise WrongShape(holder, name, "a string")


def array(holder: Mapping[str, object], name: str) -> Sequence[Any]:
    """The field's list, empty by default."""
    value = holder.get(name)
    if type(value) is list:
        return value
    if value is None:
        return ()
    raise WrongShape(holder, name, "a list")


def objects(holder: Mapping[str, object], name: str) -> Iterable[Item]:
    """The objects in the field's list; each is checked as it is reached."""
    values = holder.get(name)
    if type(values) is list:
        return _each(values) if values else ()
    return array(holder, name)


def _each(values: Sequence[Any]) -> Iterator[Item]:
    for index, value in enumerate(values):
        if type(value) is not dict:
            raise WrongShape(values, index, "an object")
        yield value


def mapping(holder: Mapping[str, object], name: str) -> Item | None:
    """The field's object, None by default."""
    value = holder.get(name)
    if value is None or type(value) is dict:
        return value
    raise WrongShape(holder, name, "an object")


def _finite(value: Any) -> Any:
    if type(value) is dict:
        return {key: _finite(member) for key, member in value.items()}
    if type(value) is list:
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and value - value != 0 else value


def _malformed(message: str) -> MalformedItem:
    error = MalformedItem(message)
    error.names_its_item = True
    return error


def _shown(value: object) -> str:
    if type(value) is dict or type(value) is list:
        return "an object" if type(value) is dict else "a list"  # may be as long or as deep as it likes
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _place(root: object, wanted: object) -> tuple[str | int, ...] | None:
    """The path from one container to another within it, found by identity."""
    pending: list[tuple[tuple[str | int, ...], object]] = [((), root)]
    while pending:
        path, inside = pending.pop()
        if inside is wanted:
            return path
        if type(inside) is dict:
            pending.extend(((*path, step), member) for step, member in inside.items())
        elif type(inside) is list:
            pending.extend(((*path, step), member) for step, member in enumerate(inside))
    return None
