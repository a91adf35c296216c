"""Start, query and kill processes from outside. Part of ../soak.py."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
HPSEARCH = (sys.executable, "-P", "-m", "search")


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command whose output is appended to a log."""
    with open(log, "ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def kill(process: subprocess.Popen[bytes], victim: str) -> bool:
    """Kill a search process, its worker or both; return False if the victim had ended by itself."""
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


@contextmanager
def dashboard(workspace: Path) -> Iterator[Callable[[], str]]:
    """Run optuna-dashboard on the workspace's database.

    Yields:
        A function that requests the list of studies and returns how the dashboard answered.
    """
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


def prepared_workspace(folder: Path) -> Path:
    """Prepare a small part of the demo set, once; return its workspace."""
    workspace = folder / "training"
    if not (workspace / "prepared").exists():
        command = [*HPSEARCH, "-w", str(workspace), "prepare", "demo", "--limit", "300", "--levels", "strong"]
        subprocess.run(command, check=True)
    return workspace
