"""The real trainer of a worker: joins the prepared set and the networks. The only one here that imports Keras."""

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
    """Trains on the CPU or GPU of this process, and keeps its networks from trial to trial."""

    def __init__(self) -> None:
        self.networks = Networks()

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Builds the network once, which fetches its weights: its number of parameters, and the shares of its layers
        that can be frozen."""
        settings = classifier_settings(NetworkSource(**request["source"]))
        classifier = self.networks.built(replace(settings, resolution=request["resolution"])).classifier
        cuts = [cut.fraction for cut in classifier.cuts]
        return {"parameters": classifier.joined.count_params(), "cut_fractions": cuts}

    def choose(self, request: dict[str, Any]) -> dict[str, Any]:
        """How trials compute, of what an `OpenChoices` leaves open, and what was measured; the first of each on a CPU,
        unless `on_cpu` asks."""
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
        # Where none fits into memory, a trial's batches will be cut.
        return (quickest(rows, asked.steps).arithmetic if rows else first), rows

    def _cuts(
        self, settings: ClassifierSettings, asked: OpenChoices, arithmetic: Arithmetic, measures: bool
    ) -> list[CutCost]:
        """Unless all that is kept will be read from memory, measured on a CPU too: a disk may be slower than it."""
        network = self.networks.taken(settings, dropout=0.0, seed=0, arithmetic=arithmetic)
        how = Keeping(asked.prefix_cache, asked.cache_bytes, asked.stored_images, from_disk=False)
        how = replace(how, from_disk=not fits_memory(network, asked, how))
        if not (measures or how.from_disk):
            return []
        return cut_costs(network, asked.frozen_fractions, asked.batch_size, how, Path(asked.scratch))

    def train(self, content: dict[str, Any], on_epochs: Callable[[list[dict[str, Any]]], bool]) -> dict[str, Any]:
        """One trial. Leaves its state after each epoch, and weights and validation probabilities unless it is stopped,
        in the job's folder."""
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
        """The rates of trials like each of the `jobs`, by their names, and how many values an image's features have at
        each of the cuts that the `frozen_fractions` lead to. Leaves nothing in the jobs' folders. `stored_images`: as
        models.training.trial_timing.Bench has them.
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
    return [Arithmetic(precision, xla) for xla in asked.xla for precision in asked.precisions]


def fits_memory(network: Network, asked: OpenChoices, how: Keeping) -> bool:
    """Whether what a search keeps of all views fits, and as much again, so that it is read from memory."""
    values = sum(filter(how.fits, feature_values(network, asked.frozen_fractions)))
    needed = asked.stored_images * values * np.dtype(asked.prefix_cache).itemsize
    return 2 * min(asked.cache_bytes, needed) <= psutil.virtual_memory().available


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
    """Return where the frozen layers' output is kept; None where it is not."""
    settings = job.settings
    if settings.prefix_cache == PREFIX_CACHE_OFF:
        return None
    origin = f"{prepared.fingerprint} {psutil.boot_time():.0f}"
    most_bytes = int(1e9 * settings.prefix_cache_gb)
    return CacheSettings(Path(job.cache_folder), settings.prefix_cache, most_bytes, origin, settings.prefix_cache_from)


def identity_of(job: TrainingJob, prepared: PreparedSet) -> str:
    """Of all that decides a trial, wherever the workspace lies."""
    text = json.dumps(job.facts() | {"fingerprint": prepared.fingerprint}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def classifier_settings(source: NetworkSource) -> ClassifierSettings:
    prepared = PreparedSet.open(Path(source.prepared))
    backbone = ready_backbone(source.backbone, source.own_backbone, source.backbone_file)
    return ClassifierSettings(backbone, source.weights, prepared.image_shape, len(prepared.class_names))


def save_outcome(outcome: TrialOutcome, folder: Path) -> None:
    """Writes weights and probabilities, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS_FILE) as partial:
        outcome.classifier.joined.save_weights(partial)
    arrays = {PROBABILITIES_FILE: outcome.probabilities, CORRUPTED_FILE: outcome.corrupted_probabilities}
    for name, array in arrays.items():
        if array is not None:
            with replacing(folder / name) as partial:
                np.save(partial, array)
