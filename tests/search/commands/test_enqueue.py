"""Trials that somebody proposes: enqueued by hand, or hints of another study; with trials that train nothing."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner, Result
from fake_search import SETTINGS, opened_study, searching

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import backbone_named
from models.backbones.user_rows import asked_backbone
from search.cli import main
from search.errors import SearchError
from search.planning.open_study import open_study
from search.planning.planned_study import plan_study
from search.planning.run_options import RunOptions
from search.planning.warm_start import HINT_OF, read_hints
from search.workspace import Workspace
from studies.proposals import FIXED_PARAMS
from studies.records import records_of
from studies.storage import open_storage


def call(workspace: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["-w", str(workspace), *map(str, arguments)])


def test_an_enqueued_trial_waits_and_is_run_first_with_its_own_seed(tmp_path: Path, tiny_workspace: Path) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    settings = replace(SETTINGS, fingerprint=PreparedSet.open(tmp_path / "prepared").fingerprint)
    missing = call(tmp_path, "enqueue", "small_cnn", "learning_rate=0.25")
    assert "start one with `hpsearch run --backbone NAME`" in missing.stderr
    with searching(tmp_path, settings=settings) as (search, _):
        search.run(2)
    done = call(tmp_path, "enqueue", "small_cnn", "learning_rate=0.25")
    assert (
        "trial 2 of" in done.stdout and "`hpsearch run --backbone small_cnn --trials 3` takes it first" in done.stdout
    )
    refused = call(tmp_path, "enqueue", "small_cnn", "learning_rate=3")
    assert (refused.exit_code, refused.stderr.count("must be a number from 0 to 1, but is '3'")) == (1, 1)
    again = call(tmp_path, "enqueue", "--study", settings.name, "learning_rate=0.25")
    assert "trial 2 has these values too" in again.stdout
    assert f"`hpsearch run --study {settings.name} --trials 4` takes it first, after 1" in again.stdout
    assert '"waiting": 2' in call(tmp_path, "status", "--json").stdout
    with searching(tmp_path, settings=settings) as (search, _):
        search.run(5)
        records = records_of(search.study)
    assert [record.hyperparameters["learning_rate"] for record in records[2:4]] == [0.25, 0.25]
    assert len({record.epochs[0]["seed"] for record in records}) == 5  # each has its number's


def test_a_proposal_has_the_resolution_that_the_study_was_given(tmp_path: Path, tiny_workspace: Path) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    fingerprint = PreparedSet.open(tmp_path / "prepared").fingerprint
    space = SETTINGS.space | {"resolution": {"choices": [32, 48]}}
    opened_study(tmp_path, replace(SETTINGS, fingerprint=fingerprint, space=space, resolution=64))
    refused = call(tmp_path, "enqueue", "small_cnn", "learning_rate=0.25", "resolution=48")
    assert (refused.exit_code, "must be 64" in refused.stderr) == (1, True), refused.output


def test_enqueue_wants_the_study_of_a_backbone_on_this_prepared_set(tmp_path: Path, tiny_workspace: Path) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    opened_study(tmp_path)  # of another fingerprint
    refused = call(tmp_path, "enqueue", "small_cnn", "learning_rate=0.25")
    assert "there is no study of small_cnn on this prepared set: `hpsearch run --backbone small_cnn" in refused.stderr
    refused = call(tmp_path, "enqueue", "--study", SETTINGS.name, "learning_rate=0.25")
    assert f"the study {SETTINGS.name} is bound to another prepared set" in refused.stderr
    assert call(tmp_path, "enqueue", "learning_rate=0.25").exit_code == 2


def own_network(path: Path, content: str) -> Path:
    """A file that looks like a network to the asking process, which opens none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w") as archive:
        archive.writestr("config.json", f'{{"class_name": "{content}"}}')
    return path


def test_enqueue_takes_a_backbone_of_ones_own_as_run_does(tmp_path: Path, tiny_workspace: Path) -> None:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    cells = own_network(tmp_path / "my nets" / "cells.keras", "A")
    prepared = PreparedSet.open(tmp_path / "prepared")
    names = {}
    for called in (str(cells), "nets:tiny"):
        row = asked_backbone(called)
        settings = replace(SETTINGS, backbone=row.name, own_backbone=dict(row.own), fingerprint=prepared.fingerprint)
        names[called] = opened_study(tmp_path, settings).study_name
        done = call(tmp_path, "enqueue", called, "learning_rate=0.25")
        assert f"trial 0 of {names[called]} waits with learning_rate=0.25" in done.stdout
        assert f"`hpsearch run --backbone {shlex.quote(called)} --trials 1` takes it first" in done.stdout
    other = own_network(tmp_path / "other" / "cells.keras", "B")
    for called, what in ((other, "file"), ("others:tiny", "function")):
        refused = call(tmp_path, "enqueue", called, "learning_rate=0.25")
        assert refused.exit_code == 1 and f"started from a different {what} than {called}: name" in refused.stderr
    assert "there is no file absent.keras" in call(tmp_path, "enqueue", "absent.keras", "learning_rate=0.25").stderr
    assert "there is no study of nets:none on" in call(tmp_path, "enqueue", "nets:none", "learning_rate=0.25").stderr


def test_the_best_trials_of_another_study_are_tried_first_and_once(tmp_path: Path, tiny_workspace: Path) -> None:
    other = tmp_path / "other"
    with searching(other, mode="diverge") as (search, _):
        search.run(6)
        records = records_of(search.study)
    best = sorted((one for one in records if one.state == "complete"), key=lambda one: -(one.value or 0))[:2]
    hints = read_hints(Workspace(tmp_path), f"{other}:{SETTINGS.name}", 2)
    assert [one.number for one in hints.records] == [one.number for one in best]
    storage, prepared = open_storage(tmp_path / "studies.db"), PreparedSet.open(tiny_workspace / "prepared")
    lines: list[str] = []
    for _ in range(2):
        planned = plan_study(storage, prepared, backbone_named("small_cnn"), RunOptions())
        study = open_study(storage, planned, tmp_path, lines.append, hints)
    rates = [min(max(one.hyperparameters["learning_rate"], 0.002), 0.02) for one in best]
    fixed = [trial.system_attrs[FIXED_PARAMS]["learning_rate"] for trial in study.trials]
    assert fixed == list(dict.fromkeys(rates))  # two that become the same are one
    assert study.trials[0].user_attrs[HINT_OF] == f"{SETTINGS.name} {best[0].number}"
    assert lines[0].startswith(f"trying the 2 best trials of {SETTINGS.name} first")
    assert any("`learning_rate`" in line and "becomes" in line for line in lines)
    assert (
        lines[-1]
        == f"the 2 best trials of {SETTINGS.name} are already among the {len(fixed)} trials of {study.study_name}"
    )


def test_a_warm_start_from_nothing_is_refused_with_what_there_is(tmp_path: Path) -> None:
    opened_study(tmp_path)
    with pytest.raises(SearchError, match=f"there is no study 'nosuch'; existing studies: {SETTINGS.name} "):
        read_hints(Workspace(tmp_path), "nosuch", 5)
    with pytest.raises(SearchError, match="has no complete trial to start from"):
        read_hints(Workspace(tmp_path), SETTINGS.name, 5)
