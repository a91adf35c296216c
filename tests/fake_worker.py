"""A training process that trains nothing: its values follow from the hyperparameters. Run by path by the tests."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import DivergedError, ModelError
from search.worker import serve

MODE = sys.argv[1] if len(sys.argv) > 1 else ""


class FakeTrainer:
    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        if MODE == "no-weights":
            raise ModelError("the weights are not there: put x.h5 into /somewhere")
        return {"parameters": 7}

    def train(self, job: dict[str, Any], on_epoch: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        rate = job["hyperparameters"]["learning_rate"]
        misbehave(rate, Path(job["folder"]))
        for step in range(job["recipe"]["epochs"]):
            if MODE == "slow":
                time.sleep(0.1)
            best = {"step": step, "phase": "fine-tuning", "value": (1 - abs(rate - 0.3)) * (step + 1) / 10}
            best |= {"images_per_second": 1.0, "seed": job["seed"]}
            best["validation"] = dict.fromkeys(SCORES, 0.5) | {"macro_f1": best["value"]}
            print("noise on standard output must not disturb the events")
            if on_epoch(best):
                return {"stopped": True, "best": best}
        return {"stopped": False, "best": best, "parameters": 7, "ms_per_image": 0.5}


SCORES = ("accuracy", "macro_precision", "macro_recall", "macro_f1")


def misbehave(rate: float, folder: Path) -> None:
    if MODE == "bug":
        raise KeyError("a bug")
    if MODE == "diverge" and rate > 0.5:
        raise DivergedError("the loss of epoch 0 is nan: the trial diverged")
    if MODE == "deadly" and rate > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    once = folder.parent / "killed-once"
    if MODE == "killed" and not once.exists():
        once.parent.mkdir(parents=True, exist_ok=True)
        once.write_text(json.dumps(rate))
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(FakeTrainer)
