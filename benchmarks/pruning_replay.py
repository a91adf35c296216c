"""Replay recorded trials under pruning policies, the rows of POLICIES. A library of pruning.py, not a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from studies.pruners import PRUNERS

UNITS = ("epochs", "seconds")
LONG = 64
"""Trials that are drawn in advance for a comparison at equal compute, as a multiple of `--trials`."""


@dataclass(frozen=True)
class Curve:
    """Recorded course of a trial that ran to its end."""

    values: tuple[float, ...]
    """Objective after each epoch, those of the head phase first."""
    seconds: tuple[float, ...]
    """Duration of each epoch."""
    outside_s: float
    """Seconds before the first epoch and after the last: building the network, storing the result."""
    final: float
    """Value that the study was told: that of the best epoch."""
    head: int
    """Epochs of the head phase."""

    @property
    def restart_s(self) -> float:
        """Return the seconds that resuming a stopped trial costs: building and tracing its network again.

        Tracing is the time by which the first epoch of fine-tuning is longer than the median of the others.
        """
        first, *others = self.seconds[self.head :]
        return self.outside_s + max(0.0, first - median(others or [first]))

    def spent(self, epochs: int, completed: bool, restarts: int = 0) -> Spent:
        seconds = self.outside_s + sum(self.seconds[:epochs]) + restarts * self.restart_s
        return Spent(epochs, seconds, self.final if completed else None)


@dataclass(frozen=True)
class Spent:
    """Cost and value of a trial under a policy."""

    epochs: int
    seconds: float
    value: float | None
    """Final value; None if the trial was pruned."""


@dataclass(frozen=True)
class Policy:
    """One pruning policy: an Optuna pruner, or rungs at which only the best share of all trials continues."""

    name: str
    pruner: Callable[[int, int], BasePruner] | None = None
    """(epochs of the head phase, epochs of fine-tuning) -> the pruner."""
    reports_head: bool = False
    rungs: tuple[tuple[int, float], ...] = ()
    """Pairs of (epochs of fine-tuning, share of all trials that continues after them)."""


def _hpsearch(name: str) -> Policy:
    """Return the pruner that search.planning.sessions.open_study makes."""
    return Policy(
        f"hpsearch: {name}",
        PRUNERS[name],
        reports_head=True,
    )


def _median(startup: int, first: int | None = None) -> Policy:
    where = "half" if first is None else f"epoch {first}"
    return Policy(
        f"median, {startup} start-up trials, from {where}",
        lambda head, tuning: MedianPruner(startup, first or tuning // 2),
    )


def _percentile(kept: int, first: int) -> Policy:
    return Policy(f"best {kept} %, from epoch {first}", lambda head, tuning: PercentilePruner(kept, 4, first))


def _once(kept: int, at: int) -> Policy:
    return Policy(
        f"best {kept} % at epoch {at}, once",
        lambda head, tuning: PercentilePruner(kept, 4, at, interval_steps=tuning),
    )


def _halving(factor: int, first: int) -> Policy:
    return Policy(
        f"halving by {factor}, from epoch {first}",
        lambda head, tuning: SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor),
    )


def _hyperband(factor: int, first: int) -> Policy:
    return Policy(
        f"Hyperband by {factor}, from epoch {first}",
        lambda head, tuning: HyperbandPruner(first, max(tuning, first), reduction_factor=factor),
    )


def _best_share(*rungs: tuple[int, float]) -> Policy:
    epochs, shares = ("/".join(f"{one:g}" for one in column) for column in zip(*rungs, strict=True))
    return Policy(f"all to epoch {epochs}, best {shares} on", rungs=rungs)


NONE = Policy("none", lambda head, tuning: NopPruner())
POLICIES = (
    NONE,
    *(_hpsearch(name) for name in PRUNERS if name != "none"),
    *(_median(startup) for startup in (2, 4, 8)),
    *(_median(4, first) for first in (1, 2, 3)),
    *(_percentile(kept, first) for kept in (25, 75) for first in (1, 2, 3)),
    *(_once(kept, at) for kept in (50, 60, 75) for at in (2, 3, 4)),
    *(_halving(factor, first) for factor in (2, 3, 4) for first in (1, 2, 3)),
    *(_hyperband(factor, 1) for factor in (2, 3)),
    *(_best_share((epochs, share)) for epochs in (1, 2, 3) for share in (0.15, 0.25, 0.5)),
    _best_share((1, 0.5), (2, 0.25), (4, 0.125)),
)


@dataclass(frozen=True)
class Recorded:
    """The curves of one study."""

    curves: tuple[Curve, ...]
    head: int
    tuning: int
    """Epochs of fine-tuning, at most."""


def spend(policy: Policy, recorded: Recorded, curves: Iterable[Curve], name: str) -> Iterator[Spent]:
    """Yield cost and value of each trial under the policy, in order.

    Args:
        name: Name of the replayed study; Hyperband derives its brackets from it.
    """
    if policy.pruner is None:
        yield from _by_rungs(policy.rungs, list(curves))
        return
    study = optuna.create_study(
        direction="maximize",
        study_name=name,
        sampler=RandomSampler(seed=0),
        pruner=policy.pruner(recorded.head, recorded.tuning),
    )
    for curve in curves:
        yield _by_pruner(study, curve, policy.reports_head)


def _by_pruner(study: optuna.Study, curve: Curve, reports_head: bool) -> Spent:
    trial = study.ask()
    for epoch, value in enumerate(curve.values):
        step = epoch if reports_head else epoch - curve.head + 1
        if step <= 0 and not reports_head:
            continue
        trial.report(value, step)
        if trial.should_prune():  # after the last epoch too, as in search.engine.loop
            study.tell(trial, state=TrialState.PRUNED)
            return curve.spent(epoch + 1, completed=False)
    study.tell(trial, curve.final)
    return curve.spent(len(curve.values), completed=True)


def _by_rungs(rungs: Sequence[tuple[int, float]], curves: Sequence[Curve]) -> list[Spent]:
    """Train all trials side by side; at each rung, those that are not among the best share stop."""
    running = list(range(len(curves)))
    epochs, restarts = [len(curve.values) for curve in curves], [0] * len(curves)
    for rung, share in rungs:
        running = [place for place in running if curves[place].head + rung < len(curves[place].values)]
        running.sort(key=lambda place: max(curves[place].values[curves[place].head :][:rung]), reverse=True)
        kept = max(1, round(share * len(curves)))
        for place in running[kept:]:
            epochs[place] = curves[place].head + rung
        running = running[:kept]
        for place in running:
            restarts[place] += 1
    return [
        curve.spent(ran, completed=ran == len(curve.values), restarts=again)
        for curve, ran, again in zip(curves, epochs, restarts, strict=True)
    ]


def share_and_regret(policy: Policy, recorded: Recorded, curves: Sequence[Curve], name: str) -> dict[str, float]:
    """Return the policy's share of epochs and seconds, and its regret, for trials in the given order."""
    ends = list(spend(policy, recorded, curves, name))
    whole = unpruned(curves)
    regret = best_value(whole) - best_value(ends)
    shares = {unit: total(ends, unit) / total(whole, unit) for unit in UNITS}
    return shares | {"regret": regret, "best_lost": float(regret > 0)}


def unpruned(curves: Iterable[Curve]) -> list[Spent]:
    return [curve.spent(len(curve.values), completed=True) for curve in curves]


def total(ends: Iterable[Spent], unit: str) -> float:
    return float(sum(getattr(end, unit) for end in ends))


def best_value(ends: Iterable[Spent]) -> float:
    return max(end.value for end in ends if end.value is not None)


def at_equal_compute(
    policy: Policy, recorded: Recorded, stream: Sequence[Curve], budgets: dict[str, float], name: str
) -> dict[str, float]:
    """Return for each unit how many trials its budget allows, and the best value among those that ran to their end.

    Args:
        stream: Drawn trials, more than any policy can use up.
        budgets: Unit -> the most that the policy may spend.

    Raises:
        ValueError: The stream was too short.
    """
    found: dict[str, float] = {}
    for ends in _growing(policy, recorded, stream, name):
        affordable = [unit for unit in UNITS if total(ends, unit) <= budgets[unit]]
        if not affordable:
            return found
        for unit in affordable:
            found |= {f"equal_{unit}_trials": len(ends), f"equal_{unit}_value": best_value(ends)}
    raise ValueError(f"{len(stream)} trials do not use up what {policy.name} may spend")


def _growing(policy: Policy, recorded: Recorded, stream: Sequence[Curve], name: str) -> Iterator[list[Spent]]:
    """Yield the results of the first trial, of the first two, of the first three, and so on.

    With rungs, each of these is a search of its own.
    """
    if policy.pruner is None:
        for trials in range(1, len(stream) + 1):
            yield list(spend(policy, recorded, stream[:trials], name))
        return
    ends: list[Spent] = []
    for end in spend(policy, recorded, stream, name):
        ends.append(end)
        yield ends


def of_seed(policy: Policy, recorded: Recorded, seed: int, trials: int) -> dict[str, float]:
    """Return a policy's figures for one seed. All policies get the same drawn trials."""
    rng, name = np.random.default_rng(seed), f"seed {seed}"
    drawn = [recorded.curves[place] for place in rng.permutation(len(recorded.curves))[:trials]]
    stream = [recorded.curves[place] for place in rng.integers(0, len(recorded.curves), LONG * trials)]
    whole = unpruned(stream[:trials])
    budgets = {unit: total(whole, unit) for unit in UNITS}
    equal = at_equal_compute(policy, recorded, stream, budgets, name)
    return share_and_regret(policy, recorded, drawn, name) | equal


def summary(rows: list[dict[str, float]], none: list[dict[str, float]], best: float) -> dict[str, float]:
    """Summarize one policy over all seeds.

    Args:
        rows: Figures of the policy, one row for each seed.
        none: Figures of the same seeds without pruning.
        best: Best recorded value.
    """
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    figures: dict[str, Any] = {}
    for unit in UNITS:
        gains = columns[f"equal_{unit}_value"] - [row[f"equal_{unit}_value"] for row in none]
        figures |= {
            f"{unit}_median": np.median(columns[unit]),
            f"{unit}_mean": columns[unit].mean(),
            f"equal_{unit}_trials": columns[f"equal_{unit}_trials"].mean(),
            f"equal_{unit}_below_best": best - columns[f"equal_{unit}_value"].mean(),
            f"equal_{unit}_gain": gains.mean(),
            f"equal_{unit}_gain_error": gains.std(ddof=1) / np.sqrt(len(gains)),
        }
    figures |= {"regret_mean": columns["regret"].mean(), "regret_p90": np.percentile(columns["regret"], 90)}
    figures["best_lost"] = columns["best_lost"].mean()
    return {key: round(float(value), 6) for key, value in figures.items()}
