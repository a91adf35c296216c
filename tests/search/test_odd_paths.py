"""Folders and files of any name, in every command that takes a path; and no home folder."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_search import opened_study
from PIL import Image
from tiny_images import tiny_images

from models.keras_config import keras_folder
from search.cli import main
from studies.sqlite_reader import read_studies

NAMES = ("[a]*?mode=ro", "#100%20 'q\" ö 日本", "-dash\n", "[red]a:b,c=d")
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls hpsearch in an empty folder and expects success."""
    monkeypatch.chdir(tmp_path)

    def hpsearch(*words: object) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result

    return hpsearch


def pictures(folder: Path) -> None:
    """Write a folder of pictures for each of two classes, and a table of them."""
    images, labels = tiny_images(60)
    for row in np.flatnonzero(labels < 2):
        place = folder / f"class {labels[row]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).save(place / f"{row}.png")


@pytest.mark.parametrize("name", NAMES)
def test_sources_workspaces_and_copies_may_have_any_name(name: str, call: Call, tmp_path: Path) -> None:
    pictures(tmp_path / name)
    workspace = f"w {name}"
    quick = ("--levels", "none", "--corrupted-views", "1", "--image-size", "16", "--recurrence-limit", "1000")
    call("-w", workspace, "prepare", f"./{name}", *quick)
    call("-w", workspace, "check")
    opened_study(Path(workspace))
    call("-w", workspace, "status")
    call("-w", workspace, "compare")
    call("-w", workspace, "backup", f"./{name}.db")
    assert {path.name for path in tmp_path.iterdir()} == {name, workspace, f"{name}.db"}
    assert len(read_studies(Path(f"{name}.db"))) == 1


def test_without_a_home_and_an_account_the_temporary_folder_is_home(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_account(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_account)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    call("backbones")
    assert os.environ["HOME"] == str(tmp_path)
    assert keras_folder() == tmp_path / ".keras"


@pytest.mark.slow
def test_the_whole_way_in_folders_of_odd_names(call: Call, tmp_path: Path) -> None:
    name = "-a[b]*?#%20 'q\" ö\n"
    pictures(tmp_path / name)
    workspace, model = f"w{name}", f"m{name}"
    call("-w", workspace, "prepare", f"./{name}", "--levels", "low", "--copies", "1", "--image-size", "32")
    call("-w", workspace, "run", "--backbone", "small_cnn", "--trials", "1", "--epochs", "1")
    call("-w", workspace, "rerun", "small_cnn", "0")
    call("-w", workspace, "export-best", "--out", model, "--format", "saved_model")
    call("-w", workspace, "evaluate", model, f"./{name}")
    call("-w", workspace, "evaluate", model, "--test", "--format", "saved_model", "--json")
    call("-w", workspace, "predict", model, f"./{name}", "--out", f"./{name}.jsonl")
    assert len([json.loads(line) for line in Path(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]) > 10
    other = f"{workspace}:{read_studies(Path(workspace, 'studies.db'))[0].name}"
    call("-w", workspace, "run", "-b", f"{model}/model.keras", "-n", "1", "--epochs", "1", "--warm-start", other)
