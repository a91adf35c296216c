"""evaluate and predict with a tiny exported model: with labels and without, on arrays, folders and broken pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny_images import tiny_images

from data_prep.corruption.operations import CORRUPTIONS
from models.formats.registry import FORMATS
from models.scoring.trust import fit_trust
from search.cli import main
from search.evaluating.exported_model import open_export
from search.evaluating.inputs import chunks, has_labels
from search.evaluating.suites import balanced_error, run_suite

Call = Callable[..., Result]
NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that tells the class by the colour, as conftest's images have it, and is right now and then."""
    folder = tmp_path_factory.mktemp("model")
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    colours = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(0.02)(inputs))
    network = keras.Model(inputs, keras.layers.Softmax()(colours))
    network.save(folder / "model.keras")
    images, labels = tiny_images(90)
    labels = np.where(np.arange(90) % 10 == 0, (labels + 1) % 3, labels)
    trust = fit_trust(labels, network.predict(images, verbose=0))
    blocks = [{"block": "test"}, {"block": "test, unseen corruptions: noise"}]
    names = ("estimated_accuracy", "thresholded_confidence", "mean_confidence")
    errors = {name: {"mean": 0.03, "largest": 0.05} for name in names} | {"blocks": blocks}
    (folder / "labels.json").write_text(json.dumps(NAMES))
    (folder / "calibration.json").write_text(json.dumps(trust.as_dict() | {"estimate_errors": errors}))
    row = {"target_error": 0.05, "coverage": 0.5, "error": 0.04}
    (folder / "metrics.json").write_text(json.dumps({"test": {"abstaining": [row]}}))
    return folder


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def pictures(folder: Path, count: int = 4) -> Path:
    """A folder with `count` pictures, one that is broken, and a hidden file."""
    (folder / "more").mkdir(parents=True)
    images, _ = tiny_images(count, seed=1)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / ("more" if number % 2 else "") / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / ".hidden").write_bytes(b"")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predict_labels_a_folder_and_gives_a_broken_picture_its_reason(call: Call, model: Path, tmp_path: Path) -> None:
    result = call("predict", model, pictures(tmp_path / "new"), "--out", "out.csv")
    assert result.exit_code == 0, result.output
    rows = {row["image"]: row for row in rows_of(tmp_path / "out.csv")}
    assert list(rows) == ["0.png", "2.png", "broken.jpg", "more/1.png", "more/3.png"]
    assert rows["broken.jpg"]["reason"] == "not a JPEG, PNG, BMP, TIFF or WebP picture"
    assert rows["broken.jpg"]["label"] == ""
    assert [rows[name]["label"] for name in ("0.png", "more/1.png", "2.png")] == list(NAMES)
    assert 1 / 3 < float(rows["0.png"]["probability"]) <= 1
    assert "labelled 4 images: red 2, blue 1, green 1" in result.output


def test_predict_marks_what_it_abstains_from(call: Call, model: Path, tmp_path: Path) -> None:
    images, _ = tiny_images(30)
    np.savez(tmp_path / "new.npz", images=images)
    result = call("predict", model, "new.npz", "--out", "out.jsonl", "--abstain", "--target-error", "5")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    threshold = open_export(model).known_trust().abstention(0.05).threshold
    assert [row["abstained"] for row in rows] == [row["probability"] <= threshold for row in rows]
    assert "answered " in result.output and "abstained on " in result.output
    assert "at export, test: answered 50.0 %, wrong 4.0 %" in result.output


def test_predict_takes_a_single_picture_and_refuses_what_it_cannot_read(
    call: Call, model: Path, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "new")
    assert call("predict", model, folder / "0.png").exit_code == 0
    assert [row["image"] for row in rows_of(tmp_path / "labels.csv")] == ["0.png"]
    (tmp_path / "empty").mkdir()
    taken = call("predict", model, folder)
    assert (taken.exit_code, "labels.csv is there already: name the file to write" in taken.stderr) == (2, True)
    assert [row["image"] for row in rows_of(tmp_path / "labels.csv")] == ["0.png"]
    for out in ("new", folder / "0.png"):  # a folder, and what is to be labelled
        assert call("predict", model, folder / "0.png", "--out", out).exit_code == 2
    result = call("predict", model, "empty", "--out", "other.csv")
    assert (result.exit_code, "has no pictures in it" in result.stderr) == (1, True)
    result = call("predict", model, folder / "broken.jpg", "--out", "other.csv")
    assert (result.exit_code, "no image in" in result.stderr) == (1, True)
    np.savez(tmp_path / "floats.npz", images=np.zeros((2, 32, 32, 3)))
    result = call("predict", model, "floats.npz", "--out", "other.csv")
    assert (result.exit_code, "--value-range" in result.stderr) == (1, True)
    assert call("predict", model, "floats.npz", "--value-range", "0..1", "--out", "other.csv").exit_code == 0
    result = call("predict", model, folder, "--out", "nowhere/out.csv")
    assert (result.exit_code, "there is no folder nowhere" in result.stderr) == (2, True)


def test_evaluate_with_labels_gives_intervals_and_abstaining(call: Call, model: Path, tiny_npz: Path) -> None:
    scores = json.loads(call("evaluate", model, tiny_npz, "--json").stdout)
    low, high = scores["intervals"]["accuracy"]
    assert low <= scores["accuracy"] <= high
    assert len(scores["abstaining"]) == 4
    assert "In brackets: 95 % intervals" in call("evaluate", model, tiny_npz, "--details").stdout


def test_evaluate_with_labels_corrupts_the_images_as_it_does_the_test_set(
    call: Call, model: Path, tiny_npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.evaluating.corrupted_inputs.CHUNK_IMAGES", 40)  # of 90 images
    scores = json.loads(call("evaluate", model, tiny_npz, "--json").stdout)
    families = {
        key: {row.family for row in CORRUPTIONS if row.used_by == used_by}
        for key, used_by in (("corrupted", "validation"), ("test_only_corrupted", "test"))
    }
    for key, names in families.items():
        assert set(scores[key]["families"]) == names
        assert scores[key]["images"] == 2 * scores["images"]
        assert scores[key]["loss"] > scores["loss"] and "intervals" in scores[key]
    assert json.loads(call("evaluate", model, tiny_npz, "--json").stdout) == scores
    shown = call("evaluate", model, tiny_npz, "--corrupted-views", "1", "--details").stdout
    assert "tiny.npz, unseen corruptions" in shown
    alone = json.loads(call("evaluate", model, tiny_npz, "--json", "--corrupted-views", "0").stdout)
    assert alone == {name: value for name, value in scores.items() if name not in families}


def test_evaluate_without_labels_estimates_and_says_how_well(call: Call, model: Path, tmp_path: Path) -> None:
    images, _ = tiny_images(30)
    np.savez(tmp_path / "new.npz", images=images)
    output = call("evaluate", model, "new.npz").stdout
    assert "30 images without labels" in output and "the export's 2 blocks of test images" in output
    line = next(line for line in output.splitlines() if "estimated accuracy" in line)
    assert line.split()[-3:-2] != ["-"] and line.split()[-2:] == ["3.0", "5.0"]
    assert "fewer than 100 images" in output
    flat = pictures(tmp_path / "new") / "more"
    assert "2 images without labels" in call("evaluate", model, flat).stdout
    result = call("evaluate", model, flat, "--suite", "medmnist-c")
    assert (result.exit_code, "needs labels" in result.stderr) == (2, True)


def test_an_export_of_before_is_still_scored_but_estimates_nothing(call: Call, model: Path, tmp_path: Path) -> None:
    for name in ("model.keras", "labels.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    images, labels = tiny_images(30)
    np.savez(tmp_path / "labelled.npz", images=images, labels=labels)
    np.savez(tmp_path / "new.npz", images=images)
    assert "abstaining" not in json.loads(call("evaluate", ".", "labelled.npz", "--json").stdout)
    result = call("evaluate", ".", "new.npz")
    assert (result.exit_code, "has no calibration.json" in result.stderr) == (1, True)
    assert "its probabilities are raw" in call("predict", ".", "new.npz").stderr


def test_a_format_is_scored_by_its_own_runtime(call: Call, model: Path, tiny_npz: Path, tmp_path: Path) -> None:
    for name in ("model.keras", "labels.json", "calibration.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    write = FORMATS["codabench"].write
    assert write
    write(model / "model.keras", tmp_path / "codabench.zip")
    expected = call("evaluate", ".", tiny_npz, "--json").stdout
    for named in ((".", "--format", "codabench"), ("codabench.zip",)):
        assert json.loads(call("evaluate", *named, tiny_npz, "--json").stdout) == json.loads(expected)
    assert call("predict", ".", tiny_npz, "--format", "codabench").exit_code == 0
    assert len(rows_of(tmp_path / "labels.csv")) == 90
    result = call("evaluate", ".", tiny_npz, "--format", "onnx")
    assert (result.exit_code, "has no model.onnx: export the trial again with --format onnx" in result.stderr) == (
        1,
        True,
    )
    result = call("evaluate", "codabench.zip", tiny_npz, "--format", "keras")
    assert (result.exit_code, "is Codabench submission, not Keras model" in result.stderr) == (1, True)


def test_what_has_labels(tmp_path: Path, tiny_npz: Path) -> None:
    np.savez(tmp_path / "new.npz", images=np.zeros((1, 8, 8, 3), np.uint8))
    assert has_labels(tiny_npz) and has_labels("demo")
    assert not has_labels(tmp_path / "new.npz")
    folder = pictures(tmp_path / "new")
    assert has_labels(folder) and not has_labels(folder / "more") and not has_labels(folder / "0.png")


def test_chunks_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.evaluating.inputs.CHUNK_IMAGES", 2)
    images, _ = tiny_images(5)
    np.savez(tmp_path / "new.npz", images=images)
    found = list(chunks(tmp_path / "new.npz", (32, 32, 3)))
    assert [chunk.names for chunk in found] == [("0", "1"), ("2", "3"), ("4",)]
    assert (np.concatenate([chunk.images for chunk in found]) == images).all()


def test_the_suite_compares_balanced_errors_with_the_published_ones() -> None:
    images, labels = tiny_images(6)
    result = run_suite("medmnist-c", lambda part: np.eye(3)[part.mean(axis=(1, 2)).argmax(axis=1)], images, labels)
    assert result["clean_balanced_error"] == 0
    assert len(result["rows"]) == 11 and all(len(row["by_severity"]) == 5 for row in result["rows"])
    row = result["rows"][0]
    assert row["balanced_error"] == pytest.approx(np.mean(row["by_severity"]))
    assert row["relative_error"] == pytest.approx(row["balanced_error"] / row["alexnet"])
    assert result["relative_error"] == pytest.approx(np.mean([row["relative_error"] for row in result["rows"]]))
    assert balanced_error(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])) == pytest.approx(1 - (2 / 3 + 0) / 2)


def test_images_of_any_size_are_cropped_and_resized_as_pictures_are(call: Call, model: Path, tmp_path: Path) -> None:
    large = np.zeros((6, 40, 80, 3), np.uint8)
    large[..., 0] = 200
    large[:, :, 20:60, 0] = 0
    large[np.arange(6), :, 20:60, np.arange(6) % 3] = 200
    np.savez(tmp_path / "new.npz", images=large)
    np.savez(tmp_path / "labelled.npz", images=large, labels=np.arange(6) % 3)
    (tmp_path / "new").mkdir()
    for number, image in enumerate(large):
        Image.fromarray(image).save(tmp_path / "new" / f"{number}.png")
    for source in ("new.npz", "new"):
        assert call("predict", model, source, "--out", f"{source}.csv").exit_code == 0
    arrays, pictures = rows_of(tmp_path / "new.npz.csv"), rows_of(tmp_path / "new.csv")
    assert [row["label"] for row in arrays] == [*NAMES, *NAMES]
    assert [row["probability"] for row in arrays] == [row["probability"] for row in pictures]
    assert json.loads(call("evaluate", model, "labelled.npz", "--json").stdout)["accuracy"] == 1


def test_a_column_per_class_is_there_when_asked_for(call: Call, model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new")
    result = call("predict", model, folder, "--out", "out.csv", "--probabilities", "--abstain")
    assert result.exit_code == 0, result.output
    columns = [f"probability_{name}" for name in NAMES]
    rows = {row["image"]: row for row in rows_of(tmp_path / "out.csv")}
    assert list(rows["0.png"]) == ["image", "label", "probability", "abstained", *columns, "reason"]
    assert all(rows["broken.jpg"][column] == "" for column in columns) and rows["broken.jpg"]["reason"]
    values = [float(rows["0.png"][column]) for column in columns]
    assert sum(values) == pytest.approx(1, abs=1e-5) and max(values) == float(rows["0.png"]["probability"])
    call("predict", model, folder, "--out", "out.jsonl", "--probabilities")
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert [line[column] for column in columns] == values


def test_a_table_of_paths_is_labelled_and_one_with_labels_is_scored(call: Call, model: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "new")
    names = ("0.png", "more/1.png", "gone.png", "2.png")
    (tmp_path / "new" / "paths.csv").write_text("\n".join(("path", *names)))
    result = call("predict", model, "new/paths.csv", "--out", "out.csv")
    assert result.exit_code == 0, result.output
    assert "labelling" in result.stderr
    rows = rows_of(tmp_path / "out.csv")
    assert [row["image"] for row in rows] == list(names)
    assert [row["label"] for row in rows] == ["red", "green", "", "blue"]
    assert rows[2]["reason"] == "no such file"
    assert "3 images without labels" in call("evaluate", model, "new/paths.csv").stdout
    lines = ("path,label", "0.png,red", "more/1.png,green", "gone.png,red", "2.png,red")
    (tmp_path / "new" / "labels.csv").write_text("\n".join(lines))
    result = call("evaluate", model, "new/labels.csv", "--json")
    assert json.loads(result.stdout)["accuracy"] == pytest.approx(2 / 3)
    assert "left out gone.png: no such file" in result.stderr


def test_links_that_lead_nowhere_have_their_reason(call: Call, model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new")
    (folder / "lost.png").symlink_to("nowhere.png")
    (folder / "linked.png").symlink_to("0.png")
    assert call("predict", model, folder, "--out", "out.csv").exit_code == 0
    rows = {row["image"]: row for row in rows_of(tmp_path / "out.csv")}
    assert rows["lost.png"]["reason"] == "a link to what is not there (nowhere.png)"
    assert rows["linked.png"]["probability"] == rows["0.png"]["probability"]


def test_evaluate_resamples_groups_that_the_data_tells_of(call: Call, model: Path, tmp_path: Path) -> None:
    images, labels = tiny_images(90)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    wrong = [int(label) if number % 6 else (int(label) + 1) % 3 for number, label in enumerate(labels)]
    widths = []
    for title, group in (("alone", lambda number: number), ("together", lambda number: number % 6)):
        rows = [f"{number}.png,{NAMES[label]},{group(number)}" for number, label in enumerate(wrong)]
        (tmp_path / f"{title}.csv").write_text("path,label,group\n" + "\n".join(rows))
        scores = json.loads(call("evaluate", model, f"{title}.csv", "--json", "--corrupted-views", "0").stdout)
        low, high = scores["intervals"]["accuracy"]
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_few_images_of_a_class_are_said_where_another_has_none(call: Call, model: Path, tmp_path: Path) -> None:
    images, labels = tiny_images(12)
    np.savez(tmp_path / "few.npz", images=images[labels < 2], labels=labels[labels < 2])
    shown = call("evaluate", model, "few.npz", "--corrupted-views", "0", "--details").stdout
    assert "The smallest class has 4 images" in shown
