"""Estimate the time and disk space of a search from the rates of its quickest and slowest trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import UNTRAINED
from models.hyperparameters import BANK
from models.training.recipe import HEAD, TUNING
from models.training.trial_rates import TrialRates, Views
from search.planning.planned_study import PlannedStudy
from studies.definition import Definition, Parameter, Value
from studies.settings import PREFIX_CACHE_OFF

FLOAT_BYTES = {PREFIX_CACHE_OFF: 0, "float16": 2, "float32": 4}

NOTED_DISTANCE = 0.15
"""Distance between a frozen fraction and the nearest cut above which a message names the cut."""

# Hyperparameter -> key that grows with the time of a trial. The others take a value from the middle of the space.
SLOWER: dict[str, Callable[[Any], float]] = {
    "frozen_fraction": lambda value: -value,
    "input_mode": lambda value: value != BANK,
    "views_per_image": float,
    "flips": float,
    "masks": float,
    "channel_shift": float,
    "mixing": lambda value: value != "none",
    "weight_averaging": float,
}


def quickest_and_slowest(definition: Definition) -> dict[str, dict[str, Value]]:
    """Return the hyperparameters of the `quickest` and the `slowest` trials, or of `every` trial if they are equal."""
    found = {"quickest": _chosen(definition, min), "slowest": _chosen(definition, max)}
    return found if found["quickest"] != found["slowest"] else {"every": found["slowest"]}


def _chosen(definition: Definition, end: Callable[..., Value]) -> dict[str, Value]:
    chosen: dict[str, Value] = {}
    for parameter in definition.parameters:
        if parameter.is_used(chosen):
            slower = SLOWER.get(parameter.name)
            chosen[parameter.name] = end(parameter.ends(), key=slower) if slower else _middle(parameter)
    return chosen


def _middle(parameter: Parameter) -> Value:
    if parameter.low is None or parameter.high is None:
        return parameter.ends()[0]
    if parameter.step:
        return parameter.low + parameter.step * ((parameter.high - parameter.low) // (2 * parameter.step))
    return sqrt(parameter.low * parameter.high) if parameter.log else (parameter.low + parameter.high) / 2


def frozen_fractions(planned: PlannedStudy, range_parts: int = 2) -> list[float]:
    """Return the fractions of the network that trials may freeze, with 1.0 for a head phase.

    Args:
        range_parts: Parts into which a range without steps is divided; the ends of the parts are returned.
    """
    if planned.weights == UNTRAINED:
        return [0.0]
    (parameter,) = (one for one in planned.definition.parameters if one.name == "frozen_fraction")
    ends = [float(value) for value in parameter.ends()]
    if parameter.low is not None and parameter.high is not None:
        steps = round((parameter.high - parameter.low) / parameter.step) if parameter.step else range_parts
        ends = [parameter.low + (parameter.high - parameter.low) * n / max(1, steps) for n in range(steps + 1)]
    return ends + ([1.0] if planned.head_epochs else [])


def moved_fractions(planned: PlannedStudy, cut_fractions: Sequence[float]) -> str:
    """Return a line on the frozen fractions that have no cut of the network within NOTED_DISTANCE; empty without any.

    Args:
        cut_fractions: Fractions of its layers at which the network can be cut.
    """
    nearest = {wanted: min(cut_fractions, key=lambda cut: abs(cut - wanted)) for wanted in frozen_fractions(planned)}
    moved = [f"{wanted:.0%} as {cut:.0%}" for wanted, cut in nearest.items() if abs(cut - wanted) > NOTED_DISTANCE]
    if not moved:
        return ""
    cuts = ", ".join(f"{cut:.0%}" for cut in cut_fractions)
    return (
        f"the network can be cut only at {cuts} of its layers; frozen_fraction uses the nearest cut: "
        f"{', '.join(moved)} (a cut is not possible where several tensors cross it, or between two calls of one layer)"
    )


def kept_fractions(planned: PlannedStudy) -> list[float]:
    """Return the frozen fractions for which the frozen layers' output is kept.

    They may include 0, where there is no output to keep.
    """
    settings = planned.settings
    if settings.prefix_cache == PREFIX_CACHE_OFF:
        return []
    return [fraction for fraction in frozen_fractions(planned) if fraction >= settings.prefix_cache_from]


def traced_parts(planned: PlannedStudy) -> int:
    """Return how many different parts of the network trials may train: cuts times input modes. Each is traced once."""
    modes = [len(one.ends()) for one in planned.definition.parameters if one.name == "input_mode"]
    return len(set(frozen_fractions(planned)) - {1.0}) * max([1, *modes])


def kept_cuts(planned: PlannedStudy) -> float:
    """Return the number of cuts with output to keep, weighted by depth.

    The deepest counts 1 and the others in proportion, since time grows with the number of frozen layers.
    """
    depths = [fraction for fraction in set(kept_fractions(planned)) if 0 < fraction < 1]
    return sum(depths) / max(depths) if depths else 0.0


@dataclass(frozen=True)
class Images:
    """Image counts of a prepared set."""

    train: int
    copies: int
    """Stored augmented views of each training image, over all strengths."""
    validation: int
    corrupted: int
    """Corrupted views of each validation image."""
    classes: int

    @staticmethod
    def of(prepared: PreparedSet) -> Images:
        corrupted = prepared.corrupted("validation")
        return Images(
            train=len(prepared.labels("train")),
            copies=sum(prepared.bank(level).shape[1] for level in prepared.levels),
            validation=len(prepared.labels("validation")),
            corrupted=corrupted.images.shape[1] if corrupted else 0,
            classes=len(prepared.class_names),
        )

    def views(self, hyperparameters: Mapping[str, Any]) -> Views:
        """Return the number of views in an epoch."""
        return Views(self.train * int(hyperparameters.get("views_per_image", 1)), self.scored)

    @property
    def scored(self) -> int:
        """Validation images with their corrupted views."""
        return self.validation * (1 + self.corrupted)

    @property
    def stored(self) -> int:
        """All images and views whose features may be kept."""
        return self.train * (1 + self.copies) + self.scored


@dataclass(frozen=True)
class SpeedClass:
    """One kind of trial, such as the quickest or the slowest, with its measured rates."""

    name: str
    rates: TrialRates
    views: Views
    """Views in one epoch."""
    epochs: Mapping[str, int]
    """Epochs of each phase, by its name."""

    @property
    def trial_s(self) -> float:
        return self.rates.trial_s(self.views, self.epochs)

    def row(self) -> dict[str, Any]:
        """Return the frozen fraction, the seconds of one epoch in each phase, and the seconds of a trial."""
        per_epoch = {f"{phase.name}_epoch_s": phase.epoch_s(self.views) for phase in self.rates.phases}
        return {"trials": self.name, "frozen": self.rates.frozen_fraction, **per_epoch, "trial_s": self.trial_s}

    def kept_s(self, images: Images, trials: int, phase_name: str) -> float:
        """Return the seconds for computing the frozen layers' output once for each view that trials use in a phase."""
        total, stored = 0.0, 1 + images.copies
        for phase in self.rates.phases:
            if phase.name == phase_name:
                drawn = trials * self.epochs[phase.name] * self.views.trained / images.train
                views_per_original = stored * (
                    1 - (1 - 1 / stored) ** drawn
                )  # expected number of different stored views of an image among `drawn` random draws
                total += phase.kept_view_s * (images.train * views_per_original + images.scored)
        return total


@dataclass(frozen=True)
class PlannedSearch:
    """Trials still to come, with everything that decides how long they take."""

    trials: int
    images: Images
    kinds: Sequence[SpeedClass]
    parts: int
    """Number of network parts to trace, as the function `traced_parts` counts them."""
    start_s: float
    """Seconds to start a training process and build the network."""
    fresh: bool = False
    """Whether each trial gets a new training process."""
    kept_cuts: float = 0.0
    """Weighted number of cuts with output to keep, as the function `kept_cuts` counts them."""

    def once_s(self) -> float:
        """Return the seconds for work done once: starting, tracing, and computing the frozen layers' output."""
        if not self.trials:
            return 0.0
        traces_s = sum(kind.rates.trace_s for kind in self.kinds)
        starts_s = self.start_s + max(1.0, min(self.trials, self.parts) / len(self.kinds)) * traces_s
        if self.fresh:
            starts_s = self.trials * (self.start_s + traces_s / len(self.kinds))
        share = max(1, round(self.trials / self.parts))  # trials that share a cut
        heads_s = max(kind.kept_s(self.images, self.trials, HEAD) for kind in self.kinds)
        tuning_s = max(kind.kept_s(self.images, share, TUNING) for kind in self.kinds)
        return starts_s + heads_s + self.kept_cuts * min(1.0, self.trials / self.parts) * tuning_s

    def total_s(self) -> tuple[float, float, float]:
        """Return the seconds in all for an equal mix of all kinds, for the quickest only, and for the slowest only."""
        each = [kind.trial_s for kind in self.kinds]
        once = self.once_s()
        mean = sum(each) / len(each)
        return once + self.trials * mean, once + self.trials * min(each), once + self.trials * max(each)


@dataclass(frozen=True)
class DiskNeeds:
    """Counts and sizes that decide how much disk space a study takes."""

    trials: int
    keep: int
    """Number of trials whose weights are kept."""
    weights_bytes: int
    state_bytes: int
    feature_values: Sequence[int]
    """Number of feature values of one image, at each cut."""
    precision: str
    """Precision of kept features, a key of FLOAT_BYTES."""
    most_feature_bytes: int
    """Limit for the features of all cuts together."""

    def rows(self, images: Images) -> dict[str, int]:
        """Return the bytes needed, by purpose."""
        cuts = [count * FLOAT_BYTES[self.precision] * images.stored for count in self.feature_values]
        fitting = sum(size for size in cuts if size <= self.most_feature_bytes)
        return {
            "weights": min(self.keep, self.trials) * self.weights_bytes,
            "state": 2 * self.state_bytes,  # the old state is deleted only after the new one is written
            "probabilities": self.trials * images.scored * images.classes * FLOAT_BYTES["float32"],
            "features": min(self.most_feature_bytes, fitting),
        }
