"""Estimate how long a trial will take, by timing short trials on part of the images, with the same code.

Each short trial runs twice. The first run traces, and shows how many images fit into MEASURED_S. The second run is
measured. Each of its phases has two epochs: the first computes the output of the frozen layers and caches it, if there
is a cache; the second reads it from there.
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
"""Target seconds of training, and of scoring, in each measured epoch, if there are enough images."""
FIRST_STEPS = 4
"""Training steps per epoch of the first run."""
EPOCHS = 2
"""Epochs per phase."""


@dataclass(frozen=True)
class Bench:
    """Resources of short trials."""

    networks: Networks
    folder: Path
    """Folder for checkpoints and features; they are removed at the end."""
    cache: CacheSettings | None
    """Cache settings of a whole trial."""
    stored_images: int
    """Number of images and views whose features a whole search may cache. They share the cache's size limit."""


def timed_trial(plan: Plan, data: TrainingData, where: Bench) -> TrialRates:
    """Return the rates of trials with this plan, from short trials.

    The plan's numbers of epochs are not used. Augmented views are left out: they take as long as originals, and without
    them each epoch uses the same views.

    Args:
        plan: Plan of the trials.
        data: Data of the trials.
        where: Resources of the short trials.
    """
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
    """A finished short trial."""

    total_s: float
    views: Views
    """Views in each of its epochs."""
    rates: TrialRates

    def predicted_s(self, views: Views) -> float:
        """Return the seconds that a short trial takes without tracing."""
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
    """Return data with these numbers of training and validation images, spread over the set; all if it has fewer."""
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
    """Return a slice of `wanted` rows out of `count`, or of all. A slice leaves memory-mapped images on disk."""
    step = max(1, count // wanted)
    return slice(0, min(count, wanted * step), step)


def _scored(data: TrainingData, images: int) -> int:
    """Return the number of scored views: this number of validation images and their corrupted views."""
    return images * (1 + (0 if data.corrupted_images is None else data.corrupted_images.shape[1]))
