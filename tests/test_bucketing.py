"""Where a context falls in a rollout: every LaunchDarkly SDK must say the same."""

from __future__ import annotations

import enum
import hashlib
from typing import Any

import pytest

from ldreader import Context, FlagReader, MemoryRequester
from ldreader.bucketing import bucket, utf8
from ldreader.segments import bucket_path
from tests.flags import VARIATIONS, Item, flag, known_answers, malformed, result, rollout, rule, serve

VECTORS = known_answers("bucketing.json")
ROLLOUTS = known_answers("rollouts.json")
KEYS = known_answers("keys.json")


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_known_buckets(vector: Item) -> None:
    builder = Context.builder(vector.get("key", "another key"))
    if vector.get("attribute") is not None:
        builder.set("attribute", vector["attribute"])
    by = ("key",) if "key" in vector else ("attribute",)
    place = bucket(builder.build(), "user", by, vector["prefix"])
    assert place == pytest.approx(vector["bucket"], abs=1e-14)


@pytest.mark.parametrize("case", KEYS, ids=lambda case: case["key"])
def test_known_fully_qualified_keys(case: Item) -> None:
    assert Context.from_dict(case["context"]).fully_qualified_key == case["key"]


@pytest.mark.parametrize(
    ("context", "wanted"),
    [
        ({"kind": "user", "key": "user-key-123"}, "73df666a13f2c474e50aa34ca5a761e89abb737fb139ff65fdde7fa85c9dcacd"),
        ({"kind": "other", "key": "user-key-123"}, "98a933ca26d2951547fc021981ebcdeda95fbca2ac3f767ae67f7042d5458f72"),
    ],
)
def test_known_secure_mode_hashes(context: Item, wanted: str) -> None:
    reader = FlagReader(MemoryRequester({}), sdk_key="sdk-01234567-89ab-cdef-0123-456789abcdef")
    assert reader.secure_mode_hash(context) == wanted
    assert reader.secure_mode_hash(context | {"name": "does not matter"}) == wanted


REASONS: dict[str, Item] = {
    "fallthrough": {"kind": "FALLTHROUGH"},
    "rule": {"kind": "RULE_MATCH", "ruleIndex": 0, "ruleId": "rule-id"},
}


@pytest.mark.parametrize("place", REASONS)
@pytest.mark.parametrize("case", ROLLOUTS, ids=lambda case: case["name"])
def test_known_rollouts(case: Item, place: str) -> None:
    served = rollout(*((index, weight) for index, weight in case["shares"]), **case.get("rollout", {}))
    context = {"kind": "user", "key": case.get("user", "userKeyA")} | case.get("attributes", {})
    fields = {"fallthrough": served} if place == "fallthrough" else {"rules": [rule(**served)]}
    detail = serve(flag("hashKey", salt="saltyA", **fields), context=context)
    if case["index"] is None:
        assert result(detail) == malformed()
    else:
        experiment = {"inExperiment": True} if case.get("inExperiment") else {}
        assert result(detail) == (VARIATIONS[case["index"]], case["index"], REASONS[place] | experiment)


class TestExperiments:
    @pytest.mark.parametrize(("untracked", "tracked"), [(True, {}), (False, {"inExperiment": True})])
    def test_one_of_untracked_contexts_is_none(self, untracked: bool, tracked: Item) -> None:
        served = rollout((0, 42157), (1, 57843), kind="experiment")
        served["rollout"]["variations"][1]["untracked"] = untracked
        served["rollout"]["variations"][0]["untracked"] = not untracked
        detail = serve(flag("hashKey", salt="saltyA", fallthrough=served), context=Context.create("userKeyA"))
        assert detail.variation_index == 1
        assert detail.reason == {"kind": "FALLTHROUGH"} | tracked

    def test_a_rollout_is_none(self) -> None:
        for kind in ({}, {"kind": None}, {"kind": "rollout"}, {"kind": "Experiment"}):
            assert serve(flag(fallthrough=rollout((1, 100000), **kind))).reason == {"kind": "FALLTHROUGH"}

    def test_one_whose_variation_does_not_exist_is_an_error(self) -> None:
        assert result(serve(flag(fallthrough=rollout((9, 100000), kind="experiment")))) == malformed()


class TestSeeds:
    def place(self, **fields: Any) -> float:
        """Where a context falls, to a hundredth, by trying every bound between two shares."""
        for bound in range(0, 101):
            shares = rollout((0, bound * 1000), (1, 100_000 - bound * 1000), **fields)
            if serve(flag("hashKey", salt="saltyA", fallthrough=shares)).variation_index == 0:
                return bound / 100
        raise AssertionError("the last bound takes everyone")

    def expected(self, text: str) -> float:
        """The specification's formula, written again."""
        exact = int(hashlib.sha1(text.encode()).hexdigest()[:15], 16) / 0xFFFFFFFFFFFFFFF
        return (int(exact * 100) + 1) / 100

    @pytest.mark.parametrize("seed", [0, 1, -5, 61, 2**53 + 1, 12345678901234567890])
    def test_a_seed_is_hashed_in_decimal_and_0_is_one(self, seed: int) -> None:
        assert self.place(seed=seed) == self.expected(f"{seed}.u")
        assert self.place(seed=seed, kind="experiment") == self.expected(f"{seed}.u")

    def test_without_one_the_key_and_the_salt_are_hashed(self) -> None:
        assert self.place() == self.expected("hashKey.saltyA.u")

    def test_a_flag_without_key_or_salt_is_bucketed_by_the_key_of_the_store(self) -> None:
        bounds = range(0, 100_001, 1000)
        served = [
            serve(flag("store-key", fallthrough=rollout((0, bound), (1, 100_000 - bound)), salt=None)).variation_index
            for bound in bounds
        ]
        assert served.index(0) / 100 == self.expected("store-key..u")


class TestBuckets:
    def test_a_context_without_the_kind_has_none(self) -> None:
        assert bucket(Context.create("u"), "org", ("key",), "a.b") is None

    def test_each_kind_has_its_own(self) -> None:
        both = Context.create_multi(Context.create("userKeyA"), Context.create("userKeyB", "org"))
        assert bucket(both, "user", ("key",), "hashKey.saltyA") == pytest.approx(0.42157587433925, abs=1e-14)
        assert bucket(both, "org", ("key",), "hashKey.saltyA") == pytest.approx(0.67084849657034, abs=1e-14)

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (1e3, "1000"),
            (-0.0, "0"),
            (2**53 + 1, "9007199254740993"),
            (10**25, "1" + "0" * 25),
            (1e21, "1" + "0" * 21),
            ("Zoë", "Zoë"),
            ("Zoe\u0308", "Zoe\u0308"),
            ("", ""),
            ("\ud800x", "\ufffdx"),
            ("\U0001f98a", "\U0001f98a"),
        ],
    )
    def test_a_value_is_hashed_as_written(self, value: Any, written: str) -> None:
        context = Context.builder("u").set("value", value).build()
        digest = hashlib.sha1(f"1.{written}".encode()).hexdigest()
        assert bucket(context, "user", ("value",), "1") == int(digest[:15], 16) / 0xFFFFFFFFFFFFFFF

    @pytest.mark.parametrize("value", [0.5, 1e-300, True, False, [], [1], {}, {"a": 1}])
    def test_a_value_that_cannot_be_bucketed_is_at_0(self, value: Any) -> None:
        assert bucket(Context.builder("u").set("value", value).build(), "user", ("value",), "1") == 0.0

    def test_a_number_too_long_to_be_written_is_at_0(self) -> None:
        class Long:
            """Stands for a context that did not come by JSON."""

            def get_individual_context(self, kind: str) -> Long:
                return self

            def resolve(self, path: tuple[str, ...]) -> int:
                return int(10**5000)

        assert bucket(Long(), "user", ("value",), "1") == 0.0  # type: ignore[arg-type]

    def test_names_and_references_are_told_apart_by_the_kind_beside_them(self) -> None:
        assert bucket_path("", "") == bucket_path("", "user") == ("key",)
        assert bucket_path("/a/b", "") == ("/a/b",)
        assert bucket_path("/a/b", "user") == ("a", "b")
        assert bucket_path("//", "user") is None

    def test_text_that_utf8_cannot_carry_is_replaced(self) -> None:
        assert utf8("a\ud83dZ\udc00") == "a\ufffdZ\ufffd".encode()
        assert utf8("Zoë") == "Zoë".encode()


class Plan(str, enum.Enum):
    GOLD = "gold"


def test_an_enumeration_of_strings_is_bucketed_by_its_value() -> None:
    places = [
        bucket(Context.builder("ada").set("plan", plan).build(), "user", ("plan",), "key.salt")
        for plan in ("gold", Plan.GOLD)
    ]
    assert places[0] == places[1]
