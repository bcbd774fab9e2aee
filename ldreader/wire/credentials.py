"""AWS credentials without boto3: from the environment, or from the endpoint that lends them to a container.

The rules are boto3's, for as much of its environment as is understood here; where more than that could have a say,
`find` tells so, and boto3 is to be asked.
"""

from __future__ import annotations

import os
import time

from ..twins import json_loads
from .connection import MalformedReply
from .http import Http, split_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Keys: TypeAlias = tuple[str, str, str]
    """The id of the access key, the secret, and the session token or ''."""

REFRESHED_BEFORE = 300
"""Seconds before they expire in which borrowed credentials are renewed; a container has new ones by then."""

TRIED_AGAIN_AFTER = 30
"""Seconds until renewing is tried again, while the ones at hand are still valid."""

_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
)
"""Files that boto3 reads, by the variables that name them. Where one is, it may say anything."""

_OLD_FILES = (("AWS_CREDENTIAL_FILE", ""), ("BOTO_CONFIG", "/etc/boto.cfg"), ("BOTO_CONFIG", "~/.boto"))
"""Those that boto3 asks for credentials only, before it asks a container's endpoint."""

_LOCAL = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "::1")
"""Hosts that may be asked for credentials without TLS."""


class Unserved(Exception):
    """Something that the wire client does not do; the message says what."""


class NoCredentials(Exception):
    """There are none, or none that can be used; the message says why, and holds no secret."""


def find(timeout: float, secure: Callable[[], Any]) -> Container | None:
    """The container that lends credentials; None where they are in the environment (`of_environment`).

    Nothing is contacted and no file is read. ``secure`` makes a TLS context.

    Raises:
        Unserved: The credentials may be somewhere else; boto3 knows.
    """
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        if os.environ.get(name):
            raise Unserved(f"{name} is set")
    _no_file(_FILES)
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        if not os.environ.get("AWS_SECRET_ACCESS_KEY"):
            raise Unserved("there is AWS_ACCESS_KEY_ID but no AWS_SECRET_ACCESS_KEY")
        return None
    if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        raise Unserved("AWS_WEB_IDENTITY_TOKEN_FILE is set")
    _no_file(_OLD_FILES)
    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if relative is not None:
        url = f"http://169.254.170.2{relative}"
    if url is None:
        raise Unserved("there are no credentials in the environment")
    try:
        is_secure, host, port, target = split_url(url)
        if not is_secure and host not in _LOCAL and not _is_loopback(host):
            raise ValueError("a host that is not local")
    except ValueError as error:
        raise Unserved(f"the container's credentials are at {error}") from None
    http = Http(
        host, port, timeout=timeout, secure=secure if is_secure else None, default_port=443 if is_secure else 80
    )
    return Container(http, target)


def of_environment() -> Keys:
    """The credentials in the environment as they are now: Lambda renews them there.

    Raises:
        NoCredentials: They have gone.
    """
    key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        raise NoCredentials("there is no AWS_ACCESS_KEY_ID or no AWS_SECRET_ACCESS_KEY any more; give both")
    token = os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN") or ""
    return key_id, secret, token


class Container:
    """The credentials that Lambda (with SnapStart), ECS or EKS lends to what runs there."""

    def __init__(self, http: Http, target: str) -> None:
        self._http = http
        self._target = target
        self._lent: tuple[Keys, str] | None = None  # with the time when they expire, as text
        self._tried = 0.0

    def keys(self, end: float) -> Keys:
        """Valid credentials; fetched, by then, when there are none or they are about to expire.

        Raises:
            NoCredentials: None could be had.
        """
        # By the clock of the world: a process that was frozen does not count the seconds.
        now = time.time()
        lent = self._lent  # once: another thread may close this meanwhile
        if lent is not None:
            keys, expires = lent
            if _timestamp(now + REFRESHED_BEFORE) < expires:
                return keys
            if _timestamp(now) < expires:
                # One thread renews them, the others go on with these.
                if abs(now - self._tried) < TRIED_AGAIN_AFTER:
                    return keys
                self._tried = now
                begin = time.monotonic()
                try:
                    # In half of the time: a silent endpoint leaves the rest for asking with the ones at hand.
                    return self._fetch(begin + (end - begin) / 2)
                except NoCredentials:
                    return keys
        return self._fetch(end)

    def close(self) -> None:
        """Forgets what was lent, and closes the connection; both are had anew when they are needed."""
        self._lent = None
        self._http.close()

    def _fetch(self, end: float) -> Keys:
        headers = {"Accept": "application/json", **_token_header()}
        try:
            status, _, body = self._http.exchange("GET", self._target, headers, None, end)
        except (OSError, MalformedReply) as error:
            raise NoCredentials(f"the container's endpoint for credentials did not answer: {error}") from error
        if status != 200:
            raise NoCredentials(f"the container's endpoint for credentials answered with status {status}")
        try:
            found = json_loads(body)
            keys = found["AccessKeyId"], found["SecretAccessKey"], found["Token"]
            expires = found["Expiration"]
            if not all(isinstance(text, str) for text in (*keys, expires)):
                raise TypeError
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise NoCredentials("the container's endpoint for credentials answered with none") from error
        # Times in UTC compare as text. Those in another form are taken for over: fetched again for each request.
        self._lent = keys, expires[:19] if expires.endswith(("Z", "+00:00")) else ""
        return keys


def _timestamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


def _token_header() -> dict[str, str]:
    """What the container shows its endpoint; a file is read anew, since it is renewed."""
    path = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    token = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                token = file.read()
        except (OSError, ValueError) as error:
            raise NoCredentials("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names no file that can be read") from error
    if token is None:
        return {}
    if not (token.isascii() and token.isprintable()):
        raise NoCredentials("the container's authorization token holds a character that does not belong")
    return {"Authorization": token}


def _no_file(files: tuple[tuple[str, str], ...]) -> None:
    for variable, usual in files:
        path = os.environ.get(variable, usual)
        if path and os.path.isfile(os.path.expanduser(os.path.expandvars(path))):
            raise Unserved(f"there is a file of AWS settings, {path}")


def _is_loopback(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() and int(part) < 256 for part in parts)
