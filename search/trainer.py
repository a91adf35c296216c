"""The real trainer of a worker: joins the prepared set and the networks. The only one here that imports Keras."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from data_prep.corrupted import corrupted_views
from data_prep.folds import training_folds
from data_prep.prepared import PreparedSet
from models.arithmetic import FLOAT32, Arithmetic, StepTime, quickest
from models.cache_cost import CutCost, Keeping, cut_costs, feature_values, least_paying
from models.classifier import ClassifierSettings
from models.external import ExternalSet
from models.feeding import TrainingViews
from models.hyperparameters import Hyperparameters
from models.measuring import step_times
from models.networks import Network, Networks
from models.own_networks import ready_backbone
from models.prefix_cache import CacheSettings
from models.recipe import Recipe
from models.stepping import Device
from models.stepping import device as here
from models.timing import Bench, timed_trial
from models.training import Surroundings, run_trial
from models.trial import EpochFigures, Plan, TrainingData, TrialOutcome
from models.trial_state import StateFile
from search.job import (
    CACHE_OFF,
    CORRUPTED_FILE,
    PROBABILITIES_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    TrainingJob,
    Undecided,
)
from search.refit_data import with_validation_images

PLACES = ("prepared", "folder", "cache_folder", "backbone_file", "extra_views")
"""Of a job: where things lie decides nothing."""


class KerasTrainer:
    """Trains on the CPU or GPU of this process, and keeps its networks from trial to trial."""

    def __init__(self) -> None:
        self.networks = Networks()

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Builds the network once, which fetches its weights: its number of parameters, and the shares of its layers
        that can be frozen."""
        settings = classifier_settings(PreparedSet.open(Path(request["prepared"])), request)
        classifier = self.networks.built(replace(settings, resolution=request["resolution"])).classifier
        cuts = [cut.fraction for cut in classifier.cuts]
        return {"parameters": classifier.joined.count_params(), "cut_fractions": cuts}

    def choose(self, request: dict[str, Any]) -> dict[str, Any]:
        """How trials compute, of what an `Undecided` leaves open, and what was measured; the first of each on a CPU,
        unless `on_cpu` asks."""
        asked, device = Undecided(**request), here()
        measures = asked.on_cpu or not device.is_cpu
        settings = classifier_settings(PreparedSet.open(Path(asked.prepared)), request)
        settings = replace(settings, resolution=asked.resolution)
        chosen, steps = self._arithmetic(settings, asked, device) if measures else (candidates(asked)[0], [])
        cuts = self._cuts(settings, asked, chosen, measures) if asked.frozen_fractions else []
        figures = {"steps": [asdict(row) for row in steps], "cuts": [asdict(row) for row in cuts]}
        return asdict(chosen) | {"keep_from": least_paying(cuts), "device": device.name, **figures}

    def _arithmetic(
        self, settings: ClassifierSettings, asked: Undecided, device: Device
    ) -> tuple[Arithmetic, list[StepTime]]:
        first, *others = candidates(asked)
        fit = [one for one in others if device.has_bfloat16 or one.precision == FLOAT32]
        rows = step_times(settings, asked.batch_size, [first, *fit]) if others else []
        # Where none fits into memory, a trial's batches will be cut.
        return (quickest(rows, asked.steps).arithmetic if rows else first), rows

    def _cuts(
        self, settings: ClassifierSettings, asked: Undecided, arithmetic: Arithmetic, measures: bool
    ) -> list[CutCost]:
        """Unless all that is kept will be read from memory, measured on a CPU too: a disk may be slower than it."""
        network = self.networks.taken(settings, dropout=0.0, seed=0, arithmetic=arithmetic)
        how = Keeping(asked.prefix_cache, asked.cache_bytes, asked.stored_images, from_disk=False)
        how = replace(how, from_disk=not fits_memory(network, asked, how))
        if not (measures or how.from_disk):
            return []
        return cut_costs(network, asked.frozen_fractions, asked.batch_size, how, Path(asked.scratch))

    def train(self, job: dict[str, Any], on_epochs: Callable[[list[dict[str, Any]]], bool]) -> dict[str, Any]:
        """One trial. Leaves its state after each epoch, and weights and validation probabilities unless it is stopped,
        in the job's folder."""
        received = time.perf_counter()
        settings = TrainingJob(**job)
        prepared = PreparedSet.open(Path(settings.prepared))
        plan = plan_of(settings, prepared)

        def report(figures: list[EpochFigures]) -> bool:
            return on_epochs([asdict(row) for row in figures])

        data = training_data(prepared, plan.hyperparameters)
        if settings.folds:
            data = fold_of(data, prepared, settings)
        if settings.extra_views:
            data = with_validation_images(data, Path(settings.extra_views))
        state = StateFile(Path(settings.folder) / STATE_FILE, identity_of(settings, prepared))
        cache = None if settings.folds else cache_settings(settings, prepared)
        surroundings = Surroundings(self.networks, cache, received)
        outcome = run_trial(plan, data, report, state, surroundings)
        if not outcome.stopped:
            save_outcome(outcome, Path(settings.folder))
        return outcome.as_dict()

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """The rates of trials like each of the `jobs`, by their names, and how many values an image's features have at
        each of the cuts that the `frozen_fractions` lead to. Leaves nothing in the jobs' folders. `stored_images`: as
        models.timing.Bench has them.
        """
        rates = {}
        for name, content in request["jobs"].items():
            job = TrainingJob(**content)
            prepared = PreparedSet.open(Path(job.prepared))
            plan = plan_of(job, prepared)
            cache = cache_settings(job, prepared)
            bench = Bench(self.networks, Path(job.folder), cache, request["stored_images"])
            rates[name] = asdict(timed_trial(plan, training_data(prepared, plan.hyperparameters), bench))
        network = self.networks.built(plan.network)
        return {"rates": rates, "feature_values": feature_values(network, request["frozen_fractions"])}


def candidates(asked: Undecided) -> list[Arithmetic]:
    return [Arithmetic(precision, xla) for xla in asked.xla for precision in asked.precisions]


def fits_memory(network: Network, asked: Undecided, how: Keeping) -> bool:
    """Whether what a search keeps of all views fits, and as much again, so that it is read from memory."""
    values = sum(filter(how.fits, feature_values(network, asked.frozen_fractions)))
    needed = asked.stored_images * values * np.dtype(asked.prefix_cache).itemsize
    return 2 * min(asked.cache_bytes, needed) <= psutil.virtual_memory().available


def plan_of(job: TrainingJob, prepared: PreparedSet) -> Plan:
    return Plan(
        classifier_settings(prepared, asdict(job)),
        Hyperparameters.from_dict(job.hyperparameters),
        Recipe(**job.recipe),
        job.objective,
        job.seed,
        job.batch_divisor,
        tuple(job.replayed),
        Arithmetic(job.precision, job.xla),
    )


def cache_settings(job: TrainingJob, prepared: PreparedSet) -> CacheSettings | None:
    if job.prefix_cache == CACHE_OFF:
        return None
    origin = f"{prepared.fingerprint} {psutil.boot_time():.0f}"
    folder, most_bytes = Path(job.cache_folder), int(1e9 * job.cache_gb)
    return CacheSettings(folder, job.prefix_cache, most_bytes, origin, job.prefix_cache_from)


def identity_of(job: TrainingJob, prepared: PreparedSet) -> str:
    """Of all that decides a trial, wherever the workspace lies."""
    text = json.dumps(job.decisive(*PLACES) | {"fingerprint": prepared.fingerprint}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def classifier_settings(prepared: PreparedSet, job: dict[str, Any]) -> ClassifierSettings:
    backbone = ready_backbone(job["backbone"], job.get("own_backbone", {}), job.get("backbone_file", ""))
    return ClassifierSettings(backbone, job["weights"], prepared.image_shape, len(prepared.class_names))


def training_data(prepared: PreparedSet, hyperparameters: Hyperparameters) -> TrainingData:
    """The prepared set as a trial sees it; images stay memory-mapped."""
    banks = [prepared.bank(level) for level in hyperparameters.levels]
    corrupted = prepared.corrupted("validation")
    return TrainingData(
        views=TrainingViews(prepared.images("train"), banks, prepared.labels("train"), names=hyperparameters.levels),
        class_weights=prepared.class_weights,
        validation_images=prepared.images("validation"),
        validation_labels=prepared.labels("validation"),
        corrupted_images=corrupted.images if corrupted else None,
        families=corrupted.families if corrupted else {},
        external={name: ExternalSet(*prepared.external(name)) for name in prepared.external_names},
    )


def fold_of(data: TrainingData, prepared: PreparedSet, job: TrainingJob) -> TrainingData:
    """The same data with one part of the training images held out, and that part scored in place of the validation
    images: its originals, and as many corrupted views of them, by the same operations."""
    held_out = training_folds(prepared, job.folds, job.fold_seed) == job.fold
    images = np.asarray(data.views.originals[held_out])
    views = 0 if data.corrupted_images is None else data.corrupted_images.shape[1]
    corrupted = corrupted_views(images, views, "validation", job.fold_seed) if views else None
    return replace(
        data,
        views=replace(data.views, rows=np.flatnonzero(~held_out)),
        validation_images=images,
        validation_labels=data.views.labels[held_out],
        corrupted_images=corrupted.images if corrupted else None,
        families=corrupted.families if corrupted else {},
    )


def save_outcome(outcome: TrialOutcome, folder: Path) -> None:
    """Writes weights and probabilities, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome.classifier.joined.save_weights(folder / f"partial.{WEIGHTS_FILE}")
    names = [WEIGHTS_FILE]
    arrays = {PROBABILITIES_FILE: outcome.probabilities, CORRUPTED_FILE: outcome.corrupted_probabilities}
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"partial.{name}", array)
            names.append(name)
    for name in names:
        with open(folder / f"partial.{name}", "rb") as written:
            os.fsync(written.fileno())
        os.replace(folder / f"partial.{name}", folder / name)
