"""Measure how long commands take on a study of 1,000 trials.

    python benchmarks/start_up.py make FOLDER
    python benchmarks/start_up.py measure NAME FOLDER OUT.json [--runs 7]
    python benchmarks/start_up.py show OUT.json

`make` fills a workspace, once; interrupted, it continues. `measure` runs each command in processes of its own, and
stores the times under NAME.

Nothing is trained. Trials are asked for, reported and told as a search does it. Their figures are computed by
`models.scoring.trial_scores` from random predictions for 1,820 validation images of eight classes and two corrupted
views of each; the predictions lie in `trials/` as a real trial leaves them. Two of three trials are complete, as with a
median pruner. None was trained again with other seeds, so `compare` has to resample the images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna

from data_prep.prepare import prepare
from data_prep.settings import PrepareSettings
from data_prep.storage.reader import PreparedSet
from models.backbones.registry import BACKBONES
from models.hyperparameters import names
from models.scoring.trial_scores import score
from models.training.recipe import Recipe
from search.engine.claims import Claims
from search.engine.job import CORRUPTED_FILE, LOG_FILE, PROBABILITIES_FILE, trial_folder
from search.engine.loop import seed_of
from search.workspace import Workspace
from studies.definition import Definition, read_definition
from studies.per_trial_sampler import PerTrialSampler
from studies.records import TrialEnd, store_record
from studies.samplers import SAMPLERS
from studies.settings import StudySettings
from studies.storage import create_study, finish_study, open_storage

ROOT = Path(__file__).parents[1]
TRIALS = 1000
MINUTE_S = 60.0
"""A command whose runs have taken this long in total is not run again."""
CLASS_COUNTS = (185, 474, 236, 440, 185, 216, 507, 357)
"""Images of each class, 2,600 in all, in the proportions of the blood cells. 70 % become validation images."""
BACKBONE = "mobilenetv2_035"
COMMANDS = (("--help",), ("status",), ("compare",), ("compare", "--trials"))


def make(folder: Path, trials: int) -> None:
    """Fill the workspace in FOLDER until its study has this many trials."""
    workspace = Workspace(folder)
    if not workspace.prepared.exists():
        source = folder / "source.npz"
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(len(CLASS_COUNTS)), CLASS_COUNTS)
        np.savez(source, images=rng.integers(0, 256, (len(labels), 16, 16, 3)).astype(np.uint8), labels=labels)
        prepare(PrepareSettings(str(source), levels=("strong",), split=(15, 70, 15)), workspace.prepared)
    prepared = PreparedSet.open(workspace.prepared)
    definition = read_definition("robust", BACKBONE, names(), [row.name for row in BACKBONES])
    definition = definition.without_levels(prepared.levels)
    study = made_study(workspace, prepared, definition)
    guesser = Guesser(prepared)
    while len(study.get_trials(deepcopy=False)) < trials:
        add_trial(study, definition, guesser, workspace)


def made_study(workspace: Workspace, prepared: PreparedSet, definition: Definition) -> optuna.Study:
    """Open the workspace's study; create it if there is none."""
    options = ("imagenet", vars(Recipe()), "mean_macro_f1", "random", "median", 0)
    settings = StudySettings(BACKBONE, prepared.fingerprint, *options, definition.as_dict())
    storage = open_storage(workspace.database)
    if settings.name not in optuna.study.get_all_study_names(storage):
        finish_study(create_study(storage, settings))
    sampler = PerTrialSampler(SAMPLERS["random"], lambda number, purpose: seed_of(0, number, purpose))
    return optuna.load_study(study_name=settings.name, storage=storage, sampler=sampler)


class Guesser:
    """Draw a trial's predictions from the trial's skill and from difficulties of images that all trials share."""

    def __init__(self, prepared: PreparedSet) -> None:
        views = prepared.corrupted("validation")
        assert views is not None
        self.labels, self.families = prepared.labels("validation"), views.families
        self.truth = np.eye(len(prepared.class_names))[self.labels]
        self.shape = views.images.shape[:2]
        self.ease = np.random.default_rng(0).normal(0, 1, self.shape)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities of clean images and of corrupted views: float32 (m, classes), (m, views, classes)."""
        skill = rng.uniform(3.5, 6.5)
        clean = self._softmax(self.truth * (skill + self.ease[:, :1]), rng)
        corrupted = self._softmax(self.truth[:, None] * (0.6 * skill + self.ease[..., None]), rng)
        return clean, corrupted

    def _softmax(self, logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raised = np.exp(logits + rng.normal(0, 1.2, logits.shape))
        return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


def add_trial(study: optuna.Study, definition: Definition, guesser: Guesser, workspace: Workspace) -> None:
    """Add a finished trial to the study, with the files that a real one leaves."""
    trial = study.ask()
    chosen, rng = definition.suggest(trial), np.random.default_rng(trial.number)
    folder = trial_folder(workspace.trials, study.study_name, trial.number)
    claims = Claims(folder.parent)
    claims.take(trial.number)
    (folder / LOG_FILE).touch()
    clean, corrupted = guesser.draw(rng)
    scores = score(guesser.labels, clean, corrupted, guesser.families)
    pruned = trial.number % 3 == 2
    recipe = Recipe()
    length = recipe.head_epochs + (int(rng.integers(1, recipe.epochs)) if pruned else recipe.epochs)
    epochs = [epoch_of(step, length, scores) for step in range(length)]
    for row in epochs:
        trial.report(row["value"], row["step"])
    for name, array in ((PROBABILITIES_FILE, clean), (CORRUPTED_FILE, corrupted)):
        np.save(folder / name, array)
    outcome = {"best": epochs[-1], "stopped": pruned, "parameters": 420_456, "frozen_fraction": 0.5229}
    outcome |= {"frozen_parameter_fraction": 0.09786, "first_step_s": 2.555, "ms_per_image": 0.768}
    outcome |= {"weights_sha256": rng.bytes(32).hex(), "memory_mb": 830}
    store_record(trial, TrialEnd(chosen, epochs, outcome, seconds=sum(row["seconds"] for row in epochs)))
    if pruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, epochs[-1]["value"])
    claims.release(trial.number)


def epoch_of(step: int, length: int, scores: dict[str, Any]) -> dict[str, Any]:
    """Return figures as in models.training.plan.EpochFigures, with scores that rise to the given ones."""
    grown = scaled(scores, 1 - 0.3 * (1 - (step + 1) / length) ** 2)
    figures = {"training_loss": 1 / (step + 1.5), "learning_rate": 0.001 / 3, "seconds": 19.19 - step / 7}
    figures |= {"images_per_second": 408.8 + step / 7, "validation": grown}
    return {"step": step, "phase": "fine-tuning", "value": grown["mean_macro_f1"], **figures}


def scaled(scores: Any, share: float) -> Any:
    """Multiply all floats in nested dicts."""
    if isinstance(scores, dict):
        return {name: scaled(value, share) for name, value in scores.items()}
    return scores * share if isinstance(scores, float) else scores


def run_once(command: list[str]) -> tuple[float, float]:
    """Run a command; return its wall seconds and its CPU seconds, user and system."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, used.ru_utime + used.ru_stime


def measure(name: str, folder: Path, out: Path, times: int) -> None:
    rows: dict[str, Any] = {}
    for command in COMMANDS:
        runs: list[tuple[float, float]] = []
        while len(runs) < times and sum(wall for wall, _ in runs) < MINUTE_S:
            runs.append(run_once([sys.executable, "-m", "search", "-w", str(folder), *command]))
        walls, cpus = zip(*((round(wall, 3), round(cpu, 3)) for wall, cpu in runs), strict=True)
        rows[" ".join(command)] = {"wall_s": walls, "cpu_s": cpus}
    report = json.loads(out.read_text()) if out.exists() else {}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    found = {"trials": trials_in(folder), "commands": rows, "load_average": round(os.getloadavg()[0], 1)}
    report[name] = found | {"date": datetime.now(UTC).date().isoformat(), "machine": machine}
    out.write_text(json.dumps(report, indent=1) + "\n")


def trials_in(folder: Path) -> int:
    """Return the number of trials in the workspace's only study."""
    (study,) = optuna.get_all_study_summaries(open_storage(Workspace(folder).database))
    return study.n_trials


def show(out: Path) -> None:
    for name, part in json.loads(out.read_text()).items():
        machine = f"{part['date']}, {part['machine']}, load average {part['load_average']}"
        print(f"{name} ({machine}), {part['trials']:,} trials:")
        print(f"  {'':<18}{'wall: median':>14}{'best':>8}{'CPU: median':>14}{'best':>8}   seconds")
        for command, row in part["commands"].items():
            walls, cpus = row["wall_s"], row["cpu_s"]
            print(f"  {command:<18}{median(walls):>14.2f}{min(walls):>8.2f}{median(cpus):>14.2f}{min(cpus):>8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    making = commands.add_parser("make", help="fill the workspace in FOLDER")
    making.add_argument("folder", type=Path)
    making.add_argument("--trials", type=int, default=TRIALS, help="trials of the study (default: %(default)s)")
    measured = commands.add_parser("measure", help="time each command")
    measured.add_argument("name")
    measured.add_argument("folder", type=Path)
    measured.add_argument("out", type=Path)
    measured.add_argument("--runs", type=int, default=7, help="runs of each command (default: %(default)s)")
    commands.add_parser("show", help="print the times").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.part == "make":
        make(options.folder, options.trials)
    elif options.part == "measure":
        measure(options.name, options.folder.resolve(), options.out, options.runs)
    if options.part != "make":
        show(options.out)


if __name__ == "__main__":
    main()
