"""The trainer of a training process: brings prepared set and networks together. Importing it imports Keras."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from data_prep.storage.machine import free_memory
from data_prep.storage.reader import PreparedSet
from models.backbones.user_networks import ready_backbone
from models.feeding.cache_cost import CutCost, Keeping, cut_costs, feature_values, least_paying
from models.feeding.prefix_cache import CacheSettings
from models.hyperparameters import Hyperparameters
from models.networks.arithmetic import FLOAT32, Arithmetic, StepTime, quickest
from models.networks.classifier import ClassifierSettings
from models.networks.compiled_steps import Device, training_device
from models.networks.kept_networks import Network, Networks
from models.networks.step_timing import step_times
from models.training.checkpoint import CheckpointFile
from models.training.plan import EpochFigures, Plan, TrialOutcome
from models.training.recipe import Recipe
from models.training.trial import TrainingEnvironment, run_trial
from models.training.trial_timing import Bench, timed_trial
from search.engine.job import (
    CORRUPTED_FILE,
    PROBABILITIES_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    NetworkSource,
    OpenChoices,
    TrainingJob,
)
from search.engine.trial_data import data_of, training_data
from studies.files import replacing
from studies.settings import PREFIX_CACHE_OFF, XLA_ON


class KerasTrainer:
    """Trainer on the CPU or GPU of this process; it keeps its networks from trial to trial."""

    def __init__(self) -> None:
        self.networks = Networks()

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build the network once, which downloads missing weights.

        Returns:
            `parameters` (their number), `cut_fractions` (fractions of the layers that can be frozen), and the `device`.
        """
        settings = classifier_settings(NetworkSource(**request["source"]))
        classifier = self.networks.built(replace(settings, resolution=request["resolution"])).classifier
        cuts = [cut.fraction for cut in classifier.cuts]
        return {"parameters": classifier.joined.count_params(), "cut_fractions": cuts, "device": training_device().name}

    def choose(self, request: dict[str, Any]) -> dict[str, Any]:
        """Choose among the options of an `OpenChoices`, and return the choice with its measurements.

        On a CPU the first precision and XLA value are taken without measuring, unless `on_cpu` is set.
        """
        asked, device = OpenChoices.from_dict(request), training_device()
        measures = asked.on_cpu or not device.is_cpu
        settings = replace(classifier_settings(asked.source), resolution=asked.resolution)
        chosen, steps = self._arithmetic(settings, asked, device) if measures else (candidates(asked)[0], [])
        cuts = self._cuts(settings, asked, chosen, measures) if asked.frozen_fractions else []
        figures = {"steps": [asdict(row) for row in steps], "cuts": [asdict(row) for row in cuts]}
        return asdict(chosen) | {"keep_from": least_paying(cuts), "device": device.name, **figures}

    def _arithmetic(
        self, settings: ClassifierSettings, asked: OpenChoices, device: Device
    ) -> tuple[Arithmetic, list[StepTime]]:
        first, *others = candidates(asked)
        fit = [one for one in others if device.has_bfloat16 or one.precision == FLOAT32]
        rows = step_times(settings, asked.batch_size, [first, *fit]) if others else []
        # If no option fits in memory, take the first: trials will then cut their batches.
        return (quickest(rows, asked.steps).arithmetic if rows else first), rows

    def _cuts(
        self, settings: ClassifierSettings, asked: OpenChoices, arithmetic: Arithmetic, measures: bool
    ) -> list[CutCost]:
        """Time computing features against reading them. Without `on_cpu`, a CPU does so only if it reads a disk."""
        network = self.networks.taken(settings, dropout=0.0, seed=0, arithmetic=arithmetic)
        how = Keeping(asked.prefix_cache, asked.cache_bytes, asked.stored_images, from_disk=False)
        how = replace(how, from_disk=not fits_memory(network, asked, how))
        if not (measures or how.from_disk):
            return []
        return cut_costs(network, asked.frozen_fractions, asked.batch_size, how, Path(asked.scratch))

    def train(self, content: dict[str, Any], on_epochs: Callable[[list[dict[str, Any]]], bool]) -> dict[str, Any]:
        """Train one trial and return its outcome, as from `TrialOutcome.as_dict`.

        In the job's folder it leaves a checkpoint after each epoch and, unless the trial is stopped, the weights and
        validation probabilities.

        Args:
            content: A `TrainingJob` as a dict.
            on_epochs: Receives the figures of finished epochs; returns True to stop the trial.
        """
        received = time.perf_counter()
        job = TrainingJob.from_dict(content)
        prepared, folder = PreparedSet.open(Path(job.source.prepared)), Path(job.folder)

        def report(figures: list[EpochFigures]) -> bool:
            return on_epochs([asdict(row) for row in figures])

        plan, data = plan_of(job), data_of(job, prepared)
        state = CheckpointFile(folder / STATE_FILE, identity_of(job, prepared))
        cache = None if job.folds else cache_settings(job, prepared)
        environment = TrainingEnvironment(self.networks, cache, received)
        outcome = run_trial(plan, data, report, state, environment)
        if not outcome.stopped:
            save_outcome(outcome, folder)
        return outcome.as_dict()

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time short trials like the given jobs; nothing stays in their folders.

        Args:
            request: `jobs` (name -> `TrainingJob` as a dict), `frozen_fractions`, and `stored_images` as in
                models.training.trial_timing.Bench.

        Returns:
            `rates` (name -> rates of such a trial), and `feature_values`: values in one image's features at each cut
            that the `frozen_fractions` lead to.
        """
        rates = {}
        for name, content in request["jobs"].items():
            job = TrainingJob.from_dict(content)
            prepared, plan = PreparedSet.open(Path(job.source.prepared)), plan_of(job)
            bench = Bench(self.networks, Path(job.folder), cache_settings(job, prepared), request["stored_images"])
            rates[name] = asdict(timed_trial(plan, training_data(prepared, plan.hyperparameters), bench))
        network = self.networks.built(plan.network)
        return {"rates": rates, "feature_values": feature_values(network, request["frozen_fractions"])}


def candidates(asked: OpenChoices) -> list[Arithmetic]:
    """Return all combinations of the precisions and XLA values to choose from."""
    return [Arithmetic(precision, xla) for xla in asked.xla for precision in asked.precisions]


def fits_memory(network: Network, asked: OpenChoices, how: Keeping) -> bool:
    """Return whether the cached features of all views take at most half of the free memory, so that no disk is read."""
    values = sum(filter(how.fits, feature_values(network, asked.frozen_fractions)))
    needed = asked.stored_images * values * np.dtype(asked.prefix_cache).itemsize
    return 2 * min(asked.cache_bytes, needed) <= free_memory()


def plan_of(job: TrainingJob) -> Plan:
    """Return everything that decides the job's trial besides its data."""
    settings = job.settings
    return Plan(
        classifier_settings(job.source),
        Hyperparameters.from_dict(job.hyperparameters),
        Recipe(**settings.recipe),
        settings.objective,
        job.seed,
        job.batch_divisor,
        job.replayed,
        Arithmetic(settings.precision, settings.xla == XLA_ON),
    )


def cache_settings(job: TrainingJob, prepared: PreparedSet) -> CacheSettings | None:
    """Return the settings of the cache of frozen layers' output; None if the study has no cache."""
    settings = job.settings
    if settings.prefix_cache == PREFIX_CACHE_OFF:
        return None
    origin = f"{prepared.fingerprint} {psutil.boot_time():.0f}"
    most_bytes = int(1e9 * settings.prefix_cache_gb)
    return CacheSettings(Path(job.cache_folder), settings.prefix_cache, most_bytes, origin, settings.prefix_cache_from)


def identity_of(job: TrainingJob, prepared: PreparedSet) -> str:
    """Return a SHA-256 hash of everything that decides a trial, independent of where the workspace lies."""
    text = json.dumps(job.facts() | {"fingerprint": prepared.fingerprint}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def classifier_settings(source: NetworkSource) -> ClassifierSettings:
    """Return the settings of the network for the images and classes of the prepared set."""
    prepared = PreparedSet.open(Path(source.prepared))
    backbone = ready_backbone(source.backbone, source.own_backbone, source.backbone_file)
    return ClassifierSettings(backbone, source.weights, prepared.image_shape, len(prepared.class_names))


def save_outcome(outcome: TrialOutcome, folder: Path) -> None:
    """Write weights and probabilities, each file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS_FILE) as partial:
        outcome.classifier.joined.save_weights(partial)
    arrays = {PROBABILITIES_FILE: outcome.probabilities, CORRUPTED_FILE: outcome.corrupted_probabilities}
    for name, array in arrays.items():
        if array is not None:
            with replacing(folder / name) as partial:
                np.save(partial, array)
