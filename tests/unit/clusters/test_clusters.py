"""Automatic segmentation: which clusters are found in contexts, which are not, and what a retraining keeps."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from allocator.clusters import MIN_ASSIGNMENTS, ClusterModel, NothingToLearnError, Training, train
from tests.support.audiences import AUDIENCES, planted, structureless

Contexts = list[Mapping[str, str]]
USERS = 1_500
learn = partial(train, max_clusters=5)
AGREEING: Contexts = [
    {"device": ("mobile", "desktop")[n % 2], "plan": ("free", "gold")[n % 2]} for n in range(MIN_ASSIGNMENTS)
]


@pytest.fixture(scope="module")
def web() -> tuple[Contexts, np.ndarray]:
    return planted("web", USERS, seed=1)


@pytest.fixture(scope="module")
def training(web: tuple[Contexts, np.ndarray]) -> Training:
    return learn(web[0])


def test_planted_audiences_are_found(web: tuple[Contexts, np.ndarray], training: Training) -> None:
    assert len(training.sizes) == AUDIENCES
    assert adjusted_rand_score(web[1], training.model.label(web[0])) >= 0.95
    assert training.quality.gap >= 0.03
    assert training.quality.gap > 3 * training.quality.gap_error
    assert training.quality.strength >= 0.8


def test_the_largest_comes_first(web: tuple[Contexts, np.ndarray], training: Training) -> None:
    assert training.model.numbers == (1, 2, 3, 4)
    assert list(training.sizes) == sorted(training.sizes, reverse=True)
    assert list(np.bincount(training.model.label(web[0]))[1:]) == list(training.sizes)
    assert training.model.shares == tuple(size / USERS for size in training.sizes)
    assert not any(training.matched.values())


def test_a_batch_is_labelled_as_one_by_one(web: tuple[Contexts, np.ndarray], training: Training) -> None:
    users = [*web[0][:200], {}, {"channel": "email"}, {"channel": "fax", "device": "abacus"}]
    assert [training.model.number(user) for user in users] == training.model.label(users).tolist()


def test_the_same_contexts_give_the_same_model(web: tuple[Contexts, np.ndarray], training: Training) -> None:
    again = learn(web[0])
    assert again.model.to_plain() == training.model.to_plain()
    assert (again.quality, again.names, again.sizes) == (training.quality, training.names, training.sizes)


@pytest.mark.parametrize("channel", ["web", "email", "funnel", "push", None])
def test_no_structure_is_one_cluster(channel: str | None) -> None:
    found = learn(structureless(channel, USERS, seed=2))
    assert found.sizes == (USERS,)
    assert found.names == {1: "Everyone"}


def test_equal_contexts_are_one_cluster() -> None:
    found = train([{"channel": "web", "device": "mobile"}] * MIN_ASSIGNMENTS)
    assert found.sizes == (MIN_ASSIGNMENTS,)
    assert found.model.number({}) == 1
    assert found.model.drift([{"device": "desktop"}]).far_share == 0
    assert train([{}] * MIN_ASSIGNMENTS).names == {1: "Everyone"}


def test_a_single_dimension_has_nothing_to_go_with() -> None:
    found = train([{"device": ("mobile", "desktop")[n % 2]} for n in range(MIN_ASSIGNMENTS)])
    assert found.sizes == (MIN_ASSIGNMENTS,)


def test_two_dimensions_that_agree() -> None:
    """The points of a cluster coincide, so the spread within clusters is zero."""
    found = train(AGREEING)
    assert found.sizes == (500, 500)
    assert sorted(found.names.values()) == ["Free Mobile", "Gold Desktop"]


def test_too_few_contexts() -> None:
    with pytest.raises(NothingToLearnError, match="there are 999"):
        train([{"device": "mobile"}] * (MIN_ASSIGNMENTS - 1))


def test_stages_are_told() -> None:
    told: list[tuple[str, float]] = []
    train([{}] * MIN_ASSIGNMENTS, progress=lambda stage, done: told.append((stage, done)))
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[-1] == ("done", 1.0)


def test_clusters_keep_their_numbers(web: tuple[Contexts, np.ndarray], training: Training) -> None:
    """The second training has other users of the same audiences, in another order and proportion, with new values."""
    contexts, audiences = planted("web", 2 * USERS, seed=3)
    kept = [n for n in range(2 * USERS) if audiences[n] != 0 or n % 4 == 0][::-1]
    users = [contexts[n] | {"plan": "gold" if n % 3 else "free"} for n in kept]
    again = learn(users, seed=9, previous=training.model, next_number=5)
    assert sorted(again.model.numbers) == [1, 2, 3, 4]
    assert again.model.numbers != (1, 2, 3, 4)  # by size
    assert all(again.matched.values())
    assert adjusted_rand_score(again.model.label(users), training.model.label(users)) >= 0.9
    assert np.mean(again.model.label(users) == training.model.label(users)) >= 0.95


@pytest.mark.parametrize("gone", [None, 3])
def test_a_new_audience_gets_a_new_number(gone: int | None) -> None:
    """The new audience is added to the others, or replaces one of them."""
    contexts, audiences = planted("web", 2_000, seed=4)
    before = learn([user for user, audience in zip(contexts, audiences, strict=True) if audience != 1])
    assert sorted(before.model.numbers) == [1, 2, 3]
    users = [user for user, audience in zip(contexts, audiences, strict=True) if audience != gone]
    after = learn(users, previous=before.model, next_number=7)
    new = [number for number, matched in after.matched.items() if not matched]
    assert new == [7]
    assert set(after.model.numbers) - {7} <= {1, 2, 3}
    theirs = [user for user, audience in zip(contexts, audiences, strict=True) if audience == 1]
    assert np.mean(after.model.label(theirs) == 7) > 0.9


def test_everyone_stays_everyone() -> None:
    before = train([{"device": "mobile"}] * MIN_ASSIGNMENTS)
    after = train([{"device": "desktop"}] * MIN_ASSIGNMENTS, previous=before.model, next_number=2)
    assert after.model.numbers == (1,)
    assert after.matched == {1: True}


def test_numbers_are_not_given_twice() -> None:
    """A number is not given again even if the caller forgets it."""
    everyone = train([{}] * MIN_ASSIGNMENTS, next_number=6)
    after = train(AGREEING, previous=everyone.model)
    assert after.model.numbers == (7, 8)


def test_drift(web: tuple[Contexts, np.ndarray], training: Training) -> None:
    same = training.model.drift(planted("web", USERS, seed=7)[0])
    assert same.far_share < 0.03
    assert same.share_shift < 0.05
    moved = training.model.drift([user for user, audience in zip(*web, strict=True) if audience == 0])
    assert moved.far_share < 0.03
    assert moved.share_shift == pytest.approx(1 - training.model.shares[0], abs=0.05)
    assert training.model.drift(planted("funnel", USERS, seed=8)[0]).far_share > 0.2
    assert training.model.drift([user | {"source": "bing", "country": "fr"} for user in web[0]]).far_share > 0.03


def test_a_model_is_plain_data(web: tuple[Contexts, np.ndarray], training: Training) -> None:
    again = ClusterModel.from_plain(training.model.to_plain())
    assert again.encoder == training.model.encoder
    assert again.label(web[0]).tolist() == training.model.label(web[0]).tolist()
    assert again.drift(web[0]) == training.model.drift(web[0])
