"""Contexts: what a flag is evaluated for, of a single kind or of several kinds at once.

Nothing here raises for bad data: a context that cannot be used is a value whose ``error`` says why. The texts never
show an attribute's value, because they end up in logs.
"""

from __future__ import annotations

from .twins import json_loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypeGuard

_KIND_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
# Properties of the JSON form that are no custom attributes. The empty name is ignored: no reference can mean it.
_NOT_CUSTOM = frozenset(("", "kind", "key", "name", "anonymous", "_meta"))
_NO_ATTRIBUTES: dict[str, Any] = {}  # shared by contexts that have none, and never written to
_DEEPEST = 100  # levels kept of a value that has to be cleaned before it can be JSON


class Context:
    """A user, a device, an organisation: one kind with its attributes, or one context each of several kinds.

    ``Context.create``, ``builder``, ``create_multi``, ``from_dict`` and ``from_json`` make one. It does not change
    afterwards. An invalid one is a value too: see ``valid`` and ``error``.
    """

    DEFAULT_KIND = "user"
    MULTI_KIND = "multi"

    __slots__ = ("_anonymous", "_attributes", "_error", "_key", "_kind", "_members", "_name", "_private")

    _kind: str
    _key: str
    _name: str | None
    _anonymous: bool
    _attributes: Mapping[str, Any]
    _private: tuple[str, ...]
    _members: tuple[Context, ...] | None
    _error: str | None

    def __init__(
        self,
        kind: str | None,
        key: str,
        name: str | None = None,
        anonymous: bool = False,
        attributes: Mapping[str, Any] | None = None,
        private_attributes: Sequence[str] | None = None,
    ) -> None:
        """A context of a single kind; prefer ``create`` and ``builder``."""
        if kind is None:
            kind = "user"
        # An enumeration of strings would be written by its name.
        self._kind = str.__str__(kind) if isinstance(kind, str) else kind
        self._key = str.__str__(key) if isinstance(key, str) else key
        self._name = str.__str__(name) if isinstance(name, str) else name
        self._anonymous = anonymous
        self._attributes = _NO_ATTRIBUTES
        self._private = ()
        self._members = None
        self._error = None
        if kind != "user" and (error := _kind_error(kind)) is not None:
            self._fail(error)
        elif not isinstance(key, str) or not key:
            self._fail(
                "context key must be a non-empty string" + ("" if isinstance(key, str) else f", not {_type(key)}")
            )
        elif name is not None and not isinstance(name, str):
            self._fail(f"context name must be a string or None, not {_type(name)}")
        elif anonymous is not True and anonymous is not False:
            self._fail(f"anonymous must be True or False, not {_type(anonymous)}")
        else:
            if attributes:
                if not all(isinstance(attribute, str) for attribute in attributes):
                    self._fail("attribute names must be strings")
                    return
                # A null attribute is an absent one.
                self._attributes = {n: v for n, v in attributes.items() if v is not None and n not in _NOT_CUSTOM}
            if private_attributes:
                if not all(isinstance(reference, str) for reference in private_attributes):
                    self._fail("private attributes must be strings: attribute names or references")
                    return
                self._private = tuple(private_attributes)

    def _fail(self, error: str) -> None:
        self._kind = self._key = ""
        self._name = None
        self._anonymous = False
        self._attributes = _NO_ATTRIBUTES
        self._private = ()
        self._members = None
        self._error = error

    @classmethod
    def create(cls, key: str, kind: str | None = None) -> Context:
        """A context with a key and, unless another kind is given, of kind ``user``."""
        return Context(kind, key)

    @classmethod
    def create_multi(cls, *contexts: Context) -> Context:
        """One context that holds all of these, each of a different kind.

        Contexts of several kinds contribute their members; a single context comes back as it is.
        """
        builder = ContextMultiBuilder()
        for context in contexts:
            builder.add(context)
        return builder.build()

    @classmethod
    def from_dict(cls, props: Mapping[str, Any]) -> Context:
        """The context that LaunchDarkly's JSON form describes; an invalid one if it describes none. Never raises."""
        if not _is_object(props):
            return _invalid(f"a context must be a JSON object (a dict), not {_type(props)}")
        kind = props.get("kind")
        if not isinstance(kind, str):
            return _invalid(f"context kind must be a string such as 'user', not {_type(kind)}")
        if kind != "multi":
            return _single(props, kind)
        members = []
        for name, member in props.items():
            if name == "kind":
                continue
            if not isinstance(name, str):
                return _invalid("context kinds must be strings")
            if not _is_object(member):
                return _invalid(f"member {name[:60]!r} of a multi-kind context must be an object, not {_type(member)}")
            members.append(_single(member, name))
        return _multi(members)

    @classmethod
    def from_json(cls, text: str | bytes) -> Context:
        """The context that a JSON text describes; an invalid one if the text is not such JSON. Never raises."""
        if not isinstance(text, (str, bytes, bytearray)):
            return _invalid(f"a context's JSON text must be str or bytes, not {_type(text)}")
        try:
            props = json_loads(text)
        except ValueError as error:
            if hasattr(error, "lineno") and hasattr(error, "colno"):  # its own text may quote the input
                return _invalid(f"context is not valid JSON: see line {error.lineno}, column {error.colno}")
            # NaN, bytes that are no text, a number of thousands of digits
            return _invalid("context is not valid JSON: it has a number or a character that JSON does not allow")
        except RecursionError:
            return _invalid("context JSON is nested too deeply: make it flatter")
        return cls.from_dict(props)

    @classmethod
    def builder(cls, key: str) -> ContextBuilder:
        """A builder for a context with this key and more attributes; its kind is ``user`` until set."""
        return ContextBuilder(key)

    @classmethod
    def builder_from_context(cls, context: Context) -> ContextBuilder:
        """A builder that starts with all that a single-kind context has."""
        context = as_context(context)
        return ContextBuilder(context.key, context)

    @classmethod
    def multi_builder(cls) -> ContextMultiBuilder:
        """A builder for a context of several kinds, for adding them one at a time."""
        return ContextMultiBuilder()

    @property
    def valid(self) -> bool:
        """True if flags can be evaluated for this context."""
        return self._error is None

    @property
    def error(self) -> str | None:
        """What is wrong with an invalid context and what to do, or None for a valid one."""
        return self._error

    @property
    def multiple(self) -> bool:
        """True for a context of several kinds."""
        return self._members is not None

    @property
    def kind(self) -> str:
        """The kind; ``multi`` for a context of several kinds, empty for an invalid one."""
        return self._kind

    @property
    def key(self) -> str:
        """The key; empty for a context of several kinds, where each member has its own, and for an invalid one."""
        return self._key

    @property
    def name(self) -> str | None:
        """The name that LaunchDarkly displays, if there is one."""
        return self._name

    @property
    def anonymous(self) -> bool:
        """True if the context is for evaluation only and not to be listed in LaunchDarkly."""
        return self._anonymous

    @property
    def custom_attributes(self) -> Iterable[str]:
        """The names of all attributes but kind, key, name and anonymous."""
        return tuple(self._attributes)

    @property
    def private_attributes(self) -> Iterable[str]:
        """The references to values that must not leave in events, as they were given, invalid ones included."""
        return self._private

    @property
    def individual_context_count(self) -> int:
        """The number of kinds: 1 for a single-kind context, 0 for an invalid one."""
        if self._error is not None:
            return 0
        return 1 if self._members is None else len(self._members)

    @property
    def fully_qualified_key(self) -> str:
        """One string made of all kinds and keys; just the key for a single context of kind ``user``."""
        if self._members is not None:
            return ":".join([f"{member._kind}:{_escaped(member._key)}" for member in self._members])
        if self._kind == "user" or self._error is not None:
            return self._key
        return f"{self._kind}:{_escaped(self._key)}"

    def kinds(self) -> tuple[str, ...]:
        """The kind of each member in order, or the only kind; nothing for an invalid context."""
        if self._members is not None:
            return tuple([member._kind for member in self._members])
        return () if self._error is not None else (self._kind,)

    def get_individual_context(self, kind: int | str) -> Context | None:
        """The single-kind context of this kind, or at this place in the order of kinds; None if there is none."""
        members = self._members
        if isinstance(kind, str):
            if members is None:
                return self if kind == self._kind and self._error is None else None
            for member in members:
                if member._kind == kind:
                    return member
            return None
        if not isinstance(kind, int) or not 0 <= kind < self.individual_context_count:
            return None
        return self if members is None else members[kind]

    def get(self, attribute: str) -> Any:
        """The value of the attribute with exactly this name, or None; of several kinds together, only ``kind``."""
        if attribute == "key":
            return self._key or None  # a valid single context always has one, the others have none
        if attribute == "kind":
            return self._kind or None
        if attribute == "name":
            return self._name
        if attribute == "anonymous":
            return self._anonymous if self._key else None
        return self._attributes.get(attribute)

    def __getitem__(self, attribute: str) -> Any:
        """The same as ``get``: a missing attribute is None."""
        return self.get(attribute) if isinstance(attribute, str) else None

    # Without these, `in` and `iter` would ask `__getitem__` for 0, 1, 2 … without end.
    __contains__ = None
    __iter__ = None

    def resolve(self, path: tuple[str, ...]) -> Any:
        """The value at the path of a parsed reference, or None; only objects are entered, lists are not indexed."""
        value = self.get(path[0])
        if len(path) == 1:
            return value
        for name in path[1:]:
            if not _is_object(value):
                return None
            value = value.get(name)
        return value

    def without_anonymous_contexts(self) -> Context:
        """This context without its anonymous members; an invalid one if nothing is left."""
        if self._error is not None:
            return self
        members = (self,) if self._members is None else self._members
        named = [member for member in members if not member._anonymous]
        if len(named) == len(members):
            return self
        return _multi(named) if named else _invalid("context has only anonymous kinds: nothing is left without them")

    def to_dict(self) -> dict[str, Any]:
        """The context in LaunchDarkly's JSON form, as the browser SDKs take it; empty for an invalid one."""
        if self._error is not None:
            return {}
        if self._members is None:
            return {"kind": self._kind, **self._properties()}
        return {"kind": "multi", **{member._kind: member._properties() for member in self._members}}

    def to_json_string(self) -> str:
        """``to_dict`` as compact JSON; what JSON cannot carry, such as NaN or a date object, becomes null."""
        import json

        props = self.to_dict()
        try:
            return json.dumps(props, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError):
            return json.dumps(cleaned(props), allow_nan=False, separators=(",", ":"))

    def _properties(self) -> dict[str, Any]:
        props: dict[str, Any] = {"key": self._key}
        if self._name is not None:
            props["name"] = self._name
        if self._anonymous:
            props["anonymous"] = True
        props.update(self._attributes)
        if self._private:
            props["_meta"] = {"privateAttributes": list(self._private)}
        return props

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        return (
            self._kind == other._kind
            and self._key == other._key
            and self._name == other._name
            and self._anonymous == other._anonymous
            and self._attributes == other._attributes
            # A set in meaning: the order of the references and naming one twice say nothing.
            and set(self._private) == set(other._private)
            and self._members == other._members
            and self._error == other._error
        )

    def __hash__(self) -> int:
        # Kinds and keys only: attribute values may be lists. Equal contexts agree in these.
        return hash((self.fully_qualified_key, self._error))

    def __repr__(self) -> str:
        # Kinds and keys only: a repr ends up in logs, where attributes have no place.
        if self._error is not None:
            return f"<invalid Context: {self._error}>"
        return f"<Context {self.fully_qualified_key!r}>"


class ContextBuilder:
    """Collects the attributes of a single-kind context; the setters return the builder, so that calls chain."""

    __slots__ = ("_anonymous", "_attributes", "_key", "_kind", "_name", "_private")

    def __init__(self, key: str, copy_from: Context | None = None) -> None:
        self._key = key
        self._kind: str | None = None
        self._name: str | None = None
        self._anonymous = False
        self._attributes: dict[str, Any] = {}
        self._private: list[str] = []
        if copy_from is not None:
            self._kind = copy_from._kind
            self._name = copy_from._name
            self._anonymous = copy_from._anonymous
            self._attributes.update(copy_from._attributes)
            self._private.extend(copy_from._private)

    def build(self) -> Context:
        """The context as set so far; further use of the builder does not change it."""
        return Context(self._kind, self._key, self._name, self._anonymous, self._attributes, self._private)

    def key(self, key: str) -> ContextBuilder:
        """This builder with another key: any string but an empty one."""
        self._key = key
        return self

    def kind(self, kind: str | None) -> ContextBuilder:
        """This builder with another kind; None is ``user``, an empty kind is invalid."""
        self._kind = kind
        return self

    def name(self, name: str | None) -> ContextBuilder:
        """This builder with another name, or with none."""
        self._name = name
        return self

    def anonymous(self, anonymous: bool) -> ContextBuilder:
        """This builder for a context that is to be listed in LaunchDarkly (False) or not (True)."""
        self._anonymous = anonymous
        return self

    def set(self, attribute: str, value: Any) -> ContextBuilder:
        """This builder with one attribute set, or removed by None; ``try_set`` tells whether it was accepted."""
        self.try_set(attribute, value)
        return self

    def try_set(self, attribute: str, value: Any) -> bool:
        """True if the attribute can have this name and value and is set now; otherwise nothing changed."""
        if not isinstance(attribute, str):
            return False
        if attribute not in _NOT_CUSTOM:
            if value is None:
                self._attributes.pop(attribute, None)
            else:
                self._attributes[attribute] = value
            return True
        if attribute == "key" and isinstance(value, str):
            self._key = value
        elif attribute == "kind" and isinstance(value, str):
            self._kind = value
        elif attribute == "name" and (value is None or isinstance(value, str)):
            self._name = value
        elif attribute == "anonymous" and isinstance(value, bool):
            self._anonymous = value
        else:
            return False
        return True

    def private(self, *attributes: str) -> ContextBuilder:
        """This builder with more attributes, or references to values inside them, that must not leave in events."""
        self._private.extend(attributes)
        return self


class ContextMultiBuilder:
    """Collects contexts of different kinds into one."""

    __slots__ = ("_contexts",)

    def __init__(self) -> None:
        self._contexts: list[Context] = []

    def build(self) -> Context:
        """All contexts added so far as one; the context itself if it is only one."""
        return _multi(self._contexts)

    def add(self, context: Context) -> ContextMultiBuilder:
        """This builder with one context more, or with each member of a context of several kinds."""
        context = as_context(context)
        self._contexts.extend((context,) if context._members is None else context._members)
        return self


def as_context(value: object) -> Context:
    """The context that a caller means: a Context as it is, a mapping in JSON form read; else an invalid context."""
    if isinstance(value, Context):
        return value
    if _is_object(value):
        try:
            return Context.from_dict(value)
        except Exception as error:  # a mapping of the application's own may do anything
            return _invalid(f"the mapping given as a context cannot be read: {type(error).__name__}")
    if value is None:
        return _invalid("no context was given: make one with Context.create(key)")
    return _invalid(f"a context must be a Context or a mapping, not {_type(value)}: make one with Context.create(key)")


def _single(props: Mapping[str, Any], kind: str) -> Context:
    """The context of one JSON object; a kind of its own goes before the name that it has in a multi-kind context."""
    kind = props.get("kind", kind)
    if not isinstance(kind, str):
        return _invalid(f"context kind must be a string such as 'user', not {_type(kind)}")
    private = None
    if (meta := props.get("_meta")) is not None:
        if not _is_object(meta):
            return _invalid(f"_meta must be an object, not {_type(meta)}")
        private = meta.get("privateAttributes")
        if private is not None and not isinstance(private, (list, tuple)):
            return _invalid(f"privateAttributes must be a list, not {_type(private)}")
    return Context(kind, props.get("key", ""), props.get("name"), props.get("anonymous", False), props, private)


def _multi(contexts: Sequence[Context]) -> Context:
    """These single-kind contexts as one, in the order of their kinds."""
    if not contexts:
        return _invalid("multi-kind context is empty: add a context of at least one kind")
    if len(contexts) == 1:
        return contexts[0]
    if errors := [context._error for context in contexts if context._error is not None]:
        return _invalid(", ".join(errors))
    members = tuple(sorted(contexts, key=lambda context: context._kind))
    if len({member._kind for member in members}) < len(members):
        return _invalid("multi-kind context has the same kind twice: add each kind once")
    multi = Context("user", "members")
    multi._kind, multi._key, multi._members = "multi", "", members
    return multi


def _invalid(error: str) -> Context:
    context = Context("user", "invalid")
    context._fail(error)
    return context


def _kind_error(kind: str) -> str | None:
    """What is wrong with the kind of a single context, if anything is."""
    if not isinstance(kind, str):
        return f"context kind must be a string, not {_type(kind)}"
    if not kind:
        return "context kind is empty: give one, such as 'user'"
    if kind == "kind":
        return "context kind 'kind' is reserved: choose another name"
    if kind == "multi":
        return "context kind 'multi' is reserved: combine contexts with Context.create_multi"
    if kind.strip(_KIND_CHARACTERS):  # something is left exactly if there is any other character
        return f"context kind {kind[:60]!r} is not allowed: use only ASCII letters, digits, '.', '_' and '-'"
    return None


def _escaped(key: str) -> str:
    """The key as part of a fully-qualified key; all LaunchDarkly SDKs escape these two characters and no others."""
    return key.replace("%", "%25").replace(":", "%3A")


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _is_object(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether the value is what JSON calls an object: a dict or another mapping."""
    if isinstance(value, dict):
        return True
    if value is None or isinstance(value, (str, int, float, list, tuple)):
        return False
    from collections.abc import Mapping  # here, because hardly any caller has another mapping than dict

    return isinstance(value, Mapping)


def cleaned(value: Any, above: tuple[int, ...] = ()) -> Any:
    """The value as JSON can carry it: null for what it cannot, for a value inside itself and below 100 levels."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 1024 else None  # more than any double; Python may refuse to print it
    if isinstance(value, float):
        return value if value - value == 0 else None  # NaN and the infinities
    if id(value) in above or len(above) > _DEEPEST:
        return None
    above = (*above, id(value))
    if _is_object(value):
        return {name: cleaned(item, above) for name, item in value.items() if isinstance(name, str)}
    return [cleaned(item, above) for item in value] if isinstance(value, (list, tuple)) else None
