"""The halves in C give what the public modules give, which take their place where they are loaded or alone there.

Each way runs in an interpreter of its own: in this one the public modules are loaded.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldreader import twins
from tests.servers import RedisServer

PROJECT = Path(__file__).parent.parent

WAYS = ("halves", "public modules first", "no halves")
"""What an interpreter has: neither in use yet, the public modules loaded, or no module in C that the twins may use."""

INTERPRETER = f"""
import marshal, sys
way = sys.argv[1]
sys.path.insert(0, {str(PROJECT)!r})
if way == "public modules first":
    import hashlib, json, socket
if way == "no halves":
    import builtins
    real = builtins.__import__

    def without_halves(name, globals=None, *more, **others):
        if globals and globals["__name__"] == "ldreader.twins" and name.startswith("_") and name != "__future__":
            raise ImportError(name)
        return real(name, globals, *more, **others)

    builtins.__import__ = without_halves
from ldreader import twins

def forget_public_modules():
    if way == "halves":
        for name in [name for name in sys.modules if name.partition(".")[0] in ("json", "hashlib", "socket")]:
            del sys.modules[name]
"""

OUTCOMES = """
def outcome(function, value):
    forget_public_modules()  # an error, for one, has loaded them
    try:
        return "gives", repr(function(value))
    except RecursionError:
        return "RecursionError", ""
    except Exception as error:
        return type(error).__name__, str(error)

cases = marshal.loads(sys.stdin.buffer.read())
found = [[outcome(getattr(twins, name), value) for value in values] for name, values in cases]
sys.stdout.buffer.write(marshal.dumps(found))
"""


def run(program: str, way: str, *arguments: str, given: bytes = b"") -> bytes:
    """What a program prints in an interpreter of its own."""
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", INTERPRETER + program, way, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def outcome(function: Callable[[Any], Any], value: Any) -> tuple[str, str]:
    try:
        return "gives", repr(function(value))
    except RecursionError:
        return "RecursionError", ""
    except Exception as error:
        return type(error).__name__, str(error)


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


PUBLIC: dict[str, Callable[[Any], Any]] = {
    "json_loads": lambda text: json.loads(text, parse_constant=no_constant),
    "json_dumps": lambda value: json.dumps(value, allow_nan=False),
    "sha1": lambda data: hashlib.sha1(data).hexdigest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}

LETTERS = [*'aé✓\U0001f600\u2028"\\/\n\t\0\x1f\x7f \ud800\udc00']
NUMBERS = [0, -0.0, 1, -1, 1.0, 0.1, 1e22, 1e-7, 1e308, 5e-324, 2**53, 2**64 + 1, -(10**40), 1.7976931348623157e308]


def value(chance: random.Random, depth: int = 0) -> Any:
    """Something that JSON has a text for."""
    kind = chance.randrange(8 if depth < 4 else 5)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.choice(NUMBERS)
    if kind == 2:
        return chance.uniform(-1e6, 1e6)
    if kind < 5:
        return "".join(chance.choices(LETTERS, k=chance.randrange(6)))
    if kind == 5:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {"".join(chance.choices(LETTERS, k=3)): value(chance, depth + 1) for _ in range(chance.randrange(4))}


def texts() -> list[bytes | str]:
    """JSON in all its spellings, and what is nearly JSON."""
    chance = random.Random(4)
    found: list[bytes | str] = [
        *("", " ", "{}", "[]", " {} ", "\n[1]\t\r\n", "\x0b1", "1\x0c", "\xa0{}", "{}\xa0", "nul", "null", "nullx"),
        *("NaN", "Infinity", "-Infinity", "[NaN]", '{"a": -Infinity}', "01", "1.", ".5", "1e", "1e400", "-0"),
        *("-0.0", "1E+2", "-", "+1", '"', '"\\', '"\\u12', '"\\ud83d\\ude00"', '"\\ud800"', '"\\x"', '"\n"'),
        *('"\x7f"', "'a'", '{"a":1,"a":2}', '{"a":1,}', "[1,]", "{1:2}", '{"a"}', '{"a":}', "[1 2]", "{} {}"),
        *("[]]", "// x\n1", "\ufeff{}", "{}\ufeff", "9" * 4300, "9" * 4301, "1" + "0" * 400 + ".0"),
        *("[" * 100 + "]" * 100, "[" * 100_000, '{"a":' * 100_000),
        *(b"", b"{}", b"\xef\xbb\xbf{}", b"\xff", b'"\xff"', b'"\xed\xa0\x80"', b"\0", b"{\0}\0", b"[1]\0"),
        b"\x00\x00\x001",
    ]
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        found += [text.encode(encoding) for text in ('{"é": "✓"}', "1", "[]", '"a"', "[", "{}x")]
    for _ in range(400):
        thing = value(chance)
        indent, escaped = chance.choice([None, 0, 1]), chance.random() < 0.5
        text = json.dumps(thing, ensure_ascii=escaped, indent=indent, separators=chance.choice([None, (",", ":")]))
        found += [text, text.encode("utf-8", "surrogatepass")]
        place = chance.randrange(len(text))
        found.append(
            text[:place] + chance.choice(['"', "{", "]", ",", ":", "1", "\\", " ", "x", ""]) + text[place + 1 :]
        )
        found.append(text[:place])
        mangled = bytearray(text.encode("utf-8", "surrogatepass"))
        mangled[chance.randrange(len(mangled))] = chance.randrange(256)
        found.append(bytes(mangled))
    return found


def things() -> list[Any]:
    """What JSON has a text for, and what it has none for."""
    chance = random.Random(5)
    odd = [float("nan"), float("inf"), [1, -float("inf")], {"a": float("nan")}, b"a", {1, 2}, [b"a"], {"a": {1}}, 1j]
    keys = [{1: 2}, {None: 1, True: 2}, {1.5: 1}, {(1, 2): 3}, {b"a": 1}, {"a": 1, 1: 2}, {float("nan"): 1}]
    deep: Any = []
    for _ in range(900):  # no more, for marshal
        deep = [deep]
    return [*odd, *keys, deep, (1, (2,)), *NUMBERS, *(value(chance) for _ in range(800))]


def cases() -> list[tuple[str, list[Any]]]:
    chance = random.Random(6)
    data = [chance.randbytes(size) for size in (0, 1, 55, 56, 63, 64, 65, 1000, 100_000)]
    return [("json_loads", [*texts(), None, 1]), ("json_dumps", things()), ("sha1", data), ("sha256", data)]


@pytest.mark.parametrize("way", WAYS)
def test_they_give_what_the_public_modules_give_errors_included(way: str) -> None:
    given = cases()
    found = marshal.loads(run(OUTCOMES, way, given=marshal.dumps(given)))
    for (name, values), outcomes in zip(given, found, strict=True):
        assert len(outcomes) == len(values)
        for each, got in zip(values, outcomes, strict=True):
            assert got == outcome(PUBLIC[name], each), (name, each)
    kinds = {got[0] for outcomes in found for got in outcomes}
    assert {"gives", "JSONDecodeError", "UnicodeDecodeError", "ValueError", "RecursionError", "TypeError"} <= kinds


def test_what_holds_itself_has_no_text_the_second_time_either() -> None:
    program = """
ring = [1]
ring.append(ring)
for _ in range(2):
    forget_public_modules()
    try:
        twins.json_dumps(ring)
    except ValueError as error:
        print(error)
ring.pop()
forget_public_modules()
print(twins.json_dumps([ring, ring]))
"""
    said = run(program, "halves").decode().splitlines()
    assert said == ["Circular reference detected"] * 2 + ["[[1], [1]]"]


USES = """
twins.json_loads(b'{"a": [1.5, "x"]}')
twins.json_dumps({"a": [1.5, "x"]})
twins.sha1(b"x")
twins.sha256(b"x")
module = twins.sockets()
assert module.socket and module.getaddrinfo and module.AF_UNIX and module.TCP_NODELAY and module.SO_KEEPALIVE
print(module.__name__, *sorted({"json", "hashlib", "socket"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("way", "used"),
    [
        ("halves", "_socket"),
        ("public modules first", "socket hashlib json socket"),
        ("no halves", "socket hashlib json socket"),
    ],
)
def test_the_public_modules_are_loaded_only_where_the_halves_are_not_there(way: str, used: str) -> None:
    assert run(USES, way).decode().strip() == used


def test_a_public_module_that_is_loaded_is_used_with_its_patches() -> None:
    program = """
import socket
socket.getaddrinfo = "patched"
assert twins.sockets().getaddrinfo == "patched"
import hashlib
class Patched:
    def __init__(self, data, **more): pass
    def hexdigest(self): return "patched"
    def digest(self): return b"patched"
hashlib.sha1 = hashlib.sha256 = Patched
print(twins.sha1(b"x"), twins.sha256(b"x"))
import json
json.dumps = lambda value, **more: "patched"
print(twins.json_dumps(1))
"""
    assert run(program, "halves").decode().split() == ["patched", "b'patched'", "patched"]


@pytest.mark.parametrize("way", WAYS)
def test_an_evaluation_from_redis_gives_the_same(way: str, redis_server: RedisServer) -> None:
    rollout = '{"on": true, "salt": "s", "variations": [1, 2], "fallthrough": {"rollout": {"variations": ['
    rollout += '{"variation": 0, "weight": 50000}, {"variation": 1, "weight": 50000}]}}}'
    redis_server.ask("HSET", "test-twins:features", "a", rollout)
    program = """
from ldreader import FlagReader
with FlagReader.from_url(sys.argv[2]) as reader:
    print([reader.variation("a", {"kind": "user", "key": key}, None) for key in "abcdefgh"])
"""
    from ldreader import FlagReader

    url = f"{redis_server.url}?prefix=test-twins"
    with FlagReader.from_url(url) as reader:
        expected = [reader.variation("a", {"kind": "user", "key": key}, None) for key in "abcdefgh"]
    assert set(expected) == {1, 2}
    assert run(program, way, url).decode().strip() == str(expected)


def test_the_twins_of_this_process_are_the_public_modules() -> None:
    import socket

    assert twins.sockets() is socket
