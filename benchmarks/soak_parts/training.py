"""Kill TensorFlow trainings, and run many in one process. Part of ../soak.py."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from soak_parts.counting import counts, finished_rows, records_of, rows_of, study_of, tracebacks
from soak_parts.processes import HPSEARCH, kill, prepared_workspace, start


def training(folder: Path, trials: int, kills: int) -> dict[str, Any]:
    """Kill a study in the middle of epochs, and compare it with the same study uninterrupted: figures and weights.

    Args:
        folder: Folder of the benchmark; resumes what it holds.
        trials: Trials of the study.
        kills: Kills after which the study finishes in peace.
    """
    workspace = prepared_workspace(folder)
    whole = folder / "uninterrupted"
    options = ["run", "--backbone", "small_cnn", "--epochs", "6", "--trials", str(trials), "--seed", "3"]
    if not whole.exists():
        shutil.copytree(workspace / "prepared", whole / "prepared")
    with open(folder / "uninterrupted.log", "ab") as log:
        subprocess.run([*HPSEARCH, "-w", str(whole), *options], stdout=log, check=True)
    notes = folder / "training-kills.json"
    done = Counter[str](json.loads(notes.read_text()) if notes.exists() else {})
    rng, started = random.Random(sum(done.values())), time.monotonic()
    earlier: dict[str, Any] = {}
    while sum(done.values()) < kills:
        process = start([*HPSEARCH, "-w", str(workspace), *options], folder / "training.log")
        before = state_times(workspace)
        while state_times(workspace) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        victim = rng.choice(("asking process", "worker", "both"))
        if process.poll() is None and kill(process, victim):
            done[victim] += 1
        if victim == "worker":
            time.sleep(rng.uniform(0, 8))  # the search starts another worker, which continues the trial
            kill(process, "both")
        notes.write_text(json.dumps(done))
        if process.poll() == 0:
            break
        earlier |= finished_rows(rows_of(workspace / "studies.db", study_of(workspace)))
    with open(folder / "training.log", "ab") as log:
        subprocess.run([*HPSEARCH, "-w", str(workspace), *options], stdout=log, check=True)
    rows = rows_of(workspace / "studies.db", study_of(workspace))
    figures, wanted = outcomes(workspace), outcomes(whole)
    logs = [folder / "training.log", *workspace.glob("trials/*/worker.log"), *workspace.glob("trials/*/*/log.txt")]
    return {
        "trials": len(rows),
        "kills": dict(done),
        "runs at once": 1,
        **counts(rows, earlier, trials),
        "tracebacks": tracebacks(iter(logs)),
        "weights or figures unlike an uninterrupted run's": sum(
            one != two for one, two in zip(figures, wanted, strict=True)
        ),
        "seconds": round(time.monotonic() - started),
    }


def state_times(workspace: Path) -> list[int]:
    """Return when each trial's checkpoint was last written, in nanoseconds."""
    return sorted(path.stat().st_mtime_ns for path in workspace.glob("trials/*/*/state.npz"))


def outcomes(workspace: Path) -> list[Any]:
    """Return for each trial what a kill must not change: hyperparameters, values of all epochs, hash of the weights."""
    return [
        [
            record["hyperparameters"],
            [(row["value"], row["training_loss"]) for row in record["epochs"]],
            record["outcome"].get("weights_sha256"),  # a trial that diverged has none
        ]
        for record in records_of(workspace)
    ]


def memory(folder: Path, trials: int) -> dict[str, Any]:
    """Return resident memory of the search and the training process after each trial, in megabytes."""
    workspace = prepared_workspace(folder)
    network = ["--backbone", "small_cnn", "--epochs", "2", "--seed", "9"]
    options = ["run", *network, "--pruner", "none", "--trials", str(trials)]
    copy = folder / "memory"
    if not copy.exists():
        shutil.copytree(workspace / "prepared", copy / "prepared")
    process = start([*HPSEARCH, "-w", str(copy), *options], folder / "memory.log")
    asking: dict[int, int] = {}
    while process.poll() is None:
        done = len(list(copy.glob("trials/*/*/validation_probabilities.npy")))
        asking[done] = psutil.Process(process.pid).memory_info().rss // 2**20
        time.sleep(0.3)
    workers = [record["outcome"]["memory_mb"] for record in records_of(copy)]
    own = {number: asking[number] for number in sorted(asking) if number > 0}
    return {
        "trials": len(workers),
        "asking process, MB": list(own.values()),
        "training process, MB": workers,
        "asking process, most against the fifth": growth(own),
        "training process, most against the fifth": growth(dict(enumerate(workers, 1))),
    }


def growth(mb: dict[int, int]) -> float:
    """Return the most memory after the fifth trial, as a multiple of that after the fifth.

    Args:
        mb: Number of finished trials -> megabytes. The first trials, in which TensorFlow still grows, do not count.
    """
    settled = [mb[done] for done in sorted(mb) if done >= min(5, max(mb))]
    return round(max(settled) / settled[0], 3)
