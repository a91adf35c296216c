"""The command line: its help, its errors in one line, its exit codes, and what it leaves alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_search import opened_study
from PIL import Image

from data_prep.errors import DataError
from search.cli import COMMANDS, main
from search.engine.claims import Claims
from search.evaluating.inputs import has_labels, labelled_images
from search.planning.demo_size import FULL_STEP_MS
from search.terminal.durations import DURATION
from studies.settings import StudySettings
from studies.storage import create_study, open_storage

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls hpsearch in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, code: int, *parts: str) -> None:
    """Asserts that a command ended with this code and one line that contains the parts."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert result.stderr.rstrip().endswith(errors[0])
    for part in parts:
        assert part in errors[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, call: Call) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert f"hpsearch {name}" in result.output
    assert "--workspace" in result.output
    assert "--debug" in result.output


def test_the_demo_has_a_folder_of_its_own_and_its_help_names_no_other(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "hpsearch-workspace" in call("status", "--help").output
    output = call("demo", "--help").output
    assert "default: hpsearch-demo" in " ".join(output.split()) and "hpsearch-workspace" not in output
    places: list[Path] = []
    monkeypatch.setattr("search.commands.demo._hpsearch", lambda workspace, step: places.append(workspace.folder) or 1)
    for arguments in ((), ("-w", "hpsearch-workspace"), ("-w", "cells")):
        call("demo", "--size", "short", *arguments)
    assert places == [Path("hpsearch-demo"), Path("hpsearch-workspace"), Path("cells")]


def test_the_demo_chooses_its_size_by_a_timed_step_and_keeps_to_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr("search.commands.demo._hpsearch", lambda _, step: steps.append(" ".join(step)) or 0)
    for step_ms, options, expected in (
        (FULL_STEP_MS, (), "--trials 14 --epochs 12"),
        (FULL_STEP_MS + 1, (), "--trials 8 --epochs 6"),
        (FULL_STEP_MS + 1, ("--trials", "3"), "--trials 3 --epochs 6"),
        (FULL_STEP_MS + 1, ("--size", "full"), "--trials 14 --epochs 12"),
    ):
        steps.clear()
        monkeypatch.setattr("search.commands.demo.demo_step_ms", lambda found=step_ms: found)
        output = call("demo", *options).output
        assert steps[1] == f"run --backbone small_cnn {expected} --seed 0"
        assert (f"A step takes {step_ms:.0f} ms" in output) == ("--size" not in options)
    folder = Path("hpsearch-demo")
    folder.mkdir(exist_ok=True)
    settings = StudySettings("small_cnn", "f" * 64, "none", {"epochs": 12}, "mean_macro_f1", "tpe", "rung", 0, {})
    create_study(open_storage(folder / "studies.db"), settings)
    assert "A step takes" not in call("demo").output and steps[-3].endswith("--trials 14 --epochs 12 --seed 0")


def test_the_list_of_commands_says_what_each_does(call: Call) -> None:
    output = call("--help").output
    for name, line in COMMANDS.items():
        assert name in output
        assert line.split(",")[0] in output


def test_help_and_tables_start_without_tensorflow(tmp_path: Path) -> None:
    code = """
import sys
from click.testing import CliRunner
from search.cli import COMMANDS, main
for name in COMMANDS:
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0, name
CliRunner().invoke(main, ["status"])
CliRunner().invoke(main, ["compare"])
heavy = {"tensorflow", "keras", "torch", "jax"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SLOW_TO_IMPORT = {"tensorflow", "keras", "sklearn", "scipy", "matplotlib", "pandas", "optuna", "sqlalchemy", "numpy"}


def imported_by(*arguments: str) -> set[str]:
    """The modules that a command which ends well has imported."""
    code = f"""
import sys
from search.cli import main
try:
    main({list(arguments)!r})
finally:
    print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_help_and_status_import_nothing_slow(tmp_path: Path) -> None:
    study = opened_study(tmp_path)
    study.tell(study.ask(), 0.5)
    assert not imported_by("--help") & SLOW_TO_IMPORT
    for command in COMMANDS:
        assert not imported_by(command, "--help") & (SLOW_TO_IMPORT | {"rich", "PIL", "requests"}), command
    assert not imported_by("-w", str(tmp_path), "status") & SLOW_TO_IMPORT


def test_compare_needs_no_optuna(tmp_path: Path) -> None:
    opened_study(tmp_path)
    slow = SLOW_TO_IMPORT - {"scipy", "numpy"} | {"scipy.stats"}
    assert not imported_by("-w", str(tmp_path), "compare", "--trials", "--json") & slow


def test_status_puts_back_trials_that_nobody_has(tmp_path: Path, call: Call) -> None:
    study = opened_study(tmp_path)
    for _ in range(3):
        study.ask().report(0.5, 0)
    claims = Claims(tmp_path / "trials" / study.study_name)
    claims.take(1)
    (row,) = json.loads(call("-w", tmp_path, "status", "--json").output)
    assert (row["running"], row["waiting"], row["cut_off"]) == (1, 2, 2)
    assert [trial.state.name for trial in study.trials] == ["WAITING", "RUNNING", "WAITING"]
    claims.release(1)
    (row,) = json.loads(call("-w", tmp_path, "status", "--json").output)
    assert (row["running"], row["waiting"]) == (0, 3)


MAY_IMPORT = {
    "data_prep": set(),
    "models": set(),
    "studies": set(),
    "search": {"data_prep", "models", "studies"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_whom_they_may(package: str) -> None:
    found = set()
    for path in (Path(__file__).parents[2] / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.split(".")[0])
    assert found & set(MAY_IMPORT) <= MAY_IMPORT[package] | {package}


def test_studies_know_no_keras_and_models_no_optuna() -> None:
    root = Path(__file__).parents[2]
    for package, stranger in (("studies", "keras"), ("models", "optuna"), ("data_prep", "optuna")):
        for path in (root / package).rglob("*.py"):
            assert f"import {stranger}" not in path.read_text(), path


def test_wrong_usage_ends_with_2(call: Call) -> None:
    refused(call("run", "--backbone", "efficientnet_v2s"), 2, "did you mean efficientnetv2s?")
    refused(call("run", "--trials", 3), 2, "--backbone")
    refused(call("run", "--backbone", "absent.keras"), 2, "there is no file absent.keras")
    refused(call("run", "--backbone", "vgg19", "--preprocessing", "inside"), 2, "vgg19 always uses bgr-mean")
    refused(call("run", "--backbone", "one:tiny", "--backbone", "two:tiny"), 2, "two backbones of one name")
    refused(call("run", "--backbone", "vgg19", "--trials", 0), 2, "--trials")
    refused(call("prepare", "demo", "--split", "70/40/15"), 2, "100")
    refused(call("evaluate", ".", "x.npz", "--test"), 2, "either DATA or --test")
    refused(call("evaluate", "nowhere", "x.npz"), 2, "nowhere")


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("1h30m", 5400), ("90", 90), ("1.5 H", 5400)]
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "3x", "-5m", "m", "5m3", "1h30m later"])
def test_what_is_no_time_is_refused_with_an_example(text: str, call: Call) -> None:
    done = call("run", "--backbone", "small_cnn", f"--time-budget={text}")
    assert done.exit_code == 2
    assert "must be a time above 0, such as 45s, 90m, 8h or 1h30m" in done.output


def test_run_wants_a_backbone_or_a_study(call: Call) -> None:
    done = call("run")
    assert done.exit_code == 2
    assert "name one of `hpsearch backbones`" in done.output


def test_run_before_prepare_names_the_command_that_is_missing(call: Call, tmp_path: Path) -> None:
    refused(call("run", "--backbone", "small_cnn"), 1, "run `hpsearch prepare` first")
    refused(call("export-best"), 1, "run `hpsearch prepare` first")
    refused(call("status"), 1, "start one with `hpsearch run --backbone NAME`")
    refused(call("check"), 1, "run `hpsearch prepare` first")
    assert list(tmp_path.iterdir()) == []


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)


BAD_SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "source.npz"),
    "no npz": (lambda path: path.write_bytes(b"PK no zip"), "source.npz"),
    "pickled": (lambda path: write(path, images=np.array([{}, []], dtype=object), labels=np.arange(2)), "pickle"),
    "no labels": (lambda path: write(path, images=images()), "labels"),
    "wrong shape": (lambda path: write(path, images=images()[..., :2], labels=np.arange(6)), "(6, 8, 8, 2)"),
    "wrong dtype": (lambda path: write(path, images=images() / 2, labels=np.arange(6)), "float64"),
    "other lengths": (lambda path: write(path, images=images(), labels=np.arange(5)), "5"),
    "negative label": (lambda path: write(path, images=images(), labels=np.arange(6) - 1), "-1"),
    "one class": (lambda path: write(path, images=images(), labels=np.zeros(6, int)), "class"),
    "too few groups": (lambda path: write(path, images=images(), labels=np.array([0, 0, 0, 0, 0, 1])), "class"),
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_a_bad_source_is_one_line_and_leaves_no_trace(kind: str, call: Call, tmp_path: Path) -> None:
    make, part = BAD_SOURCES[kind]
    make(tmp_path / "source.npz")
    before = sorted(tmp_path.iterdir())
    refused(call("prepare", "source.npz", "--levels", "low"), 1, part)
    assert sorted(tmp_path.iterdir()) == before


def test_options_come_from_flags_then_from_the_config_file(call: Call, tmp_path: Path) -> None:
    (tmp_path / "hpsearch.toml").write_text('workspace = "elsewhere"\n[prepare]\nsource = "absent.npz"\n')
    refused(call("prepare"), 1, "absent.npz")
    refused(call("prepare", "other.npz"), 1, "other.npz")
    refused(call("status"), 1, "elsewhere")
    refused(call("-w", "third", "status"), 1, "third")
    refused(call("status", "-w", "fourth"), 1, "fourth")


def test_the_config_file_speaks_the_flags_own_names(call: Call, tmp_path: Path) -> None:
    (tmp_path / "hpsearch.toml").write_text('[run]\nbackbone = ["small_cnn", "efficientnetv2"]\nhead-epochs = 2')
    refused(call("run"), 2, "did you mean efficientnetv2s?")
    (tmp_path / "hpsearch.toml").write_text("[run]\ntrials = 3.7")
    refused(call("run", "--backbone", "small_cnn"), 2, "--trials", "3.7", "(`trials` is set in hpsearch.toml [run])")
    assert "hpsearch.toml" not in call("run", "--backbone", "small_cnn", "--trials", "3.8").stderr


@pytest.mark.parametrize(
    ("text", "words", "code", "where"),
    [
        ('[run]\nbackbone = "small_cn"', ("run",), 2, "(`backbone` is set in hpsearch.toml [run])"),
        ('[run]\nbackbone = "small_cn"', ("run", "-b", "vgg1"), 2, None),
        ('[run]\nbackbone = "small_cnn"', ("run", "--trials", "0"), 2, None),
        ('[prepare]\nsource = "absent.npz"', ("prepare",), 1, "(`source` is set in hpsearch.toml [prepare])"),
        ('[prepare]\nsource = "absent.npz"', ("prepare", "other.npz"), 1, None),
        ('[prepare]\nsplit = "70/40/15"', ("prepare", "demo"), 2, "(`split` is set in hpsearch.toml [prepare])"),
        ("[prepare]\nimage-size = 0", ("prepare", "demo"), 2, "(`image-size` is set in hpsearch.toml [prepare])"),
        ('[run]\nsampler = "none"', ("run", "-b", "small_cnn"), 2, "(`sampler` is set in hpsearch.toml [run])"),
        ('[run]\nweights = "none"', ("run", "-b", "small_cnn"), 1, None),
        ('[export-best]\nbackbone = "nosuch"', ("export-best",), 2, "is set in hpsearch.toml [export-best])"),
    ],
)
def test_an_error_says_when_the_value_stands_in_the_config_file(
    text: str, words: tuple[str, ...], code: int, where: str | None, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "hpsearch.toml").write_text(text)
    done = call(*words)
    refused(done, code, *([where] if where else []))
    assert where or "hpsearch.toml" not in done.stderr


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("workspace = 3", "`workspace` must be the path of a folder"),
        ("[run]\ntrials = [1]", "`trials` must be a value, but is [1]"),
        ("[run]\ntrails = 3", "unknown key `trails`; did you mean `trials`?"),
        ("[rnu]\ntrials = 3", "unknown key `rnu`; did you mean `run`?"),
        ("run = 3", "`run` must be a table"),
        ("[run", "cannot be read as TOML"),
    ],
)
def test_a_mistake_in_the_config_file_is_named(text: str, part: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "hpsearch.toml").write_text(text)
    refused(call("run", "--backbone", "vgg19"), 1, "hpsearch.toml", part)


@pytest.mark.parametrize(("encoding", "code"), [("utf-8-sig", 0), ("utf-16", 1), ("utf-16-le", 1), ("latin-1", 1)])
def test_the_config_file_may_come_from_any_editor(encoding: str, code: int, call: Call, tmp_path: Path) -> None:
    (tmp_path / "hpsearch.toml").write_bytes('# für\r\nworkspace = "cells"\r\n'.encode(encoding))
    if code == 0:
        assert "cells" in call("status").output
    else:
        refused(call("status"), 1, "hpsearch.toml is not UTF-8 text", "save it as UTF-8")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_a_file_of_class_names_may_come_from_any_editor(encoding: str, call: Call, tmp_path: Path) -> None:
    write(tmp_path / "source.npz", images=images(), labels=np.array([0, 1, 2, 2, 1, 0]))
    (tmp_path / "names.txt").write_bytes("für\r\nb\r\n".encode(encoding))
    done = call("prepare", "source.npz", "--class-names", "names.txt")
    if encoding == "utf-8-sig":  # one name is missing; the first one has no byte order mark
        assert done.exit_code == 1 and "\ufeff" not in done.output
    else:
        refused(done, 2, "names.txt is not UTF-8 text: save it as UTF-8")


def test_evaluate_matches_classes_by_name_and_numbers_by_place(tmp_path: Path) -> None:
    for name in ("0", "2", "10"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(2):
            picture = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "pictures" / name / f"{number}.png")
    model_names = ("0", "1", "10", "2")
    labels = labelled_images(str(tmp_path / "pictures"), model_names, (16, 16, 3)).labels
    assert [model_names[label] for label in labels] == ["0", "0", "10", "10", "2", "2"]
    write(tmp_path / "source.npz", images=images(), labels=np.array([0, 1, 2, 2, 1, 0]))
    labels = labelled_images(str(tmp_path / "source.npz"), ("a", "b", "c", "d"), (8, 8, 3)).labels
    assert labels.tolist() == [0, 1, 2, 2, 1, 0]
    with pytest.raises(DataError, match=r"must only have classes of the model \(a, b\), but has '2'"):
        labelled_images(str(tmp_path / "source.npz"), ("a", "b"), (8, 8, 3))


def test_evaluate_scores_the_test_images_of_a_split_that_the_data_brings(tmp_path: Path) -> None:
    arrays = {f"{side}_images": images() for side in ("train", "val", "test")}
    labels = {f"{side}_labels": np.arange(6) % 3 for side in ("train", "val")}
    labels["test_labels"] = np.array([2, 1, 0] * 2)
    write(tmp_path / "own.npz", **arrays, **labels)
    found = labelled_images(str(tmp_path / "own.npz"), ("a", "b", "c"), (8, 8, 3))
    assert has_labels(tmp_path / "own.npz")
    assert (len(found.images), found.labels.tolist()) == (6, [2, 1, 0, 2, 1, 0])


def test_debug_shows_the_traceback(call: Call) -> None:
    result = call("status", "--debug")
    assert result.exit_code == 1
    assert "StudyError" in repr(result.exception)


def test_an_unforeseen_error_is_one_line_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("something")

    monkeypatch.setattr("search.commands.status.read_studies", broken)
    refused(call("status"), 1, "KeyError", "--debug shows where")


def test_the_backbones_are_listed_from_the_table(call: Call) -> None:
    rows = json.loads(call("backbones", "--json").output)
    assert [row["name"] for row in rows][:3] == ["vgg16", "vgg19", "resnet50v2"]
    assert rows[0]["cuts"][0] == 0 and rows[0]["cuts"][-1] == 1 and rows[0]["min_size"] == 32
    table = call("backbones").output
    assert all(row["name"] in table for row in rows)


def test_names_in_help_are_the_commands_own() -> None:
    context = click.Context(main)
    assert all(main.get_command(context, name).name == name for name in COMMANDS)  # type: ignore[union-attr]
