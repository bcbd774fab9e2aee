"""Virtual environments for what is measured: ldreader alone, and the packages that it is compared with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
WHEEL = ("ldreader", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
"""What a wheel is built from."""

PACKAGES = ("launchdarkly-server-sdk", "redis", "boto3", "python-consul", "awslambdaric")
DRIVER = Path(__file__).with_name("driver.py")
DRIVER_NAME = "ldreader_benchmark_driver"
FUNCTION = Path(__file__).with_name("function.py")
FUNCTION_NAME = "ldreader_benchmark_function"


class Environments(NamedTuple):
    """The programs of both environments."""

    python: str
    """The interpreter of the environment that holds nothing but ldreader."""
    ldreader: str
    """The console script."""
    packages: str
    """The interpreter of the environment with the official SDK, the databases' packages and ldreader."""


def default_directory() -> Path:
    """Where the environments are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ldreader-benchmarks"


def prepare(directory: Path) -> Environments:
    """The environments, of the interpreter that runs this; made when they are not there, with today's ldreader."""
    base = str(Path(sys.executable).resolve())
    directory = directory / f"python{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    # It installs into the others, so that they hold neither pip nor setuptools, whose .pth file each start would read.
    installer = directory / "installer"
    if not _is_made(installer):
        _run(base, "-m", "venv", "--clear", str(installer))
        _run(str(installer / "bin/python"), *_PIP, "install", "--upgrade", "pip", "setuptools")
        _note_made(installer)
    pip = (str(installer / "bin/python"), *_PIP)
    alone, packages = directory / "alone", directory / "packages"
    for environment, names in ((alone, ()), (packages, PACKAGES)):
        if not _is_made(environment, names):
            _run(base, "-m", "venv", "--clear", "--without-pip", str(environment))
            if names:
                _run(*pip, "--python", str(environment / "bin/python"), "install", *names)
            _note_made(environment, names)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _wheel(Path(temporary), pip)
        for environment in (alone, packages):
            python = str(environment / "bin/python")
            _run(*pip, "--python", python, "install", "--no-deps", "--force-reinstall", str(wheel))
    (site,) = packages.glob("lib/python*/site-packages")
    for file, name in ((DRIVER, DRIVER_NAME), (FUNCTION, FUNCTION_NAME)):
        _run(base, "-m", "compileall", "-q", str(shutil.copy(file, site / f"{name}.py")))
    return Environments(
        python=str(alone / "bin/python"), ldreader=str(alone / "bin/ldreader"), packages=str(packages / "bin/python")
    )


def pth_files(python: str) -> list[str]:
    """The names of the .pth files in the environment of this interpreter; each costs every start."""
    return sorted(path.name for path in Path(python).parents[1].glob("lib/python*/site-packages/*.pth"))


_PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def _wheel(temporary: Path, pip: tuple[str, ...]) -> Path:
    """A wheel of the project as it is now; built from a copy, because building leaves files behind."""
    source = temporary / "source"
    source.mkdir()
    for name in WHEEL:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, source / name)
    _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(temporary), str(source))
    (wheel,) = temporary.glob("*.whl")
    return wheel


def _is_made(environment: Path, names: tuple[str, ...] = ()) -> bool:
    made = environment / "made"
    return made.exists() and made.read_text(encoding="utf-8").split() == list(names)


def _note_made(environment: Path, names: tuple[str, ...] = ()) -> None:
    (environment / "made").write_text(" ".join(names), encoding="utf-8")


def _run(*command: str) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    subprocess.run(command, check=True, stdout=sys.stderr, env=variables)
