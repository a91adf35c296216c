"""Run searches side by side on one study and kill them at random; their trials train nothing. Part of ../soak.py."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from soak_parts.counting import counts, finished_rows, rows_of, tracebacks
from soak_parts.processes import ROOT, dashboard, kill, start

FAKE_SEARCH = ROOT / "tests" / "support" / "fake_search.py"


def fast(folder: Path, trials: int, at_once: int, kills: int) -> dict[str, Any]:
    """Run searches side by side on one study, kill one every 0.1 to 0.8 s, and count what became of the trials.

    Args:
        folder: Folder of the benchmark; resumes what it holds.
        trials: Trials of the study.
        at_once: Searches side by side.
        kills: Kills after which the searches finish in peace.
    """
    study, workspace = "small_cnn-aaaaaaaa", folder / "fast"
    workspace.mkdir(parents=True, exist_ok=True)
    notes = workspace / "soak.json"
    state = json.loads(notes.read_text()) if notes.exists() else {"kills": {}, "seconds": 0.0}
    rng, started = random.Random(sum(state["kills"].values())), time.monotonic()
    earlier: dict[str, Any] = {}

    def run() -> subprocess.Popen[bytes]:
        return start([sys.executable, str(FAKE_SEARCH), str(workspace), str(trials), "quick"], workspace / "runs.log")

    running = [run() for _ in range(at_once)]
    answers = Counter[str]()
    with dashboard(workspace) as ask:
        while sum(state["kills"].values()) < kills:
            time.sleep(rng.uniform(0.1, 0.8))
            answers[ask()] += 1
            at, victim = rng.randrange(at_once), rng.choice(("asking process", "worker", "both"))
            if running[at].poll() is None and kill(running[at], victim):
                state["kills"][victim] = state["kills"].get(victim, 0) + 1
            elif running[at].poll() == 0:
                break  # all trials are done
            if running[at].poll() is not None:
                running[at] = run()
            if sum(state["kills"].values()) % 20 == 0 and (workspace / "studies.db").exists():
                earlier |= finished_rows(rows_of(workspace / "studies.db", study))
                notes.write_text(json.dumps(state | {"seconds": state["seconds"] + time.monotonic() - started}))
    codes = [process.wait() for process in running]
    state["seconds"] += time.monotonic() - started
    notes.write_text(json.dumps(state))
    rows = rows_of(workspace / "studies.db", study)
    found = counts(rows, earlier, trials)
    found["trials altered"] += sum(not as_trained(row) for row in rows)
    done = [sorted(map(int, path.read_text().split())) for path in workspace.glob("trials/*/*/epochs.log")]
    logs = [workspace / "runs.log", *workspace.glob("trials/*/worker.log"), *workspace.glob("trials/*/*/log.txt")]
    return {
        "trials": len(rows),
        "kills": state["kills"],
        "runs at once": at_once,
        **found,
        "tracebacks": tracebacks(iter(logs)),
        "epochs repeated": sum(len(steps) - len(set(steps)) for steps in done),
        "answers of the dashboard beside them": dict(answers),
        "runs that ended badly": sum(code not in (0, -9) for code in codes),
        "seconds": round(state["seconds"]),
    }


def as_trained(row: dict[str, Any]) -> bool:
    """Return whether the stored values are those that fake_worker.py computes from the stored hyperparameters."""
    height = 1 - abs(row["chosen"]["learning_rate"] - 0.3)
    return all(abs(value - height * (step + 1) / 10) < 1e-12 for step, value in row["reported"])
