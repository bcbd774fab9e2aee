"""Each extra brings what its store needs and nothing of another's; and so does each import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

import pytest

from ldreader import MissingDependency
from ldreader.requesters import open_requester
from tests.aws import ENVIRONMENT, FOREIGN

CLIENTS = {"redis", "boto3", "botocore", "python-consul", "py-consul", "requests", "urllib3", "flask", "pyyaml"}
"""Packages that some store or integration needs, by their names on the index."""

MODULES = {"redis", "boto3", "botocore", "consul", "requests", "urllib3", "flask", "yaml"}

BRINGS = {
    "redis": {"redis"},
    "dynamodb": {"boto3", "botocore", "urllib3"},
    "consul": {"python-consul", "requests", "urllib3"},
    "yaml": {"pyyaml"},
    "flask": {"flask"},
    "": set(),
}


def brought(extra: str) -> set[str]:
    """The packages that an extra installs, with all that those need in turn."""
    found: set[str] = set()
    pending = [line for line in requires("ldreader") or () if not extra or f'extra == "{extra}"' in line]
    pending = [line for line in pending if extra or "extra ==" not in line]
    while pending:
        match = re.match(r"[\w.-]+", pending.pop())
        assert match is not None
        name = match[0].lower().replace("_", "-")
        if name not in found:
            found.add(name)
            try:
                pending += [line for line in requires(name) or () if "extra ==" not in line]
            except PackageNotFoundError:  # needed on other systems or Pythons only
                continue
    return found


@pytest.mark.parametrize("extra", BRINGS)
def test_an_extra_brings_the_client_of_its_store_and_no_other(extra: str) -> None:
    assert brought(extra) & CLIENTS == BRINGS[extra]


@pytest.mark.parametrize(
    ("url", "loaded"),
    [
        ("redis://localhost", set()),
        ("redis://localhost?client=redis-py", {"redis"}),
        ("redis+cluster://localhost", {"redis"}),
        ("dynamodb://flags?region=us-east-1", set()),
        ("dynamodb://flags?region=us-east-1&client=boto3", {"boto3", "botocore", "urllib3"}),
        ("consul://localhost", set()),
        ("consul://localhost?client=python-consul", {"consul", "requests", "urllib3"}),
        ("file:flags.json", set()),
    ],
)
def test_opening_a_store_imports_no_other_stores_package(url: str, loaded: set[str]) -> None:
    script = (
        "import json, sys, warnings; warnings.simplefilter('ignore')\n"
        "from ldreader import FlagReader\n"
        f"FlagReader.from_url({url!r})\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN} | ENVIRONMENT
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert set(json.loads(done.stdout)) & MODULES == loaded


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("redis://localhost?client=redis-py", "redis", "redis"),
        ("redis+sentinel://localhost/flags", "redis", "redis"),
        ("dynamodb://flags?client=boto3", "boto3", "dynamodb"),
        ("consul://localhost?client=python-consul", "consul", "consul"),
        ("file:flags.yaml", "yaml", "yaml"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency) as caught:
        open_requester(url)
    assert f"pip install 'ldreader[{extra}]'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://localhost", "dynamodb://flags?region=us-east-1", "consul://localhost"])
def test_one_server_and_plain_credentials_need_no_package(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    open_requester(url).close()
