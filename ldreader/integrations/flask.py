"""Feature flags in Flask: one `Request` for each HTTP request, made when a flag is first asked for.

    flags = Flags()  # the store is LDREADER_STORE, in the application's configuration or the environment

    @flags.context_loader
    def visitor():
        return {"kind": "user", "key": session["user"]}

    def create_app():
        app = Flask(__name__)
        flags.init_app(app)
        return app

Views then ask ``flags.variation("new-checkout", False)``, and templates ``flag("new-checkout")``.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
import flask
from flask import Flask, Response, current_app, g, has_request_context
from flask.cli import AppGroup, with_appcontext
from markupsafe import Markup
from werkzeug.wsgi import ClosingIterator

from .. import log
from ..cli import main
from ..cli.options import COMMANDS
from ..context import Context, no_context
from ..errors import ConfigurationError
from ..reader import FlagReader
from ..request import Request
from ..requesters import seconds

P = ParamSpec("P")
T = TypeVar("T")
AnyContext = Context | Mapping[str, Any]
Loader = TypeVar("Loader", bound=Callable[[], AnyContext | None])

EXTENSION = "ldreader"

NOBODY = Context.builder("anonymous").anonymous(True).build()
"""For whom flags are evaluated when the context loader knows nobody."""

# JSON text is ASCII here: what else could end a line or a string of a script is escaped already.
_HARMLESS = {ord(character): f"\\u{ord(character):04x}" for character in "<>&'"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What belongs to one application: ``app.extensions["ldreader"]``."""

    reader: FlagReader
    timeout: float | None
    prefetch: tuple[str, ...]


def _of_now(method: Callable[Concatenate[Request, P], T]) -> Callable[Concatenate[Flags, P], T]:
    """A method of `Request` that can be called on the extension: it is the current request's."""

    @functools.wraps(method)
    def called(self: Flags, /, *args: P.args, **kwargs: P.kwargs) -> T:
        name = method.__name__
        # The state of all flags reads everything, so nothing is to be fetched before it.
        request = self._now(prefetch=name != "all_flags_state")
        # By its name: a request with observers has methods of its own.
        result: T = getattr(request, name)(*args, **kwargs)
        return result

    return called


class Flags:
    """The extension. It may serve several applications and holds none of them.

    The evaluation methods are those of the current HTTP request's `Request`, which evaluates for the context that the
    context loader gives. A store that fails, or a loader that does, gives the defaults and one log line.

    Args:
        app: An application to begin with, as with `init_app`.
        reader: Serves every application that is given no reader of its own, whatever its configuration says.
    """

    def __init__(self, app: Flask | None = None, *, reader: FlagReader | None = None) -> None:
        self._reader = reader
        self._load: Callable[[], AnyContext | None] | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, reader: FlagReader | None = None) -> None:
        """Sets the application up, with a reader by its configuration unless one is given. Contacts nothing yet.

        Raises:
            ConfigurationError: The configuration names no store or makes no sense, or this was done before.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("the application has its flags already: call init_app once for each application")
        app.extensions[EXTENSION] = Settings(
            reader or self._reader or _configured_reader(app), _configured_timeout(app), _configured_prefetch(app)
        )
        app.after_request(_keep_while_streaming)
        app.teardown_request(_close_request)
        app.teardown_appcontext(_close_all)
        app.add_template_global(self._flag, "flag")
        app.add_template_global(self.bootstrap, "flags_bootstrap")
        app.cli.add_command(_commands())

    def context_loader(self, load: Loader) -> Loader:
        """Registers the function that returns the context of the current HTTP request; for use as a decorator.

        It is called once for each HTTP request that asks for a flag. Where it returns None, flags are evaluated for
        one anonymous user, the same for all; where it raises, they give their defaults.

        Raises:
            ConfigurationError: It is no function, or an async one.
        """
        if not callable(load) or inspect.iscoroutinefunction(load):
            raise ConfigurationError(f"a context loader must be a function, and not async, but this is {load!r}")
        self._load = load
        return load

    @property
    def reader(self) -> FlagReader:
        """The current application's reader, for evaluations that are about another context than the visitor's.

        Raises:
            ConfigurationError: There is no current application, or it was not set up.
        """
        return _settings().reader

    @property
    def request(self) -> Request:
        """The flags of the current HTTP request, or of the app context where there is none.

        Raises:
            ConfigurationError: There is no current application, it was not set up, or there is no context loader.
        """
        return self._now(prefetch=True)

    variation = _of_now(Request.variation)
    variation_detail = _of_now(Request.variation_detail)
    bool_variation = _of_now(Request.bool_variation)
    bool_variation_detail = _of_now(Request.bool_variation_detail)
    string_variation = _of_now(Request.string_variation)
    string_variation_detail = _of_now(Request.string_variation_detail)
    int_variation = _of_now(Request.int_variation)
    int_variation_detail = _of_now(Request.int_variation_detail)
    float_variation = _of_now(Request.float_variation)
    float_variation_detail = _of_now(Request.float_variation_detail)
    json_variation = _of_now(Request.json_variation)
    json_variation_detail = _of_now(Request.json_variation_detail)
    all_flags_state = _of_now(Request.all_flags_state)
    prefetch = _of_now(Request.prefetch)
    migration_variation = _of_now(Request.migration_variation)
    track_migration_op = _of_now(Request.track_migration_op)
    track = _of_now(Request.track)
    identify = _of_now(Request.identify)

    def bootstrap(self, with_reasons: bool = False, details_only_for_tracked_flags: bool = False) -> Markup:
        """The flags that browsers may see, as the JSON object that LaunchDarkly's JavaScript clients start from.

        Templates have it as ``flags_bootstrap``. No flag's key or value can end the ``<script>`` element, or the
        attribute in single quotes, where it stands.
        """
        state = self.all_flags_state(True, with_reasons, details_only_for_tracked_flags)
        return Markup(state.to_json_string().translate(_HARMLESS))

    def required(self, *keys: str, redirect: str | None = None) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
        """A decorator for views that are there only where all these flags are true.

        Elsewhere the answer is 404, or a redirect to that endpoint, or to that URL when it has a slash in it. Flags
        that cannot be evaluated count as false, unless the reader's ``defaults`` have them.

        Raises:
            ConfigurationError: No flag is named.
        """
        if not keys or not all(isinstance(key, str) for key in keys):
            raise ConfigurationError('name the flags that the view needs: @flags.required("new-checkout")')

        def behind_flags(view: Callable[P, Any]) -> Callable[P, Any]:
            @functools.wraps(view)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
                request = self.request
                request.prefetch(*keys)
                if all(request.bool_variation(key, False) for key in keys):
                    return current_app.ensure_sync(view)(*args, **kwargs)
                if redirect is None:
                    flask.abort(404)
                return flask.redirect(redirect if "/" in redirect else flask.url_for(redirect))

            return guarded

        return behind_flags

    def _now(self, *, prefetch: bool) -> Request:
        use = _use()
        if use.request is None:
            settings = _settings()
            use.request = settings.reader.request(self._context(use), timeout=settings.timeout)
            if prefetch and settings.prefetch:
                use.request.prefetch(*settings.prefetch)
        return use.request

    def _flag(self, key: str, default: Any = None) -> Any:
        """The flag's value for the visitor; None, which a template takes for false, where there is none."""
        return self.variation(key, default)

    def _context(self, use: _Use) -> AnyContext:
        if self._load is None:
            raise ConfigurationError(
                "for whom flags are evaluated is not known: register a function that returns the context of the "
                "current HTTP request with @flags.context_loader"
            )
        if use.loading:
            raise ConfigurationError("the context loader asks for a flag, which waits for the context")
        use.loading = True
        try:
            context = self._load()
        except Exception as error:
            why = str(error) if isinstance(error, ConfigurationError) else log.unexpected(error)
            name = getattr(self._load, "__qualname__", "of the application")
            return no_context(f"the context loader {name} failed: {why}")
        finally:
            use.loading = False
        return NOBODY if context is None else context


class _Use:
    """The use that one HTTP request makes of flags, or one app context outside of any."""

    __slots__ = ("loading", "request", "streams")

    def __init__(self) -> None:
        self.request: Request | None = None
        self.loading = False
        self.streams = False
        """Whether the response is still being made when its contexts end, so that something else ends the use."""

    def close(self) -> None:
        if self.request is not None:
            self.request.close()


def _uses() -> dict[object, _Use]:
    # Several HTTP requests share one ``g`` where a test pushes an app context around them.
    uses: dict[object, _Use] = g.setdefault("_ldreader", {})
    return uses


def _key() -> object:
    return flask.request._get_current_object() if has_request_context() else None  # type: ignore[attr-defined]


def _use() -> _Use:
    _settings()
    return _uses().setdefault(_key(), _Use())


def _keep_while_streaming(response: Response) -> Response:
    use, stream = _use(), response.response
    # Since Flask 3.1.2 the contexts end before a stream begins, and come back for it. Not ``is_streamed``, which is
    # true of pages of errors too: of them, Werkzeug makes a closing iterator. What is passed through is a file, mostly.
    kind = Generator if response.direct_passthrough else Iterator
    use.streams = isinstance(stream, kind) and not isinstance(stream, ClosingIterator)
    if use.streams:
        response.call_on_close(use.close)
        if response.direct_passthrough:  # a server closes what it is given, which is not the response
            response.response = ClosingIterator(stream, use.close)  # type: ignore[arg-type]
    return response


def _close_request(error: BaseException | None) -> None:
    use = _uses().get(_key())
    if use is not None and not use.streams:
        _uses().pop(_key()).close()


def _close_all(error: BaseException | None) -> None:
    for use in _uses().values():
        if not use.streams:
            use.close()


def _settings() -> Settings:
    if not current_app:
        raise ConfigurationError(
            "no application is at work here: give a generator that a view returns to flask.stream_with_context, and "
            "run code outside of HTTP requests in a block of app.app_context()"
        )
    settings = current_app.extensions.get(EXTENSION)
    if not isinstance(settings, Settings):
        raise ConfigurationError(f"the application {current_app.name!r} is not set up: call flags.init_app(app)")
    return settings


def _configured_reader(app: Flask) -> FlagReader:
    url = app.config.get("LDREADER_STORE") or os.environ.get("LDREADER_STORE")
    if not url:
        raise ConfigurationError(
            "no store is named: before init_app, set LDREADER_STORE in app.config or in the environment to a URL such "
            "as redis://localhost:6379, or hand a reader over: init_app(app, reader=...)"
        )
    options = app.config.get("LDREADER_OPTIONS") or {}
    if not isinstance(options, Mapping):
        raise ConfigurationError("LDREADER_OPTIONS must be a mapping, of what FlagReader.from_url takes besides a URL")
    return FlagReader.from_url(url, **options)


def _configured_timeout(app: Flask) -> float | None:
    timeout = app.config.get("LDREADER_REQUEST_TIMEOUT")
    try:
        return None if timeout is None else seconds(timeout)
    except ConfigurationError as error:
        raise ConfigurationError(f"LDREADER_REQUEST_TIMEOUT: {error}") from None


def _configured_prefetch(app: Flask) -> tuple[str, ...]:
    keys = app.config.get("LDREADER_PREFETCH") or ()
    if isinstance(keys, (str, bytes, Mapping)) or not all(isinstance(key, str) for key in keys):
        raise ConfigurationError('LDREADER_PREFETCH must be a list of flag keys, such as ["new-checkout"]')
    return tuple(keys)


class _ReaderOfCommands(FlagReader):
    """An application's reader as the command line wants it: strict and watched by nobody."""

    def __init__(self, reader: FlagReader) -> None:
        vars(self).update(vars(reader))
        self._strict = True
        self._observers = None

    def close(self) -> None:
        """Leaves the application's reader open."""


class _Command(click.Command):
    """A command of ``ldreader``, which reads its own words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = list(args)
        return []


def _commands() -> AppGroup:
    group = AppGroup("flags", help="Evaluate feature flags with the application's store.")
    for name, (_, options, summary, *_) in COMMANDS.items():
        if "store" in options:
            run = with_appcontext(functools.partial(_run, name))
            group.add_command(_Command(name, callback=run, help=f"{summary[0].upper()}{summary[1:]}."))
    return group


def _run(name: str, words: list[str]) -> None:
    code = main([name, *words], reader=_ReaderOfCommands(_settings().reader))
    click.get_current_context().exit(code)
