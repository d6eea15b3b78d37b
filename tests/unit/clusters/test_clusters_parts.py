"""The parts of automatic segmentation: encoding points, storing models as plain data, shuffling, matching clusters."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.clusters import Category, ClusterModel, Cycle, Encoder, Number, Ordinal, fit_encoder
from allocator.clusters.training.matching import pair_clusters
from allocator.clusters.training.permutation import find_blocks, shuffle_blocks
from tests.support.audiences import CHANNELS, planted, structureless

Dimensions = Mapping[str, str]
NAMES = ["channel", "device", "hour", "day_of_week", "is_weekend", "previous_opens", "plan", "age", "source"]
VALUES = ["", "web", "email", "mobile", "3", "23", "24", "monday", "true", "0", "5-19", "gold", "-1e300", "1e999", "ü"]
CONTEXTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=3))


def mixed(users: int = 400) -> list[Dimensions]:
    """Return contexts with all kinds of features, some of them missing."""
    contexts = planted(None, users, seed=1)[0]
    return [
        dict(context) | {"age": str(20 + n % 50)} | ({"plan": ("gold", "free")[n % 2]} if n % 3 else {})
        for n, context in enumerate(contexts)
    ]


ENCODER = fit_encoder(mixed())


@settings(max_examples=100, deadline=None)
@given(st.lists(CONTEXTS, max_size=5), st.lists(CONTEXTS, max_size=30))
def test_a_vector_is_its_row(users: list[Dimensions], training: list[Dimensions]) -> None:
    for encoder in (ENCODER, fit_encoder(training)):
        matrix = encoder.matrix(users)
        assert matrix.shape == (len(users), encoder.width)
        assert np.isfinite(matrix).all()
        for user, row in zip(users, matrix, strict=True):
            vector = encoder.vector(user)
            assert vector.dtype == np.float64
            assert vector.tobytes() == row.tobytes()


def test_kinds_of_features() -> None:
    kinds = {feature.name: type(feature) for feature in ENCODER.features}
    assert kinds["hour"] is Cycle
    assert kinds["previous_opens"] is Ordinal
    assert kinds["age"] is Number
    assert kinds["plan"] is Category


def distance(encoder: Encoder, one: Dimensions, other: Dimensions) -> float:
    return float(np.linalg.norm(encoder.vector(one) - encoder.vector(other)))


def test_no_dimension_dominates() -> None:
    """Opposite hours, two categories, the ends of a scale, and missing or not: all are 1 ablock."""
    users = [
        {"hour": str(n % 24), "returning": ("true", "false")[n % 2], "plan": f"p{n % 4}", "age": str(n % 100)}
        | ({"previous_opens": ("0", "1-4", "5-19", "20+")[n % 4]} if n % 5 else {})
        for n in range(1_000)
    ]
    encoder = fit_encoder(users)
    assert distance(encoder, {"hour": "3"}, {"hour": "15"}) == pytest.approx(1)
    assert distance(encoder, {"hour": "23"}, {"hour": "0"}) < 0.14
    assert distance(encoder, {"plan": "p1"}, {"plan": "p3"}) == pytest.approx(1)
    assert distance(encoder, {"age": "0"}, {"age": "1000"}) == pytest.approx(1)
    assert distance(encoder, {"age": "95"}, {"age": "1e300"}) == pytest.approx(0, abs=0.02)
    assert distance(encoder, {"previous_opens": "0"}, {"previous_opens": "20+"}) == pytest.approx(1)
    assert distance(encoder, {"previous_opens": "0"}, {}) == pytest.approx(1)


def test_a_block_counts_once() -> None:
    """System and device overlap, so do day and weekend; a plan is independent of them."""
    both = (("mobile", "ios"), ("desktop", "windows"))
    users = [
        {
            "device": both[n % 2][0],
            "os": both[n % 2][1],
            "plan": f"p{n % 3}",
            "region": f"r{n % 5}",
            "country": f"c{n % 7}",
        }
        for n in range(2_100)
    ]
    weights = {feature.name: feature.weight for feature in fit_encoder(users).features}
    assert weights["device"] == weights["os"] == pytest.approx(np.sqrt(0.5))
    assert weights["plan"] == 1
    assert weights["region"] == pytest.approx(1)
    assert weights["country"] == pytest.approx(1)


def test_what_carries_nothing_is_dropped() -> None:
    users = [
        {"channel": "web", "user": f"u{n}", "plan": f"p{n % 2}", "flag": "no" if n % 1_000 else "yes", "one": "1"}
        for n in range(2_000)
    ]
    assert [feature.name for feature in fit_encoder(users).features] == ["plan"]


def test_values_of_a_category_are_bounded() -> None:
    users = [{"campaign": f"c{n % 40}"} for n in range(4_000)]
    (feature,) = fit_encoder(users).features
    assert isinstance(feature, Category)
    assert len(feature.values) == 16
    assert distance(Encoder((feature,)), {"campaign": "c39"}, {"campaign": "new"}) == 0


def test_absence_says_nothing_that_the_channel_does_not() -> None:
    """Users of a channel without the dimension are placed at the mean of the others."""
    users = [{"channel": "web", "returning": ("true", "false")[n % 2]} for n in range(500)]
    encoder = fit_encoder([*users, *[{"channel": "push"}] * 500])
    returning = next(feature for feature in encoder.features if feature.name == "returning")
    mean = encoder.matrix(users).mean(0)
    push = encoder.vector({"channel": "push"})
    assert push[-returning.width :] == pytest.approx(mean[-returning.width :])


@pytest.mark.parametrize("channel", [*CHANNELS, None])
def test_shuffling_keeps_blocks_and_gaps(channel: str | None) -> None:
    users = structureless(channel, 500, seed=3)
    encoder = fit_encoder(users)
    points = encoder.matrix(users)
    blocks = find_blocks(encoder, users)
    assert sum(len(block.columns) for block in blocks) == encoder.width
    after = shuffle_blocks(points, blocks, np.random.default_rng(1))
    assert (after != points).any()
    for block in blocks:
        for rows in block.rows:
            before_rows, after_rows = points[np.ix_(rows, block.columns)], after[np.ix_(rows, block.columns)]
            assert sorted(map(bytes, before_rows)) == sorted(map(bytes, after_rows))


def model() -> ClusterModel:
    centroids = ENCODER.matrix(mixed()[:2])
    return ClusterModel(ENCODER, centroids, (4, 2), (0.75, 0.25), 1.5)


def test_plain_data_survives_msgpack() -> None:
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(model().to_plain()))
    again = ClusterModel.from_plain(plain)
    assert again.encoder == ENCODER
    assert again.centroids.tobytes() == model().centroids.tobytes()
    assert again.centroids.flags.c_contiguous
    assert again.centroids.flags.writeable
    assert (again.numbers, again.shares, again.radius) == ((4, 2), (0.75, 0.25), 1.5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("features", None),
        ("features", []),
        ("features", [{"kind": "category"}]),
        ("features", [7]),
        ("centroids", b"\0" * 8),
        ("centroids", [1.0]),
        ("numbers", [4, 4]),
        ("numbers", [0, 1]),
        ("numbers", [4]),
        ("numbers", ["4", "2"]),
        ("numbers", []),
        ("shares", [0.5, float("nan")]),
        ("shares", [1.0]),
        ("shares", [0.9, 0.9]),
        ("radius", float("inf")),
        ("radius", None),
    ],
)
def test_damaged_data_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ClusterModel.from_plain(model().to_plain() | {key: value})


def test_centroids_must_be_finite() -> None:
    plain = model().to_plain()
    damaged = np.frombuffer(plain["centroids"], "<f8").copy()
    damaged[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        ClusterModel.from_plain(plain | {"centroids": damaged.tobytes()})


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("number", {"high": -1e9}),
        ("number", {"weight": 0.0}),
        ("number", {"neutral": []}),
        ("cycle", {"values": ["0"], "neutral": [0.0, 0.0]}),
        ("category", {"values": ["a", "a"], "neutral": [0.0, 0.0, 0.0]}),
        ("category", {"name": "device"}),
        ("ordinal", {"values": []}),
        ("ordinal", {"kind": "spline"}),
        ("ordinal", {"more": 1}),
    ],
)
def test_damaged_features_are_refused(kind: str, damage: dict[str, Any]) -> None:
    plain = model().to_plain()
    index = max(n for n, feature in enumerate(plain["features"]) if feature["kind"] == kind)
    plain["features"][index] |= damage
    with pytest.raises(ValueError, match=r"\w"):
        ClusterModel.from_plain(plain)


@pytest.mark.parametrize("plain", [None, 3, b"", [], {}, {1: 2}])
def test_what_is_no_model_is_refused(plain: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ClusterModel.from_plain(plain)


def test_matching_takes_the_least_sum_within_the_bound() -> None:
    """The first new cluster leaves its nearest old one to the second, which has no other. The third is too far away."""
    distances = np.array([[0.1, 0.2, np.inf], [0.15, 0.5, np.inf], [0.5, 0.5, np.inf]])
    assert pair_clusters(distances) == [1, 0, None]
    assert pair_clusters(distances.T) == [1, 0, None]
