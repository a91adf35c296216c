"""Run every benchmark once, from its first command to its last, on a workspace of 180 tiny images.

What a run prints is shown by `pytest -rP -m slow tests/benchmarks/test_tiny_runs.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tiny_images import tiny_images

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
ENVIRONMENT.pop("PYTHONSAFEPATH", None)  # it hides the folder of the scripts
RUNS = {
    "ablation": (
        "train data {out} --weights mobile.weights.h5 --epochs 1 --change 'nothing: strong views alone'",
        "train data {out} --weights mobile.weights.h5 --epochs 1 --change 'twice as many epochs'",
        "show {out}",
    ),
    "cache_precision": (
        "run data {out} --backbone small_cnn --weights small.weights.h5 --seeds 1,2 --epochs 1",
        "show {out}",
    ),
    "contract": ("run {out} small_cnn", "show {out}"),
    "copies": ("source.npz --count 4 --among 12 --skip-last 0 --kinds recompressed",),
    "demo_seeds": ("--seeds 0 --trials 1 --epochs 1 --out {out}",),
    "feeding": ("run data {out} --backbone small_cnn --rounds 1", "show {out}"),
    "held_out_fold": ("data rest.npz fold.npz", "data rest.npz fold.npz --keep-test"),
    "keras_versions": ("versions --backbones small_cnn --backends numpy",),
    "preparation": (
        "augmentation source.npz --images 60 --rounds 1 --out {out}",
        "cleaning source.npz --out {out}",
        "large source.npz large --images 300 --out {out}",
        "whole large --out {out}",
        "show --out {out}",
    ),
    "pruning": ("record data curves.json", "replay curves.json {out} --seeds 2 --trials 3", "show {out}"),
    "published_recipe": ("--images data --seconds 1 --weights none --out recipe",),
    "ranking": ("score data data {out}", "show {out}"),
    "reading_ahead": ("run . {out} --images 3000 --rounds 1", "show {out}"),
    "robust_versus_recipe": ("score winner winner/model.keras data {out}", "show {out}"),
    "soak": (
        "fast soak {out} --trials 12 --at-once 2 --kills 2",
        "training soak {out} --trials 2 --kills 1",
        "memory soak {out} --trials 2",
        "files soak {out} --examples 2",
        "show {out}",
    ),
    "start_up": ("make start-up --trials 12", "measure now start-up {out} --runs 1", "show {out}"),
    "step_speed": ("run {out} small_cnn --rounds 1", "show {out}"),
    "study_summary": ("data {out}",),
    "versus": (
        "run source.npz versus {out} --seeds 0 --systems a,b,d,e --images 120 --fold 60 --rows 180 --trials 2 "
        "--budget 30 --weights mobile.weights.h5",
        "show {out}",
    ),
    "warm_workers": ("run data small_cnn {out} --trials 1 --weights none", "show {out}"),
}
"""Script -> the arguments of its commands, one after the other."""


def run(command: list[str], folder: Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | variables, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set and a study of it in `data`, its best model in `winner`, and weights files."""
    place = tmp_path_factory.mktemp("benchmarks")
    images, labels = tiny_images(180)
    np.savez(place / "source.npz", images=images, labels=labels)
    build = "from models.backbones.registry import backbone_named, build; import sys\n"
    build += "for name, file in zip(sys.argv[1::2], sys.argv[2::2]):\n"
    build += "    build(backbone_named(name), 'none', (32, 32, 3)).save_weights(file)"
    installed = place / "versions" / f"keras-{version('keras')}"
    installed.mkdir(parents=True)
    (installed / "keras").symlink_to(Path(find_spec("keras").origin).parent)  # type: ignore[union-attr, arg-type]
    run([sys.executable, "-c", build, "small_cnn", "small.weights.h5", "mobilenetv2_035", "mobile.weights.h5"], place)
    for command in (
        "prepare source.npz --levels low,medium,hard,strong --split 60/20/20",
        "run --backbone small_cnn --trials 5 --sampler random --pruner none --keep 5 --epochs 2",
        "export-best --out winner",
    ):
        run([sys.executable, "-m", "search", "-w", "data", *command.split()], place)
    return place


def test_every_script_has_a_tiny_run() -> None:
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    assert {path.stem for path in scripts} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_runs_from_end_to_end(name: str, folder: Path) -> None:
    results = {path: path.stat().st_mtime_ns for path in (ROOT / "benchmarks" / "results").iterdir()}
    for arguments in RUNS[name]:
        words = shlex.split(arguments.format(out=f"{name}.json"))
        printed = run(
            [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *words], folder, TF_ENABLE_ONEDNN_OPTS="1"
        )
        print(arguments, "->", (printed.strip().splitlines() or ["(nothing)"])[-1])
    out = folder / f"{name}.json"
    assert out.exists() == any("{out}" in arguments for arguments in RUNS[name])
    if out.exists():
        assert json.loads(out.read_text())
    assert results == {path: path.stat().st_mtime_ns for path in (ROOT / "benchmarks" / "results").iterdir()}
