"""Draws and decisions against NumPy and mabwiser: 5 arms × 1,000 segments on one core, interleaved rounds."""

import importlib.util
import itertools
import time
from collections.abc import Callable, Mapping

import numpy as np
from numba import njit
from rich.console import Console

from allocator.kernels import beta_constants, draw_best_arm, draw_best_arms
from allocator.kernels.random import next_normal, next_uniform
from tests.benchmarks.row import Row

_SEED = 7
_SEGMENTS, _ARMS = 1_000, 5
_ROUNDS = 101
_BATCHES = 5
_STREAMS = 100  # new draws every time, because a processor learns to predict the branches of draws that it has seen
_CALLS = 300
_MABWISER_CALLS = 20
_BATCH_GOAL, _DECISION_GOAL = 2.5, 10.0
_MAX_NOISE = 0.1  # of the A/A row: above it the machine was too busy to measure

_Work = tuple[Callable[[], object], int]  # a function, and how many results one call gives


def rows() -> list[Row]:
    """Measure. The A/A row comes first: it says how far a median can be trusted."""
    works = _works()
    if importlib.util.find_spec("mabwiser"):
        works["mabwiser"] = _mabwiser(), _MABWISER_CALLS
    else:
        Console().print("mabwiser is not here: its row is left out (make figure NAME=kernels installs it)")
    nanoseconds = _measure(works)
    batch, numpy_batch = nanoseconds["batch"], nanoseconds["NumPy batch"]
    decision = nanoseconds["decision"]
    result = [
        _row("A/A: the batch against itself", nanoseconds["batch again"], batch, "a draw", None),
        _row("batch against Generator.beta(…).argmax(1)", numpy_batch, batch, "a draw", _BATCH_GOAL),
        _row("one decision against NumPy a call", nanoseconds["NumPy call"], decision, "a decision", _DECISION_GOAL),
        _draw_row(nanoseconds["variates"], batch, numpy_batch),
    ]
    if "mabwiser" in nanoseconds:
        name = "one decision against mabwiser's Thompson predict"
        result.append(_row(name, nanoseconds["mabwiser"], decision, "a decision", _DECISION_GOAL))
    return result


@njit
def _variates(draws, seed):  # type: ignore[no-untyped-def]
    """Draw only the two normals and two uniforms that each of `draws` Beta variates needs."""
    total = 0.0
    gamma = np.uint64(0x9E3779B97F4A7C15)
    counter = np.uint64(1)
    for _ in range(draws):
        for _ in range(2):
            x, counter = next_normal(np.uint64(seed), gamma, counter)
            u, counter = next_uniform(np.uint64(seed), gamma, counter)
            total += x * u
    return total


def _works() -> dict[str, _Work]:
    """Return the functions to time. Ours and NumPy's draw from the same tables, without a floor."""
    generator = np.random.default_rng(_SEED)
    rates = generator.uniform(0.05, 0.15, (_SEGMENTS, _ARMS))
    trials = generator.uniform(200, 2_000, (_SEGMENTS, _ARMS))
    alpha, beta = rates * trials, (1 - rates) * trials
    constants = beta_constants(alpha, beta)
    segments = np.arange(_SEGMENTS)
    seeds = generator.integers(-(2**63), 2**63, (_STREAMS, _SEGMENTS, 2))
    batches = itertools.cycle(seeds)
    singles = itertools.cycle([each[:_CALLS].tolist() for each in seeds])
    starts = itertools.cycle(seeds[:, 0, 0].tolist())

    def batch() -> None:
        for _ in range(_BATCHES):
            draw_best_arms(constants, segments, 0.0, next(batches))

    def numpy_batch() -> None:
        for _ in range(_BATCHES):
            generator.beta(alpha, beta).argmax(1)

    def decisions() -> None:
        for row, (first, second) in enumerate(next(singles)):
            draw_best_arm(constants, row, 0.0, first, second)

    def numpy_calls() -> None:
        for row in range(_CALLS):
            generator.beta(alpha[row], beta[row]).argmax()

    draws = _BATCHES * _SEGMENTS * _ARMS
    return {
        "batch": (batch, draws),
        "NumPy batch": (numpy_batch, draws),
        "batch again": (batch, draws),
        "variates": (lambda: _variates(draws, next(starts)), draws),
        "decision": (decisions, _CALLS),
        "NumPy call": (numpy_calls, _CALLS),
    }


def _mabwiser() -> Callable[[], object]:
    """Return mabwiser's predictions for one segment, after a thousand plays of each arm."""
    from mabwiser.mab import MAB, LearningPolicy

    bandit = MAB(list(range(_ARMS)), LearningPolicy.ThompsonSampling(), seed=_SEED)
    wins = np.random.default_rng(_SEED).random(1_000 * _ARMS) < 0.1
    bandit.fit(np.repeat(np.arange(_ARMS), 1_000), wins.astype(int))
    return lambda: [bandit.predict() for _ in range(_MABWISER_CALLS)]


def _measure(works: Mapping[str, _Work]) -> dict[str, np.ndarray]:
    """Return nanoseconds a result, of every round. Each function runs once untimed before, to compile it."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(_ROUNDS):
        for name, (work, results) in works.items():
            work()
            begin = time.perf_counter_ns()
            work()
            taken[name].append((time.perf_counter_ns() - begin) / results)
    return {name: np.array(values) for name, values in taken.items()}


def _row(figure: str, reference: np.ndarray, ours: np.ndarray, unit: str, goal: float | None) -> Row:
    """Return the row: how many times faster ours is. Without a goal, how near 1."""
    ratio = float(np.median(reference / ours))
    return Row(
        figure=figure,
        reference=f"{np.median(reference):,.1f} ns {unit}",
        ours=f"{np.median(ours):,.1f} ns",
        ratio=ratio,
        spread=_spread(reference / ours),
        goal=f"1 ± {_MAX_NOISE}" if goal is None else f"≥ {goal}×",
        holds=abs(ratio - 1) <= _MAX_NOISE if goal is None else ratio >= goal,
    )


def _draw_row(variates: np.ndarray, draws: np.ndarray, numpy_draws: np.ndarray) -> Row:
    """Return how near ours is to the least that a draw can cost. The goal is to be nearer than NumPy."""
    ratio = float(np.median(draws / variates))
    theirs = float(np.median(numpy_draws / variates))
    return Row(
        figure="a Beta draw against 2 of our normals and 2 uniforms",
        reference=f"{np.median(variates):.1f} ns",
        ours=f"{np.median(draws):.1f} ns",
        ratio=ratio,
        spread=_spread(draws / variates),
        goal=f"< NumPy's {theirs:.1f}×",
        holds=ratio < theirs,
    )


def _spread(ratios: np.ndarray) -> str:
    low, high = np.quantile(ratios, [0.1, 0.9])
    return f"[{low:.2f}, {high:.2f}] of {ratios.size} rounds, 80 %"
