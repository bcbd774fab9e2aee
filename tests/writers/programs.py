"""The writers' programs: built when they are first needed, kept outside the source tree, and run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.servers import PATIENCE, lacking

from .archive import Archive
from .stream import Data, Stream

HERE = Path(__file__).parent
REDIS, DYNAMODB, CONSUL = "redis", "dynamodb", "consul"

Tombstone: TypeAlias = Callable[[str, int], "dict[str, Any] | None"]


@dataclass(frozen=True)
class Writer:
    """One of LaunchDarkly's writers: how its program is built and run, and what it leaves of a deleted item."""

    name: str
    stores: tuple[str, ...]
    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]
    tombstone: Tombstone
    reads_archives: bool = False

    def feed(self, data: Data, directory: Path) -> Stream | Archive:
        """Where the program gets its data from."""
        return Archive(data, directory / "flags.tar.gz") if self.reads_archives else Stream(data)

    @contextlib.contextmanager
    def writing(
        self, store: str, address: str, prefix: str, source: str, log: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The program at work, until the end of the block."""
        command = [*self._built(), store, address, prefix, source]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=_environment()
            ) as program,
        ):
            try:
                yield program
            finally:
                assert program.stdin is not None
                program.stdin.close()
                try:
                    program.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    program.kill()

    def _built(self) -> list[str]:
        """The command, after building the program unless that was done before."""
        sources = HERE / self.name
        home = _cache() / f"{self.name}-{_fingerprint(sources)}"
        if not home.is_dir():
            self._build(sources, home)
        return [part.format(home=home, python=sys.executable) for part in self.run]

    def _build(self, sources: Path, home: Path) -> None:
        for tool in self.tools:
            if shutil.which(tool) is None:
                lacking(f"the {self.name} writer needs {tool}, which is not installed", "LDREADER_REQUIRE_WRITERS")
        home.parent.mkdir(parents=True, exist_ok=True)
        site = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
        try:
            shutil.copytree(sources, site, dirs_exist_ok=True)
            for command in self.build:
                built = subprocess.run(command, cwd=site, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
                if built.returncode:
                    said = built.stdout.decode(errors="replace")[-2000:]
                    lacking(f"the {self.name} writer: {' '.join(command)} failed:\n{said}", "LDREADER_REQUIRE_WRITERS")
            with contextlib.suppress(FileExistsError):  # another process was faster
                site.rename(home)
        finally:
            shutil.rmtree(site, ignore_errors=True)


def _cache() -> Path:
    return Path(os.environ.get("LDREADER_WRITERS_CACHE") or Path.home() / ".cache" / "ldreader-writers")


def _fingerprint(sources: Path) -> str:
    """Changes with the sources, and from one kind of machine to another."""
    seen = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    for file in sorted(path for path in sources.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        content = file.read_bytes()
        seen.update(f"\n{file.relative_to(sources)} {len(content)}\n".encode() + content)
    return seen.hexdigest()[:16]


def _environment() -> dict[str, str]:
    """This process's, without what would lead a program to another store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CONSUL_", "LD_"))}
    aws = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return {**kept, **aws, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


def _python_tombstone(key: str, version: int) -> dict[str, Any]:
    return {"key": key, "version": version, "deleted": True}


def _go_tombstone(key: str, version: int) -> dict[str, Any]:
    return {"key": "$deleted", "version": version, "deleted": True}


def _keyless_tombstone(key: str, version: int) -> dict[str, Any]:
    return {"version": version, "deleted": True}


def _no_tombstone(key: str, version: int) -> None:
    """The Relay Proxy loads the whole archive anew, and what is not in it vanishes."""


# In this order, because the SDK that the store was made for must only fill the gaps of the newer one.
JARS = ["1-sdk", "2-store", "3-jedis", "4-pool", "5-sdk-of-the-store"]
CLASSPATH = os.pathsep.join(["{home}/classes", *(f"{{home}}/lib/{jar}.jar" for jar in JARS)])

GO_BUILD = ("go", "build", "-mod=mod", "-o", "writer", ".")

WRITERS = [
    Writer(
        "python",
        (REDIS, DYNAMODB, CONSUL),
        tools=(),
        build=(),
        run=("{python}", "{home}/writer.py"),
        tombstone=_python_tombstone,
    ),
    Writer(
        "node",
        (REDIS,),
        tools=("node", "npm"),
        build=(("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"),),
        run=("node", "{home}/writer.js"),
        tombstone=_keyless_tombstone,
    ),
    Writer(
        "go",
        (REDIS, DYNAMODB, CONSUL),
        tools=("go",),
        build=(GO_BUILD,),
        run=("{home}/writer",),
        tombstone=_go_tombstone,
    ),
    Writer(
        "relay",
        (REDIS, DYNAMODB, CONSUL),
        tools=("go",),
        build=(GO_BUILD,),
        run=("{home}/writer",),
        tombstone=_no_tombstone,
        reads_archives=True,
    ),
    Writer(
        "java",
        (REDIS,),
        tools=("mvn", "javac", "java"),
        build=(
            ("mvn", "-q", "-B", "-ntp", "dependency:copy"),
            ("javac", "-d", "classes", "-cp", CLASSPATH.replace("{home}/", ""), "Writer.java"),
        ),
        run=("java", "-cp", CLASSPATH, "com.launchdarkly.sdk.server.integrations.Writer"),
        tombstone=_keyless_tombstone,
    ),
]
