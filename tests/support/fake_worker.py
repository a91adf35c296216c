"""A training process that trains nothing: its values follow from the hyperparameters. Run by path, with a mode.

As the real one, it keeps its state after each epoch, before it reports it, and goes on from there.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import DivergedError, ModelError
from search.engine.worker_process import serve

MODE = sys.argv[1] if len(sys.argv) > 1 else ""
EPOCH_S = {"quick": 0.02, "slow": 0.1, "endless": 60.0}
SCORES = ("accuracy", "macro_precision", "macro_recall", "macro_f1")


class FakeTrainer:
    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        if MODE == "no-weights":
            raise ModelError("the weights are not there: put x.h5 into /somewhere")
        return {"parameters": 7, "cut_fractions": [0.0, 0.25, 0.5, 0.75, 1.0]}

    def choose(self, request: dict[str, Any]) -> dict[str, Any]:
        """The last of what is open, as if it had been measured on a GPU."""
        rows = [
            {"arithmetic": {"precision": precision, "xla": xla}, "compile_s": 1.0, "step_ms": 9.0}
            for xla in request["xla"]
            for precision in request["precisions"]
        ]
        steps = rows if len(rows) > 1 else []
        kept = [{"frozen_fraction": 0.75, "compute_ms": 0.02, "read_ms": 0.01}] if request["frozen_fractions"] else []
        return rows[-1]["arithmetic"] | {"device": "Fake GPU", "steps": steps, "cuts": kept, "keep_from": 0.75}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """The slowest trials take twice as long as others."""
        if MODE == "huge":
            os.kill(os.getpid(), signal.SIGKILL)
        rates = {}
        for name, job in request["jobs"].items():
            (Path(job["folder"]) / "leftover").touch()
            slow = 2 if name == "slowest" else 1
            row = {"trained_view_s": 0.01 * slow, "scored_view_s": 0.001, "rest_s": 0.1, "kept_view_s": 0.0}
            phases = [{"name": "head"} | row] if job["source"]["weights"] != "none" else []
            phases.append({"name": "fine-tuning"} | row)
            fixed = {"setup_s": 1.0, "end_view_s": 0.001, "trace_s": 5.0, "phases": phases}
            files = {"state_bytes": 10**6, "weights_bytes": 2 * 10**6}
            rates[name] = {"frozen_fraction": job["hyperparameters"]["frozen_fraction"]} | fixed | files
        return {"rates": rates, "feature_values": [10]}

    def train(self, job: dict[str, Any], on_epochs: Callable[[list[dict[str, Any]]], bool]) -> dict[str, Any]:
        folder = Path(job["folder"])
        misbehave(job, folder)
        epochs = [json.loads(line) for line in read(folder / "state.npz").splitlines()]
        stopped = bool(epochs) and on_epochs(epochs)
        while not stopped and len(epochs) < job["settings"]["recipe"]["epochs"]:
            with open(
                folder / "epochs.log", "a", encoding="utf-8"
            ) as log:  # every epoch that began, for counting those that did twice
                print(len(epochs), file=log)
            time.sleep(EPOCH_S.get(MODE, 0))
            epochs.append(epoch_of(job, len(epochs)))
            write(folder / "state.npz", "\n".join(map(json.dumps, epochs)))
            if MODE == "killed" and len(epochs) == 3:
                die_once(folder)
            print("noise on standard output must not disturb the events")
            stopped = on_epochs(epochs[-1:])
        best = max(epochs, key=lambda row: row["value"])
        write(folder / "best.weights.h5", json.dumps(job["seed"]))
        return {"stopped": stopped, "best": best, "parameters": 7, "ms_per_image": 0.5, "weights_sha256": job["seed"]}


def epoch_of(job: dict[str, Any], step: int) -> dict[str, Any]:
    value = (1 - abs(job["hyperparameters"]["learning_rate"] - 0.3)) * (step + 1) / 10
    scores = dict.fromkeys(SCORES, 0.5) | {"macro_f1": value}
    phase = "head" if MODE == "short-head" and step < 2 else "fine-tuning"
    fixed = {"phase": phase, "images_per_second": 1.0, "seconds": 0.01, "validation": scores}
    return {"step": step, "value": value, "seed": job["seed"], **fixed}


def misbehave(job: dict[str, Any], folder: Path) -> None:
    rate = job["hyperparameters"]["learning_rate"]
    if MODE == "bug":
        raise KeyError("a bug")
    if MODE == "closed-pipe" and rate > 0.5:
        os.closerange(3, 100)  # among them the pipe of the events
        time.sleep(60)
    if MODE == "disk-full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if MODE == "diverge" and rate > 0.5:
        raise DivergedError("the loss of epoch 0 is nan: the trial diverged")
    if MODE == "deadly" and rate > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    if (MODE == "large" and job["batch_divisor"] == 1) or MODE == "huge":
        raise MemoryError("no room for a batch")
    if MODE == "growing" and rate > 0.5:
        hoard = []
        while True:  # until the limit
            hoard.append(bytearray(os.urandom(2**20) * 20))
            time.sleep(0.01)


def die_once(folder: Path) -> None:
    if not (folder.parent / "killed-once").exists():
        (folder.parent / "killed-once").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def write(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


if __name__ == "__main__":
    serve(FakeTrainer)
