"""Kills, crowds and damaged files, counted from outside: the README's table of lost, repeated and stuck trials.

    python benchmarks/soak.py fast FOLDER OUT.json        # 1,000 trials that train nothing, 8 runs at once, 200 kills
    python benchmarks/soak.py training FOLDER OUT.json    # TensorFlow trainings of the small network, 20 kills
    python benchmarks/soak.py memory FOLDER OUT.json      # 50 TensorFlow trainings: how processes grow
    python benchmarks/soak.py files FOLDER OUT.json       # 500 damaged inputs of each kind
    python benchmarks/soak.py show OUT.json

Each part is resumable: the same command goes on with what FOLDER holds. The counts come from SQL and from the files
that the trainings leave, not from the program.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
FAKE_SEARCH = ROOT / "tests" / "fake_search.py"
HPSEARCH = (sys.executable, "-P", "-m", "search")


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def kill(process: subprocess.Popen[bytes], victim: str) -> bool:
    """Kills the asking process, its worker or both; False when it had ended by itself."""
    try:
        workers = psutil.Process(process.pid).children()
        if victim == "worker" and not workers:
            return False
        for worker in workers if victim != "asking process" else []:
            worker.kill()
        if victim != "worker":
            process.kill()
            process.wait()
    except psutil.NoSuchProcess:
        return False
    return True


def rows_of(database: Path, study: str) -> list[dict[str, Any]]:
    """Number, state, reported values and hyperparameters of each trial, by SQL."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        trials = connection.execute(
            "SELECT t.trial_id, t.number, t.state FROM trials t JOIN studies s USING (study_id) WHERE s.study_name = ? "
            "ORDER BY t.number",
            (study,),
        ).fetchall()
        reported: dict[int, list[tuple[int, float]]] = {}
        for row in connection.execute("SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"):
            reported.setdefault(row[0], []).append((row[1], row[2]))
        chosen: dict[int, dict[str, float]] = {}
        for row in connection.execute("SELECT trial_id, param_name, param_value FROM trial_params"):
            chosen.setdefault(row[0], {})[row[1]] = row[2]
    return [
        {
            "number": row["number"],
            "state": row["state"],
            "reported": [list(pair) for pair in sorted(reported.get(row["trial_id"], []))],
            "chosen": chosen.get(row["trial_id"], {}),
        }
        for row in trials
    ]


def tracebacks(logs: Iterator[Path]) -> int:
    return sum(path.read_text(errors="replace").count("Traceback (most recent call last)") for path in logs)


def counts(rows: list[dict[str, Any]], earlier: dict[str, Any], total: int) -> dict[str, int]:
    """What must be zero. `earlier`: finished trials as they were seen before, by number."""
    now = {str(row["number"]): row for row in rows}
    finished = [row for row in rows if row["state"] in ("COMPLETE", "PRUNED")]
    steps = [[step for step, _ in row["reported"]] for row in finished]
    return {
        "trials lost": sum(number not in now for number in earlier) + sum(not one for one in steps),
        "trials repeated": len(rows) - len({row["number"] for row in rows}),
        "trials altered": sum(now.get(number) != row for number, row in earlier.items())
        + sum(one != list(range(len(one))) for one in steps),
        "trials stuck": sum(row["state"] in ("RUNNING", "WAITING", "FAIL") for row in rows),
        "beyond the total": abs(len(finished) - total),
    }


def as_trained(row: dict[str, Any]) -> bool:
    """Whether the values stored are those that fake_worker.py gives for the hyperparameters stored."""
    height = 1 - abs(row["chosen"]["learning_rate"] - 0.3)
    return all(abs(value - height * (step + 1) / 10) < 1e-12 for step, value in row["reported"])


def finished_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {str(row["number"]): row for row in rows if row["state"] in ("COMPLETE", "PRUNED")}


@contextmanager
def dashboard(workspace: Path) -> Iterator[Callable[[], str]]:
    """optuna-dashboard on the same file; each call asks it for the studies and says how it answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    while not (workspace / "studies.db").exists():
        time.sleep(0.1)
    code = "from optuna_dashboard._cli import main; main()"
    url = f"sqlite:///{workspace / 'studies.db'}"
    process = start([sys.executable, "-P", "-c", code, url, "--port", str(port)], workspace / "dashboard.log")

    def ask() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=60) as answer:
                return f"status {answer.status}"
        except urllib.error.HTTPError as error:
            return f"status {error.code}"
        except OSError:
            return "not up yet" if process.poll() is None else "gone"

    try:
        yield ask
    finally:
        process.kill()
        process.wait()


def fast(folder: Path, trials: int = 1000, at_once: int = 8, kills: int = 200) -> dict[str, Any]:
    """Runs side by side on one study, one of them killed every moment."""
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


def prepared_workspace(folder: Path) -> Path:
    """A small part of the demo set, prepared once."""
    workspace = folder / "training"
    if not (workspace / "prepared").exists():
        command = [*HPSEARCH, "-w", str(workspace), "prepare", "demo", "--limit", "300", "--levels", "strong"]
        subprocess.run(command, check=True)
    return workspace


def training(folder: Path, trials: int = 12, kills: int = 20) -> dict[str, Any]:
    """TensorFlow trainings killed in their epochs, against the same study uninterrupted: bits of the weights too."""
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
            time.sleep(rng.uniform(0, 8))  # it starts another, which goes on
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
    return sorted(path.stat().st_mtime_ns for path in workspace.glob("trials/*/*/state.npz"))


def study_of(workspace: Path) -> str:
    with closing(sqlite3.connect(workspace / "studies.db")) as connection:
        return str(connection.execute("SELECT study_name FROM studies").fetchone()[0])


def outcomes(workspace: Path) -> list[Any]:
    """Per trial what a kill must not change: values of all epochs, hyperparameters, hash of the weights."""
    with closing(sqlite3.connect(workspace / "studies.db")) as connection:
        found = connection.execute(
            "SELECT a.value_json FROM trial_user_attributes a JOIN trials t USING (trial_id) WHERE a.key = 'hpsearch' "
            "ORDER BY t.number"
        ).fetchall()
    records = [json.loads(json.loads(text)) for (text,) in found]
    return [
        [
            record["hyperparameters"],
            [(row["value"], row["training_loss"]) for row in record["epochs"]],
            record["outcome"].get("weights_sha256"),  # None of one that diverged
        ]
        for record in records
    ]


def memory(folder: Path, trials: int = 50) -> dict[str, Any]:
    """Resident memory of the asking process and of the training process at the end of each trial, in megabytes."""
    workspace = prepared_workspace(folder)
    options = [
        "run",
        "--backbone",
        "small_cnn",
        "--epochs",
        "2",
        "--trials",
        str(trials),
        "--seed",
        "9",
        "--pruner",
        "none",
    ]
    copy = folder / "memory"
    if not copy.exists():
        shutil.copytree(workspace / "prepared", copy / "prepared")
    process = start([*HPSEARCH, "-w", str(copy), *options], folder / "memory.log")
    asking: dict[int, int] = {}
    while process.poll() is None:
        done = len(list(copy.glob("trials/*/*/validation_probabilities.npy")))
        asking[done] = psutil.Process(process.pid).memory_info().rss // 2**20
        time.sleep(0.3)
    with closing(sqlite3.connect(copy / "studies.db")) as connection:
        found = connection.execute(
            "SELECT a.value_json FROM trial_user_attributes a JOIN trials t USING (trial_id) WHERE a.key = 'hpsearch' "
            "ORDER BY t.number"
        ).fetchall()
    workers = [json.loads(json.loads(text))["outcome"]["memory_mb"] for (text,) in found]
    own = [asking[number] for number in sorted(asking) if number > 0]
    return {
        "trials": len(workers),
        "asking process, MB": own,
        "training process, MB": workers,
        "asking process, most against the fifth": round(max(own[5:]) / own[4], 3),
        "training process, most against the fifth": round(max(workers[5:]) / workers[4], 3),
    }


def files(folder: Path) -> dict[str, Any]:
    """The property tests of tests/test_untrusted_files.py at 500 inputs of each kind, from other seeds than there."""
    report = folder / "files.xml"
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"HPSEARCH_EXAMPLES": "500"}
    tests = str(ROOT / "tests" / "test_untrusted_files.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tests, f"--junitxml={report}"], cwd=ROOT, env=environment, check=False
    )
    return {
        "inputs of each kind": 500,
        "exit code of the tests": done.returncode,
        "tracebacks": int(done.returncode != 0),
    }


PARTS = {"fast": fast, "training": training, "memory": memory, "files": files}


def show(out: Path) -> None:
    report = json.loads(out.read_text())
    for name, part in report["parts"].items():
        print(f"{name} ({part['date']}, {part['machine']}):")
        for key, value in part.items():
            if key not in ("date", "machine"):
                print(f"  {key}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    for name in PARTS:
        part = commands.add_parser(name)
        part.add_argument("folder", type=Path)
        part.add_argument("out", type=Path)
    commands.add_parser("show").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.part == "show":
        show(options.out)
        return
    found = PARTS[options.part](options.folder.resolve())  # type: ignore[operator]
    report = json.loads(options.out.read_text()) if options.out.exists() else {"parts": {}}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report["parts"][options.part] = found | {"date": datetime.now(UTC).date().isoformat(), "machine": machine}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(options.out)


if __name__ == "__main__":
    main()
