"""LaunchDarkly's own contract suite, sdk-test-harness, against ldreader.

It takes a while and fixed ports, so it runs when it is asked for: by ``make contract``, or with the path of the
program in $LDREADER_HARNESS.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.contract.run import SECTIONS, exclusions, harness, needless_exclusions, ports_in_use, run
from tests.servers import lacking

LEAST = {"php": 4400, "server": 4300, "persistence": 25}
"""How many tests there were of each run; a run of hardly any proves nothing."""


@pytest.fixture
def program(request: pytest.FixtureRequest) -> str:
    """The harness, where it was asked for."""
    if not {"LDREADER_HARNESS", "LDREADER_REQUIRE_CONTRACT"} & set(os.environ):
        pytest.skip("make contract runs it")
    found = harness()
    if found is None:
        lacking("sdk-test-harness is not installed: make contract", "LDREADER_REQUIRE_CONTRACT")
    if request.node.callspec.params["name"] == "persistence" and (taken := ports_in_use()):
        lacking(f"the harness would empty the databases on the ports {taken}", "LDREADER_REQUIRE_CONTRACT")
    return found


@pytest.mark.parametrize("name", SECTIONS)
def test_the_harness_finds_nothing_wrong(name: str, program: str) -> None:
    outcome = run(name, program)
    failed = outcome.output.partition("FAILED TESTS")[2] or outcome.output[-3000:]
    assert outcome.passed, failed
    assert outcome.ran >= LEAST[name]
    print(f"{name}: {outcome.ran} ran, {outcome.excluded} excluded")


@pytest.mark.parametrize("name", sorted({each.run for each in exclusions()}))
def test_nothing_is_excluded_that_would_pass(name: str, program: str) -> None:
    assert needless_exclusions(name, program) == []


def test_each_exclusion_has_its_reason() -> None:
    found = exclusions()
    assert {each.run for each in found} <= set(SECTIONS)
    assert len({(each.run, each.test) for each in found}) == len(found)
    assert all(len(each.reason) >= len("the same") for each in found)


def test_the_make_target_asks_for_a_release_that_is_new_enough() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    release = re.search(r"^HARNESS = v2\.(\d+)\.\d+$", makefile, re.MULTILINE)
    assert release is not None
    assert int(release[1]) >= 41
