"""Short trials on part of the images, timed, by the very code of any trial: what a whole one will take.

Each runs twice. The first run traces, and tells how many images can be had in MEASURED_S; the second one is measured.
Of its two epochs a phase, the first computes what frozen layers give, where that is kept; the second finds it there.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from models.feeding.prefix_cache import CacheSettings
from models.feeding.training_data import TrainingData
from models.networks.kept_networks import Networks
from models.networks.predicting import PREDICT_BATCH
from models.training.checkpoint import CheckpointFile
from models.training.plan import EpochFigures, Plan
from models.training.trial import TrainingEnvironment, run_trial
from models.training.trial_rates import PhaseRates, TrialRates, Views

MEASURED_S = 2.0
"""Of training and of scoring in each epoch, where there are images enough."""
FIRST_STEPS = 4
EPOCHS = 2


@dataclass(frozen=True)
class Bench:
    """Where short trials run."""

    networks: Networks
    folder: Path
    """Holds states and features meanwhile; nothing stays in it."""
    cache: CacheSettings | None
    """As a whole trial has it."""
    stored_images: int
    """All images whose features a whole search may keep, which share the cache's limit."""


def timed_trial(plan: Plan, data: TrainingData, where: Bench) -> TrialRates:
    """The rates of trials by this plan, whose epochs do not matter. Its augmentation is left out: a view of the bank
    takes as long as an original, and so each epoch looks at the same ones."""
    plan = replace(
        plan,
        recipe=replace(plan.recipe, head_epochs=EPOCHS if plan.recipe.head_epochs else 0, epochs=EPOCHS),
        hyperparameters=replace(plan.hyperparameters, augmentation="none", unfreezing_steps=1),
    )
    data = replace(data, views=replace(data.views, banks=[], names=()))
    batch = plan.batch_size
    first = _short_trial(plan, _part(data, FIRST_STEPS * batch, PREDICT_BATCH), where)
    slowest_step_s = batch * max(row.trained_view_s for row in first.rates.phases)
    slowest_scored_s = _scored(data, 1) * max(row.scored_view_s for row in first.rates.phases)
    steps = max(FIRST_STEPS, int(MEASURED_S / slowest_step_s / plan.hyperparameters.views_per_image))
    measured = _short_trial(
        plan, _part(data, steps * batch, max(PREDICT_BATCH, int(MEASURED_S / slowest_scored_s))), where
    )
    return replace(measured.rates, trace_s=max(0.0, first.total_s - measured.predicted_s(first.views)))


@dataclass(frozen=True)
class _Short:
    """A short trial that ran."""

    total_s: float
    views: Views
    """Of each of its epochs."""
    rates: TrialRates

    def predicted_s(self, views: Views) -> float:
        """What a short trial takes that has nothing to trace."""
        kept = sum(phase.kept_view_s for phase in self.rates.phases) * (views.trained + views.scored)
        return kept + self.rates.trial_s(views, {phase.name: EPOCHS for phase in self.rates.phases})


def _short_trial(plan: Plan, data: TrainingData, where: Bench) -> _Short:
    times = [time.perf_counter()]
    epochs: list[EpochFigures] = []

    def on_epochs(figures: list[EpochFigures]) -> bool:
        times.append(time.perf_counter())
        epochs.extend(figures)
        return False

    with tempfile.TemporaryDirectory(dir=where.folder) as scratch:
        images = len(data.views.labels) + _scored(data, len(data.validation_labels))
        cache = where.cache and replace(
            where.cache,
            folder=Path(scratch) / "features",
            most_bytes=int(where.cache.most_bytes * images / where.stored_images),
        )
        state = CheckpointFile(Path(scratch) / "state.npz", "")
        outcome = run_trial(plan, data, on_epochs, state, TrainingEnvironment(where.networks, cache, times[0]))
        weights = Path(scratch) / "best.weights.h5"
        outcome.classifier.joined.save_weights(weights)
        total_s = time.perf_counter() - times[0]
        state_bytes, weights_bytes = state.path.stat().st_size, weights.stat().st_size
    views = Views(plan.epoch_size(len(data.views)).trained_views, _scored(data, len(data.validation_labels)))
    rest_s = [end - start - row.seconds for (start, end), row in zip(pairwise(times), epochs, strict=True)]
    phases = [slice(start, start + EPOCHS) for start in range(0, len(epochs), EPOCHS)]
    rates = TrialRates(
        frozen_fraction=outcome.frozen_fraction,
        setup_s=sum(max(0.0, rest_s[part][0] - rest_s[part][1]) for part in phases),
        end_view_s=(total_s - (times[-1] - times[0])) / views.scored,
        trace_s=0.0,
        state_bytes=state_bytes,
        weights_bytes=weights_bytes,
        phases=tuple(_phase_rates(epochs[part], rest_s[part][1], views) for part in phases),
    )
    return _Short(total_s, views, rates)


def _phase_rates(epochs: list[EpochFigures], rest_s: float, views: Views) -> PhaseRates:
    first, second = epochs
    training_s = views.trained / second.images_per_second
    return PhaseRates(
        name=second.phase,
        trained_view_s=training_s / views.trained,
        scored_view_s=(second.seconds - training_s) / views.scored,
        rest_s=rest_s,
        kept_view_s=max(0.0, first.seconds - second.seconds) / (views.trained + views.scored),
    )


def _part(data: TrainingData, trained: int, scored: int) -> TrainingData:
    """So many training and validation images, from all over the set; all where it has fewer."""
    rows = _spread(len(data.views.labels), trained)
    held_out = _spread(len(data.validation_labels), scored)
    views = replace(data.views, originals=data.views.originals[rows], labels=data.views.labels[rows])
    return replace(
        data,
        views=views,
        validation_images=data.validation_images[held_out],
        validation_labels=data.validation_labels[held_out],
        corrupted_images=None if data.corrupted_images is None else data.corrupted_images[held_out],
        families={name: taken[held_out] for name, taken in data.families.items()},
    )


def _spread(count: int, wanted: int) -> slice:
    """A slice, so that memory-mapped images stay on the disk: `wanted` of `count` rows, or all of them."""
    step = max(1, count // wanted)
    return slice(0, min(count, wanted * step), step)


def _scored(data: TrainingData, images: int) -> int:
    """Views of so many validation images, themselves included."""
    return images * (1 + (0 if data.corrupted_images is None else data.corrupted_images.shape[1]))
