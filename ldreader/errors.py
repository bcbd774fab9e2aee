"""Everything that ldreader raises on purpose.

A wrong set-up raises when a reader is opened. Evaluating a flag raises only in a reader made with ``strict=True``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .detail import EvaluationDetail


class LdreaderError(Exception):
    """The base of every error below."""


class ConfigurationError(LdreaderError, ValueError):
    """A reader cannot be opened as asked: an unknown URL scheme or option, a value that makes no sense."""


class MissingDependency(ConfigurationError):
    """A package that the store needs is not installed; the message names the extra that brings it."""


class EvaluationError(LdreaderError):
    """The base of what an evaluation raises in a strict reader; otherwise it becomes the reason of the result."""

    detail: EvaluationDetail | None = None
    """What a reader that is not strict would have returned, where it is about one flag."""


class StoreError(EvaluationError):
    """The store did not answer, or not in a way that can be used."""

    answered = False
    """True when the store did answer, with a refusal: asking it for something else may well succeed."""


class FlagNotFound(EvaluationError):
    """The store answered that there is no such flag, or that it was deleted."""


class InvalidContext(EvaluationError):
    """The context to evaluate for is not valid; the message is the context's ``error``."""


class MalformedItem(EvaluationError):
    """A flag or segment is there but cannot be read as one: no JSON, a wrong type, a cycle, an index out of range."""

    names_its_item = False
    """True when the message begins with the flag or segment that is to blame."""


class WrongType(EvaluationError):
    """A typed evaluation met a value of another JSON type."""
