"""prepare, run, resume, compare, export-best and evaluate on tiny images, by real processes that really train."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import backbone_named, build
from models.formats.registry import FORMATS
from search.cli import main
from search.exporting.locked_test import readings
from search.workspace import Workspace
from studies.records import records_of
from studies.storage import existing_storage, load_study, study_names

RUN = ("run", "--backbone", "small_cnn", "--epochs", "2", "--batch-size", "16")


def hpsearch(workspace: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(workspace, *arguments), capture_output=True, text=True, cwd=workspace)
    assert done.returncode == code, done.stderr
    return done


def command(workspace: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "search", "-w", str(workspace), *arguments]


def trials(workspace: Path) -> list[dict[str, Any]]:
    """What must be the same in two runs: all but times, down to the bits of the weights."""
    storage = existing_storage(workspace / "studies.db")
    (name,) = study_names(storage)
    rows = []
    for record in records_of(load_study(storage, name)):
        values = [(epoch["value"], epoch["training_loss"]) for epoch in record.epochs]
        row = {
            "number": record.number,
            "state": record.state,
            "values": values,
            "hyperparameters": record.hyperparameters,
        }
        rows.append(row | {"weights": record.outcome["weights_sha256"]})
    return rows


@pytest.fixture(scope="module")
def searched(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a study of three finished trials."""
    workspace = tmp_path_factory.mktemp("searched")
    shutil.copytree(tiny_workspace, workspace, dirs_exist_ok=True)
    hpsearch(workspace, *RUN, "--trials", "3")
    return workspace


@pytest.fixture(scope="module")
def exported(searched: Path) -> Path:
    out = searched / "winner"
    shown = hpsearch(searched, "export-best", "--out", str(out), "--format", "onnx").stdout
    assert re.search(r"test set: (reading \d+ of this workspace|the stored figures)", shown) and "model.onnx" in shown
    assert re.search(r"writing as ONNX and checking it on \d+ validation images\nwritten in .* s, checked in", shown)
    return out


def test_a_killed_search_resumed_equals_an_uninterrupted_one(
    searched: Path, tiny_workspace: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    process = subprocess.Popen(command(tmp_path, *RUN, "--trials", "3"), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("trials/*/*/state.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None  # in the middle of a trial, or this would test nothing
    process.send_signal(signal.SIGKILL)
    process.wait()
    hpsearch(tmp_path, *RUN, "--trials", "3")
    assert trials(tmp_path) == trials(searched)


@pytest.mark.slow
def test_a_process_for_each_trial_gives_what_one_for_all_gives(
    searched: Path, tiny_workspace: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    hpsearch(tmp_path, *RUN, "--trials", "3", "--fresh-workers")
    assert trials(tmp_path) == trials(searched)


def test_the_same_command_again_has_nothing_to_do(searched: Path) -> None:
    before = trials(searched)
    hpsearch(searched, *RUN, "--trials", "3")
    assert trials(searched) == before


def test_other_settings_for_the_same_study_are_refused_with_the_difference(searched: Path) -> None:
    done = hpsearch(searched, "run", "--backbone", "small_cnn", "--epochs", "7", "--trials", "4", code=1)
    assert "--epochs: 2 (stored), 7 (requested)" in done.stderr
    assert len(trials(searched)) == 3


def test_options_left_out_follow_the_study(searched: Path) -> None:
    hpsearch(searched, "run", "--backbone", "small_cnn", "--trials", "3")


def test_prepare_is_refused_while_a_run_holds_the_workspace(searched: Path) -> None:
    with Workspace(searched).shared():
        done = hpsearch(searched, "prepare", "demo", "--force", code=1)
    assert "`hpsearch run` or another `hpsearch prepare` is using it" in done.stderr


def test_status_and_compare(searched: Path) -> None:
    (status,) = json.loads(hpsearch(searched, "status", "--json").stdout)
    assert status["complete"] + status["pruned"] == 3
    assert status["running"] == 0
    (row,) = json.loads(hpsearch(searched, "compare", "--json").stdout)["trials"]
    assert row["backbone"] == "small_cnn"
    assert row["value"] == status["best_value"]
    assert row["macro_f1"] != row["corrupted_macro_f1"] != row["worst_family_macro_f1"]
    assert row["external"]["other"]["images"] == 20 and 0 <= row["external"]["other"]["macro_f1"] <= 1
    shown = hpsearch(searched, "compare").stdout
    assert "small_cnn" in shown and "external F1: macro-F1 over the classes of the external set" in shown


def test_kept_features_serve_a_pretrained_network_and_its_export_is_exact(tiny_workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    image_shape = PreparedSet.open(tmp_path / "prepared").image_shape
    build(backbone_named("small_cnn"), "none", image_shape).save_weights(tmp_path / "own.weights.h5")
    own = ("--weights", str(tmp_path / "own.weights.h5"), "--head-epochs", "2", "--prefix-cache", "float16")
    hpsearch(tmp_path, *RUN, *own, "--trials", "1")
    assert list(tmp_path.glob("cache/features/*/original.float16"))
    shutil.rmtree(tmp_path / "cache")  # may go at any time
    hpsearch(tmp_path, *RUN, *own, "--trials", "2")
    refused = hpsearch(tmp_path, *RUN, *own[:-1], "float32", "--trials", "3", code=1)
    assert "--prefix-cache: float16 (stored), float32 (requested)" in refused.stderr
    status = hpsearch(tmp_path, "status").stdout
    assert "of the views that trials saw, in 2 of 2 trials" in status
    assert "probabilities within" in hpsearch(tmp_path, "export-best").stdout


def test_the_export_holds_the_winner_and_its_figures(exported: Path, searched: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "model.keras", "model.onnx", "labels.json", "metrics.json", "calibration.json", "README.md",
        "confusion_validation.png", "confusion_test.png",
    }  # fmt: skip
    metrics = json.loads((exported / "metrics.json").read_text())
    (status,) = json.loads(hpsearch(searched, "status", "--json").stdout)
    assert metrics["trial"] == status["best_trial"]
    both = [metrics["validation"]["macro_f1"], metrics["validation"]["corrupted"]["macro_f1"]]
    assert np.mean(both) == pytest.approx(status["best_value"])
    assert metrics["fingerprint"] in (exported / "README.md").read_text()
    assert np.sum(metrics["test"]["confusion_matrix"]) == metrics["test"]["images"]
    (row,) = json.loads(hpsearch(searched, "compare", "--json").stdout)["trials"]
    external = metrics["external"]["other"]
    assert {name: external[name] for name in row["external"]["other"]} == pytest.approx(row["external"]["other"])
    assert "| external: other | 20 |" in (exported / "README.md").read_text()
    assert list(metrics["formats"]) == ["keras", "onnx"]
    assert metrics["formats"]["onnx"]["largest_difference"] <= 1e-4


def test_the_exported_model_opens_in_plain_keras_on_raw_images(exported: Path, searched: Path) -> None:
    model = keras.saving.load_model(exported / "model.keras")
    prepared = PreparedSet.open(searched / "prepared")
    probabilities = model.predict(np.asarray(prepared.images("validation")), verbose=0)
    accuracy = (probabilities.argmax(1) == prepared.labels("validation")).mean()
    metrics = json.loads((exported / "metrics.json").read_text())
    assert accuracy == pytest.approx(metrics["validation"]["accuracy"])


def test_the_test_set_is_read_once_per_trial_and_every_reading_is_a_line(exported: Path, searched: Path) -> None:
    again = hpsearch(searched, "export-best", "--out", str(searched / "again")).stdout
    assert "the stored figures of its first export" in again
    scored = hpsearch(searched, "evaluate", str(exported), "--test", "--json").stdout
    by_onnx = hpsearch(searched, "evaluate", str(exported), "--test", "--format", "onnx", "--json").stdout
    lines = [json.loads(line) for line in (searched / "test-readings.jsonl").read_text().splitlines()]
    assert [line["command"] for line in lines] == ["export-best", "evaluate --test", "evaluate --test"]
    assert [line.get("format") for line in lines] == [None, "keras", "onnx"]
    assert json.loads(scored) == lines[1]["figures"] | {"reading": 2}
    assert json.loads(by_onnx)["confusion_matrix"] == lines[1]["figures"]["confusion_matrix"]
    lines.pop()
    for key in ("corrupted", "test_only_corrupted"):
        first, second = (line["figures"].pop(key) for line in lines)
        assert first["confusion_matrix"] == second["confusion_matrix"]
        assert first["families"].keys() == second["families"].keys() != {}
    assert lines[0]["figures"]["confusion_matrix"] == lines[1]["figures"]["confusion_matrix"]


@pytest.mark.slow
def test_averaging_and_turning_are_tried_and_the_better_one_on_corrupted_images_is_exported(searched: Path) -> None:
    out = searched / "several"
    shown = hpsearch(searched, "export-best", "--average", "2", "--tta", "--out", str(out)).stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert [row["kept"] for row in metrics["tried"]].count("yes") == 1
    kept = next(row for row in metrics["tried"] if row["kept"] == "yes")
    assert kept["corrupted"] == max(row["corrupted"] for row in metrics["tried"])
    assert kept["corrupted"] == pytest.approx(metrics["validation"]["corrupted"]["macro_f1"])
    assert kept["model"] == metrics["model"] and "the corrupted ones decide" in shown


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_what_was_there_and_the_next_one_tidies_up(
    exported: Path, searched: Path
) -> None:
    before = (exported / "model.keras").read_bytes()
    process = subprocess.Popen(
        command(searched, "export-best", "--out", str(exported)), stdout=subprocess.DEVNULL, cwd=searched
    )
    deadline = time.monotonic() + 120
    while not list(searched.glob(".winner.export-*/*.keras")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert list(searched.glob(".winner.export-*"))
    assert (exported / "model.keras").read_bytes() == before
    hpsearch(searched, "export-best", "--out", str(exported))
    assert not list(searched.glob(".winner.export-*"))


@pytest.mark.slow
def test_a_format_that_does_not_agree_leaves_the_earlier_export_and_the_test_set_alone(
    exported: Path, searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], tolerance=-1.0))  # nothing agrees so well
    before = {path: path.read_bytes() for path in (*exported.iterdir(), searched / "test-readings.jsonl")}
    arguments = ["-w", str(searched), "export-best", "--out", str(exported), "--format", "onnx"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "as ONNX the model's probabilities differ by" in result.stderr and "nothing was exported" in result.stderr
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_a_damaged_trial_is_not_exported(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("trials/*/*/validation_probabilities.npy"):
        np.save(path, np.load(path)[:, ::-1])
    done = hpsearch(tmp_path, "export-best", "--out", str(tmp_path / "out"), code=1)
    assert "after reloading, a probability differs from training" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_export_says_how_far_it_can_be_trusted(exported: Path) -> None:
    metrics = json.loads((exported / "metrics.json").read_text())
    card = (exported / "README.md").read_text()
    for figures in (metrics["validation"], metrics["test"], metrics["test"]["test_only_corrupted"]):
        low, high = figures["intervals"]["macro_f1"]
        assert low <= figures["macro_f1"] <= high
        assert f"({low:.4f}-{high:.4f})" in card
        assert [row["target_error"] for row in figures["abstaining"]] == [0.005, 0.01, 0.02, 0.05]
    calibration = json.loads((exported / "calibration.json").read_text())
    assert calibration["views"] == metrics["validation"]["images"] + metrics["validation"]["corrupted"]["images"]
    errors = calibration["estimate_errors"]["estimated_accuracy"]
    assert 0 <= errors["mean"] <= errors["largest"] <= 1
    assert "impulse noise" in metrics["corruptions"]["validation"] and "stain deposit" in metrics["corruptions"]["test"]
    assert "the known corruptions, by which the trial was chosen: impulse noise" in card.lower()


def test_evaluate_scores_other_files_of_other_sizes_too(exported: Path, tiny_npz: Path, tmp_path: Path) -> None:
    scores = json.loads(hpsearch(tmp_path, "evaluate", str(exported), str(tiny_npz), "--json").stdout)
    assert scores["images"] == 90
    np.savez(tmp_path / "other.npz", images=np.zeros((4, 16, 16, 3), np.uint8), labels=np.arange(4) % 2)
    scores = json.loads(hpsearch(tmp_path, "evaluate", str(exported), str(tmp_path / "other.npz"), "--json").stdout)
    assert scores["images"] == 4


def test_evaluate_says_what_the_model_knows_of_the_images_and_counts_a_reading_of_locked_ones(
    exported: Path, searched: Path, tiny_npz: Path, tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    before = len(readings(Workspace(tmp_path)))
    counts = PreparedSet.open(searched / "prepared").manifest["counts"]["per_split"]
    result = hpsearch(tmp_path, "evaluate", str(exported), str(tiny_npz), "--json", "--corrupted-views", "0")
    known = json.loads(result.stdout)["known_images"]
    assert known == {side: sum(counts[side]) for side in ("train", "validation", "test")}
    result = hpsearch(tmp_path, "evaluate", str(exported), str(tiny_npz), "--corrupted-views", "0")
    trained, chosen, locked = known.values()
    assert (
        f"90 images: {trained} are among its training images, {chosen} are among the validation images that chose"
        in result.stderr
    )
    assert f"reading {before + 2} of the locked test set" in result.stdout
    assert f"{locked} images of which are among these" in result.stdout
    # Of a model that is of another preparation too: its readings count, and it may know them.
    copy = shutil.copytree(exported, tmp_path / "other")
    facts = json.loads((copy / "metrics.json").read_text()) | {"fingerprint": "0" * 64}
    (copy / "metrics.json").write_text(json.dumps(facts))
    result = hpsearch(tmp_path, "evaluate", str(copy), str(tiny_npz), "--json", "--corrupted-views", "0")
    assert json.loads(result.stdout)["known_images"] == {"test": known["test"]}
    assert [row["command"] for row in readings(Workspace(tmp_path))[before:]] == ["evaluate"] * 3


def test_a_trial_comes_out_again_bit_by_bit_and_its_weights_come_back(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    number = next(row["number"] for row in trials(tmp_path) if row["state"] == "complete")
    (weights,) = tmp_path.glob(f"trials/*/{number:05d}/best.weights.h5")
    weights.unlink()
    gone = hpsearch(tmp_path, "export-best", "--trial", str(number), code=1)
    assert f"{number} --restore` trains them again" in gone.stderr
    again = hpsearch(tmp_path, "rerun", "small_cnn", str(number), "--restore").stdout
    assert "the figures match within 1e-06: the same bits in its weights" in again
    assert "probabilities, corrupted" in again
    assert weights.is_file()
    assert trials(tmp_path) == trials(searched)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["rerun.log"]


def test_a_refitted_model_is_marked_read_once_and_shows_the_figures_from_before(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    (tmp_path / "test-readings.jsonl").unlink(missing_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.glob("prepared/**/*") if path.is_file()}
    number = next(row["number"] for row in trials(tmp_path) if row["state"] == "complete")
    out = hpsearch(tmp_path, "export-best", "--trial", str(number), "--refit", "--details", "--out", "refitted").stdout
    prepared = PreparedSet.open(tmp_path / "prepared")
    train, validation = (len(prepared.labels(split)) for split in ("train", "validation"))
    assert f"on {train + validation} training and validation images" in out and f"refitting trial {number} of " in out
    assert "validation, before refit" in out and "reading 1 of this workspace" in out
    metrics = json.loads((tmp_path / "refitted/metrics.json").read_text())
    assert metrics["refit"]["trained_on"] == {"train": train, "validation": validation}
    assert [row["kept"] for row in metrics["tried"]][-1] == "yes" and ", refitted" in metrics["tried"][-1]["model"]
    assert [row["kept"] for row in metrics["tried"][:-1]] == ["refitted"]
    assert "**Refitted**" in (tmp_path / "refitted/README.md").read_text()
    assert before == {path: path.read_bytes() for path in tmp_path.glob("prepared/**/*") if path.is_file()}
    (line,) = (json.loads(line) for line in (tmp_path / "test-readings.jsonl").read_text().splitlines())
    assert line["refit"] is True


def test_a_failed_describe_leaves_no_study_and_no_trace(tiny_workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    bad = tmp_path / "bad.weights.h5"
    bad.write_bytes(b"no weights")
    before = sorted(tmp_path.rglob("*"))
    done = hpsearch(tmp_path, "run", "--backbone", "small_cnn", "--weights", str(bad), code=1)
    assert "bad.weights.h5" in done.stderr
    left = set(tmp_path.rglob("*")) - set(before)
    assert {path.name for path in left} <= {".lock", "trials"}
