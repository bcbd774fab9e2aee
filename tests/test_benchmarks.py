"""The benchmark counts and reports right; what it measures is nobody's promise here."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldreader import FlagReader, MemoryRequester
from tests.benchmarks import __main__ as command
from tests.benchmarks import aws_lambda, budgets, contenders, driver, plot, report, shapes
from tests.benchmarks.aws_lambda import ColdStart, Core
from tests.benchmarks.contenders import Absent, Driven, Launcher, OneShot, WrongAnswer, collected
from tests.benchmarks.environments import FUNCTION, FUNCTION_NAME, Environments
from tests.benchmarks.network import Network
from tests.benchmarks.results import Effort, Entry, Figures, Outcome, Scenario, measure
from tests.benchmarks.scenarios import HOOK, LDREADER, LEVELS, LIMIT, OFFICIAL, REQUEST, SINK, Scenarios
from tests.benchmarks.secure import Secure
from tests.benchmarks.stores import Place, Stores
from tests.lambda_runtime import need_the_runtime_client

EFFORT = Effort(rounds=1, slice_seconds=0.001, sizes=2, instructions_of_all=False)
CALLGRIND_SAYS = """\
==8563== Callgrind, a call-graph generating cache profiler
==8563== Events    : Ir
==8563== Collected : 40234538
==8563==
==8563== I   refs:      40,234,538
"""


@pytest.fixture
def echo() -> Iterator[int]:
    """A port of one that says again what it is told, sentence by sentence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    sentence = b""
                    while piece := connection.recv(65536):
                        sentence += piece
                        if sentence.endswith(b"."):
                            connection.sendall(sentence)
                            sentence = b""

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def exchange(connection: socket.socket, *pieces: bytes) -> bytes:
    """What comes back when these are sent one after the other."""
    for piece in pieces:
        connection.sendall(piece)
    said = b""
    while len(said) < sum(map(len, pieces)):
        said += connection.recv(65536)
    return said


class TestNetwork:
    def test_what_a_client_says_after_an_answer_is_another_round_trip(self, echo: int) -> None:
        with Network(echo) as network, socket.create_connection(("127.0.0.1", network.port), 5) as client:
            assert exchange(client, b"one.") == b"one."
            assert exchange(client, b"two.") == b"two."
            assert network.round_trips == 2

    def test_what_it_says_before_an_answer_is_the_same_round_trip(self, echo: int) -> None:
        with Network(echo) as network, socket.create_connection(("127.0.0.1", network.port), 5) as client:
            assert exchange(client, b"one", b"and", b"two.") == b"oneandtwo."
            assert network.round_trips == 1

    def test_a_delay_holds_back_and_changes_nothing(self, echo: int) -> None:
        much = bytes(range(256)) * 1000 + b"."
        with Network(echo, 0.01) as network, socket.create_connection(("127.0.0.1", network.port), 5) as client:
            start = time.monotonic()
            assert exchange(client, much) == much
            assert time.monotonic() - start >= 0.02  # connecting counts too
            assert network.round_trips == 1

    def test_each_connection_counts_its_own(self, echo: int) -> None:
        with Network(echo) as network:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", network.port), 5) as client:
                    exchange(client, b"hello.")
            assert (network.round_trips, network.connections) == (3, 3)
            network.forget()
            assert (network.round_trips, network.connections) == (0, 0)

    def test_the_end_of_a_connection_is_passed_on(self, echo: int) -> None:
        with Network(echo) as network, socket.create_connection(("127.0.0.1", network.port), 5) as client:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""


class TestSecure:
    def test_a_client_that_trusts_the_authority_is_passed_on(self, echo: int, tmp_path: Path) -> None:
        with Secure(echo, tmp_path) as secure:
            context = ssl.create_default_context(cafile=str(secure.authorities))
            with (
                socket.create_connection(("127.0.0.1", secure.port), 5) as connection,
                context.wrap_socket(connection, server_hostname="127.0.0.1") as client,
            ):
                assert exchange(client, b"one.") == b"one."


class TestShapes:
    @pytest.mark.parametrize(
        "world",
        [
            shapes.shapes(),
            shapes.twenty(),
            shapes.environment(),
            *(shapes.grown(by, 3) for by in ("segments", "depth")),
        ],
    )
    def test_the_answers_are_ldreaders(self, world: shapes.World) -> None:
        reader = FlagReader(MemoryRequester({"features": world.flags, "segments": world.segments}))
        with reader.request(shapes.CONTEXT) as flags:
            assert {key: flags.variation(key, None) for key in world.answers} == world.answers


def alone(expected: Any, program: str) -> Entry:
    """A contender that is a small program."""
    return Entry("it", lambda place: Driven([sys.executable, "-c", program], place, 0.001), expected)


ANSWERING = """
import json
print(json.dumps({"ready": True}), flush=True)
while True:
    times = int(input())
    print(json.dumps({"wall": times * 0.01, "cpu": times * 0.005} if times else {"answer": 3}), flush=True)
"""


class TestContenders:
    def test_a_slice_is_divided_by_its_times(self) -> None:
        contender = alone(3, ANSWERING).make(Place("none"))
        try:
            assert contender.answer() == 3
            assert contender.sample() == pytest.approx({"wall": 0.01, "cpu": 0.005})
        finally:
            contender.close()

    def test_one_that_is_not_offered_is_absent(self) -> None:
        with pytest.raises(Absent, match="no such option"):
            alone(3, """print('{"unavailable": "no such option; known: none"}')""").make(Place("none"))

    def test_one_that_fails_is_wrong(self) -> None:
        with pytest.raises(WrongAnswer, match="exit code 7"):
            alone(3, "raise SystemExit(7)").make(Place("none"))

    def test_a_wrong_answer_is_reported_and_not_measured(self, tmp_path: Path) -> None:
        scenario = Scenario("warm.it", "It", Place("none"), [alone(4, ANSWERING)], "it")
        with Stores(tmp_path) as stores:
            outcome = measure(scenario, stores, EFFORT)
        assert not outcome.figures
        assert outcome.wrong == {"it": "it answered 3, not 4"}

    def test_a_process_is_measured_without_what_started_it(self) -> None:
        ballast = bytearray(50_000_000)
        with Launcher(sys.executable) as launcher:
            small = OneShot(launcher, [sys.executable, "-I", "-S", "-c", "print([1])"], None)
            assert small.answer() == [1]
            sample = small.sample()
            assert 1e6 < sample["memory"] < len(ballast)
            assert sample["wall"] > 0 and sample["cpu"] > 0
            with pytest.raises(WrongAnswer, match="exit code 1"):
                OneShot(launcher, [sys.executable, "-c", "1 / 0"], None).sample()

    def test_the_instructions_are_those_that_callgrind_collected(self) -> None:
        assert collected(CALLGRIND_SAYS) == 40234538
        assert collected("valgrind: no such program") is None


class TestColdStarts:
    def test_each_is_an_environment_that_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        need_the_runtime_client()
        shutil.copy(FUNCTION, tmp_path / f"{FUNCTION_NAME}.py")
        monkeypatch.setattr(aws_lambda, "ELSEWHERE", str(tmp_path))  # so that it is found
        here = Environments(sys.executable, sys.executable, sys.executable)
        job = {"keys": ["boolean"], "context": {"kind": "user", "key": "ada"}}
        with Stores(tmp_path) as stores, Core(1.0) as core:
            place = stores.place("file", "cold", shapes.shapes())
            assert ColdStart(here, core, "empty", job, place).answer() is None
            start = ColdStart(here, core, "ldreader", job, place)
            assert start.answer() is True
            sample = start.sample()
            assert sample["wall"] > 0 and sample["cpu"] > 0 and sample["memory"] > 1e6
            with pytest.raises(WrongAnswer, match="no such contender"):
                ColdStart(here, core, "no such contender", job, place).answer()

    def test_a_part_of_a_core_is_no_more(self) -> None:
        program = "import time\nbegin = time.monotonic()\nwhile time.process_time() < 0.1: pass\n"
        program += "print(time.monotonic() - begin)"
        with Core(0.1) as core:
            done = subprocess.run([*core.wrapper, sys.executable, "-c", program], capture_output=True, check=True)
        assert float(done.stdout) > 0.5


class TestResults:
    def outcome(self) -> Outcome:
        scenario = Scenario("cold.redis", "Cold", Place("redis"), [], LIMIT)
        figures = {
            LIMIT: Figures(0.010, 0.010, 8e6, 40_000_000),
            LDREADER: Figures(0.015, 0.014, 13e6, 60_000_000, 1),
            OFFICIAL: Figures(0.250, 0.240, 50e6, None, 5),
        }
        return Outcome(scenario, figures, {"PHP SDK": "no php"}, {})

    def test_ratios_are_to_the_reference(self) -> None:
        assert self.outcome().ratio(LDREADER, figure="instructions") == 1.5
        assert self.outcome().ratio(OFFICIAL, figure="instructions") is None
        assert self.outcome().ratio(OFFICIAL) == 25
        assert self.outcome().ratio("PHP SDK") is None

    def test_a_budget_is_met_missed_or_not_measured(self) -> None:
        found = {budget.what: budget for budget in budgets.budgets({"cold.redis": self.outcome()})}
        instructions = found["ldreader: cold from Redis, instructions × bare interpreter"]
        assert (instructions.bound, instructions.met) == ("≤ 1.7 ×", True)
        assert found["memory, cold from Redis"].met is False
        assert found["round trips, all flags, Consul"].met is None

    def test_all_results_are_written(self, tmp_path: Path) -> None:
        tables = command.write(tmp_path, {"cold.redis": self.outcome()}, {"python": "3"})
        assert (tmp_path / "results.md").read_text(encoding="utf-8") == tables
        assert "| 25.0 ×" in tables and "PHP SDK is not available: no php" in tables
        data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        assert data["scenarios"]["cold.redis"]["contenders"][LDREADER]["ratio"]["instructions"] == 1.5
        for name in ("cold.svg", "warm.svg", "growth.svg"):
            assert xml.parse(tmp_path / name).getroot().tag.endswith("svg")

    def test_a_table_is_markdown_with_aligned_columns(self) -> None:
        assert report.table([["a", "b"], ["long", "c"]]) == ["| a    | b |", "| ---- | - |", "| long | c |"]

    def test_a_picture_holds_each_name_and_ratio(self) -> None:
        picture = plot.bars("Title", [plot.Group("Group", {"a & b": 1.0, "c": 123.4})])
        texts = [text.text for text in xml.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
        assert {"Title", "Group", "a & b", "c", "123 ×"} <= set(texts)


class TestCommand:
    def test_one_part_from_beginning_to_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In the environment that runs this, so that nothing is installed."""
        (tmp_path / "ldreader_benchmark_driver.py").write_text(Path(driver.__file__).read_text(encoding="utf-8"))
        monkeypatch.setattr(contenders, "ELSEWHERE", str(tmp_path))  # so that it is found
        here = Environments(sys.executable, sys.executable, sys.executable)
        monkeypatch.setattr(command, "prepare", lambda directory: here)
        monkeypatch.setattr(command, "QUICK", EFFORT)
        assert command.main(["--quick", "--only", "decoding", "watched", "--output", str(tmp_path / "out")]) == 0
        scenarios = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["scenarios"]
        expected = {f"decoding.{key}": {LDREADER, LEVELS, OFFICIAL} for key in shapes.SHAPES}
        expected |= {f"watched.{key}": {LDREADER, REQUEST, HOOK, SINK} for key in ("boolean", "prerequisites")}
        assert {name: set(scenario["contenders"]) for name, scenario in scenarios.items()} == expected
        for scenario in scenarios.values():
            assert scenario["wrong"] == {}
        assert "## Budgets" in capsys.readouterr().out

    def test_a_wrong_answer_gives_exit_code_1(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        here = Environments(sys.executable, sys.executable, sys.executable)
        scenario = Scenario("warm.it", "It", Place("none"), [], "it")
        wrong = {"warm.it": Outcome(scenario, {}, {}, {"it": "it answered 3, not 4"})}
        monkeypatch.setattr(command, "prepare", lambda directory: here)
        monkeypatch.setattr(command, "run", lambda *arguments: wrong)
        assert command.main(["--only", "warm", "--output", str(tmp_path)]) == 1

    def test_the_names_of_the_parts_are_those_that_there_are(self, tmp_path: Path) -> None:
        here = Environments(sys.executable, sys.executable, sys.executable)
        with Stores(tmp_path) as stores, Launcher(sys.executable) as launcher:
            parts = Scenarios(stores, here, launcher, tmp_path, EFFORT).parts()
        assert tuple(parts) == command.PART_NAMES
