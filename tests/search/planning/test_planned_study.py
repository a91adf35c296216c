"""From options to a study: what is refused before anything is written, and what a study is fixed to."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import optuna
import pytest
from click.testing import CliRunner
from fake_search import FAKE_WORKER
from optuna.trial import TrialState

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import Backbone, backbone_named
from models.backbones.user_rows import asked_backbone
from models.errors import ModelError
from search.cli import main
from search.engine.job import WEIGHTS_FILE, TrainingJob, trial_folder
from search.engine.keras_trainer import plan_of
from search.engine.worker import Worker
from search.errors import SearchError
from search.evaluating.leaky_split import read_versions
from search.planning.arithmetic_choice import choose_arithmetic, with_choice
from search.planning.estimate import frozen_fractions, kept_fractions, moved_fractions
from search.planning.open_study import job_maker, open_study
from search.planning.planned_study import plan_study
from search.planning.run_options import RunOptions, weights_identity
from search.workspace import Workspace
from studies.definition import definition_of
from studies.errors import StudyError
from studies.records import TrialEnd, store_record
from studies.replicates import FinishedReplicate, Replicate, replicates_of, store_replicate
from studies.settings import ATTRIBUTE, StudySettings
from studies.storage import create_study, is_complete, open_storage
from studies.trial_tables import cache_text, training_text
from studies.trials import TAKEN_FROM

SMALL = backbone_named("small_cnn")


def with_settings(options: RunOptions, **settings: Any) -> RunOptions:
    return replace(options, settings={**options.settings, **settings})


@pytest.fixture
def prepared(tiny_workspace: Path) -> PreparedSet:
    return PreparedSet.open(tiny_workspace / "prepared")


def of_small_images(prepared: PreparedSet) -> PreparedSet:
    manifest = prepared.manifest | {"image_shape": [28, 28, 3], "corrupted": {"views": 0}}
    return PreparedSet(prepared.folder, manifest)


def space(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            '[space.optimizer]\nchoices = ["tiger"]',
            "`optimizer in ('adamw', 'adam', 'sgd', 'rmsprop', 'lion')` must hold",
        ),
        ("[space.dropout]\nlow = 0.0\nhigh = 2.0", "`0 <= dropout < 1` must hold, but the value is 2.0"),
        ('[space.dropout]\nvalue = "much"', "`0 <= dropout < 1` must hold, but the value is 'much'"),
        ('[space.augmentation]\nchoices = ["none", "meduim"]', "unknown augmentation level 'meduim'"),
        ('[space.augmentation]\nvalue = "huge"', "unknown augmentation level 'huge'"),
        ("[space.dropout]\nchoices = [[1], {a = 1}]", "`choices` must hold plain values"),
        ("[space.dropout]\nvalue = [1]", "`value` must be a single value"),
        ('[space.dropout]\nlow = 0.0\nhigh = 0.5\nstep = "x"', "`step` must be a number, without quotes"),
        (
            '[space.optimizer]\nchoices = ["sgd", "adam"]\n[space.momentum]\nvalue = 0.9\nwhen = {optimizer = ["sdg"]}',
            "but the value is 'sdg'",
        ),
        (
            '[space.optimizer]\nchoices = ["sgd", "adam"]\n[space.momentum]\nvalue = 0.9\nwhen = {optimizer = ["sdg"]}',
            "[space.momentum] when: `optimizer in",
        ),
        ("[space.dropout]\nvalue = false", "`dropout` must not be true or false, but the value is false"),
        ("[space.batch_size]\nchoices = [true, 16]", "`batch_size` must not be true or false"),
        ("[space.batch_size]\nlow = 8\nhigh = 64", "`batch_size` must be a whole number: give its range whole ends"),
        ("[space.views_per_image]\nlow = 1\nhigh = 4\nstep = 0.5", "`views_per_image` must be a whole number"),
        ("[space.dropout]\nlow = 0.0\nhigh = inf", "`low <= high` must hold"),
        (
            '[space.optimizer]\nvalue = "sgd"\n[space.momentum]\nvalue = 0.9\nwhen = {optimizer = "sgd"}',
            "`when` a list",
        ),
        ("[space.dropout]\nvalue = 0.1\n[backbone.smal_cnn.space.dropout]\nvalue = 0.1", "did you mean `small_cnn`?"),
        ("first = 3\n[space.dropout]\nvalue = 0.1", "`first` must be a list of [[first]] tables"),
    ],
)
def test_a_space_outside_what_can_be_trained_is_refused(
    text: str, part: str, prepared: PreparedSet, tmp_path: Path
) -> None:
    with pytest.raises((ModelError, SearchError, StudyError)) as caught:
        plan_study(None, prepared, SMALL, RunOptions.of(space=str(space(tmp_path, text))))
    assert part in str(caught.value)


def test_a_hyperparameter_left_out_of_the_space_is_fixed_in_the_study(prepared: PreparedSet, tmp_path: Path) -> None:
    path = space(tmp_path, "[space.learning_rate]\nlow = 1e-4\nhigh = 1e-2\nlog = true")
    planned = plan_study(None, prepared, SMALL, RunOptions.of(space=str(path)))
    assert planned.settings.space["optimizer"] == {"value": "adamw"}
    assert planned.settings.space["augmentation"] == {"value": "low"}  # all that this set has


def test_augmentation_that_the_prepared_set_lacks_is_left_out_with_a_note(prepared: PreparedSet) -> None:
    planned = plan_study(None, prepared, backbone_named("vgg19"), RunOptions.of(weights="none"))
    assert planned.settings.space["augmentation"]["choices"] == ["none", "low"]
    (note,) = planned.notes
    assert note.startswith("augmentation choices that the prepared set lacks are left out: it has low; ")


def test_augmentation_that_is_fixed_must_be_there(prepared: PreparedSet, tmp_path: Path) -> None:
    options = RunOptions.of(space=str(space(tmp_path, '[space.augmentation]\nvalue = "low+strong"')))
    with pytest.raises(StudyError, match=r"fixes augmentation = low\+strong, and the prepared set has low, none: prep"):
        plan_study(None, prepared, SMALL, options)


def test_images_too_small_for_a_network_are_refused_with_a_way_out(prepared: PreparedSet) -> None:
    small = of_small_images(prepared)
    with pytest.raises(ModelError, match="vgg19 takes images of 32x32 or larger, but the prepared images are 28x28"):
        plan_study(None, small, backbone_named("vgg19"), RunOptions.of(weights="none"))


def test_images_too_small_for_a_network_can_be_resized_in_it(prepared: PreparedSet, tmp_path: Path) -> None:
    small = of_small_images(prepared)
    vgg, options = backbone_named("vgg19"), RunOptions.of(weights="none")
    with pytest.raises(ModelError, match="resize them in the network with --resolution 32 or more"):
        plan_study(None, small, vgg, options)
    planned = plan_study(None, small, vgg, with_settings(options, resolution=64))
    assert (planned.settings.resolution, planned.resolutions) == (64, (64,))
    with pytest.raises(ModelError, match="vgg19 takes images of 32x32 or larger, but the resolution is 16"):
        plan_study(None, prepared, vgg, with_settings(options, resolution=16))
    with pytest.raises(ModelError, match="`resolution == 0 or 8 <= resolution <= 1024, a whole number` must hold"):
        plan_study(None, prepared, vgg, with_settings(options, resolution=3))
    choices = str(space(tmp_path, "[space.resolution]\nchoices = [64, 16]"))
    with pytest.raises(ModelError, match="but the resolution is 16"):
        plan_study(None, prepared, vgg, replace(options, space=choices))
    picky = replace(vgg, min_size=75, resolution=96)
    assert plan_study(None, prepared, picky, options).settings.space["resolution"] == {"value": 96}


def test_a_space_has_choices_of_resolution_and_the_flag_fixes_one(prepared: PreparedSet, tmp_path: Path) -> None:
    text = "[space.resolution]\nchoices = [32, 48]\n[[first]]\nresolution = 48"
    options = RunOptions.of(space=str(space(tmp_path, text)))
    planned = plan_study(None, prepared, SMALL, options)
    assert planned.resolutions == (32, 48)
    study = open_study(open_storage(tmp_path / "1.db"), planned, tmp_path, lambda line: None)
    drawn = [planned.definition.suggest(study.ask())["resolution"] for _ in range(12)]
    assert drawn[0] == 48 and set(drawn) == {32, 48}
    lines: list[str] = []
    planned = plan_study(None, prepared, SMALL, with_settings(options, resolution=64))
    study = open_study(open_storage(tmp_path / "2.db"), planned, tmp_path, lines.append)
    assert (planned.resolutions, lines) == ((64,), [])
    assert [planned.definition.suggest(study.ask())["resolution"] for _ in range(3)] == [64] * 3
    options = RunOptions.of(space=str(space(tmp_path, "[space.resolution]\nlow = 32\nhigh = 48")))
    with pytest.raises(SearchError, match="`resolution` needs `choices` or a `value`"):
        plan_study(None, prepared, SMALL, options)


def test_another_resolution_than_the_studys_is_refused_and_its_own_is_followed(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    asked = RunOptions.of(resolution=48, given=frozenset({"resolution"}))
    study = open_study(storage, plan_study(storage, prepared, SMALL, asked), tmp_path, lambda line: None)
    trial = study.ask()
    hyperparameters = plan_study(storage, prepared, SMALL, RunOptions()).definition.suggest(trial)
    assert hyperparameters["resolution"] == 48
    store_record(trial, TrialEnd(hyperparameters, [{"step": 0, "value": 0.5}], {"best": {"value": 0.5}}))
    study.tell(trial, 0.5)
    other = with_settings(asked, resolution=64)
    with pytest.raises(SearchError, match=r"other settings \(--resolution: 48 \(stored\), 64 \(requested\)\)"):
        plan_study(storage, prepared, SMALL, other)
    planned = plan_study(storage, prepared, SMALL, replace(other, new_version=True))
    lines: list[str] = []
    open_study(storage, planned, tmp_path, lines.append)
    assert planned.resolutions == (64,) and lines[0].startswith("0 of 1 trials")
    wide = str(space(tmp_path, "[space.resolution]\nchoices = [0, 48]"))  # a new space takes the setting's place
    planned = plan_study(
        storage, prepared, SMALL,
        RunOptions.of(space=wide, new_version=True, given=frozenset({"space"}), study=study.study_name),
    )  # fmt: skip
    assert (planned.settings.resolution, planned.resolutions) == (None, (0, 48))


def test_a_study_from_before_class_weights_were_an_option_goes_on(prepared: PreparedSet, tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    first = plan_study(storage, prepared, SMALL, RunOptions())
    old = {name: value for name, value in first.settings.recipe.items() if name != "class_weights"}
    first = replace(first, settings=replace(first.settings, recipe=old))
    open_study(storage, first, tmp_path, lambda line: None).ask()
    assert plan_study(storage, prepared, SMALL, RunOptions()).settings.recipe == old
    other = RunOptions.of(class_weights="none", warmup_epochs=0, given=frozenset({"class_weights", "warmup_epochs"}))
    with pytest.raises(SearchError, match=r"--class-weights: absent \(stored\), none \(requested\); --warmup-"):
        plan_study(storage, prepared, SMALL, other)
    new = plan_study(storage, prepared, SMALL, replace(other, new_version=True)).settings.recipe
    assert (new["class_weights"], new["warmup_epochs"]) == ("none", 0)


def test_trials_of_before_there_were_resolutions_have_the_images_own_size(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    first = plan_study(storage, prepared, SMALL, RunOptions())
    old = {name: table for name, table in first.settings.space.items() if name != "resolution"}
    first = replace(first, settings=replace(first.settings, space=old), definition=definition_of(old))
    study = open_study(storage, first, tmp_path, lambda line: None)
    trial = study.ask()
    hyperparameters = first.definition.suggest(trial)
    store_record(trial, TrialEnd(hyperparameters, [{"step": 0, "value": 0.5}], {"best": {"value": 0.5}}))
    study.tell(trial, 0.5)
    again = plan_study(storage, prepared, SMALL, RunOptions())
    assert (again.is_new, again.resolutions) == (False, (0,))
    for resolution, taken in ((0, 1), (64, 0)):
        asked = RunOptions.of(resolution=resolution, given=frozenset({"resolution"}), new_version=True)
        lines: list[str] = []
        planned = plan_study(storage, prepared, SMALL, replace(asked, study=study.study_name))
        planned = replace(planned, settings=replace(planned.settings, version=2 + resolution))
        open_study(storage, planned, tmp_path, lines.append)
        assert lines == [f"{taken} of 1 trials of {study.study_name} fit and are taken over"]


def test_the_hyperparameters_to_try_first_are_queued_where_the_space_has_them(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    text = """[space.dropout]\nlow = 0.0\nhigh = 0.5\n[[first]]\ndropout = """
    lines: list[str] = []
    for number, (dropout, queued) in enumerate((("0.3", [0.3]), ("0.9", []))):
        storage = open_storage(tmp_path / str(number) / "studies.db")
        planned = plan_study(storage, prepared, SMALL, RunOptions.of(space=str(space(tmp_path, text + dropout))))
        definition = replace(planned.definition, parameters=planned.definition.parameters[:1])
        study = open_study(storage, replace(planned, definition=definition), tmp_path, lines.append)
        assert [trial.system_attrs["fixed_params"]["dropout"] for trial in study.trials] == queued
    assert lines == ["skipping hyperparameters to try first: `dropout` = 0.9 is outside the search space"]


def test_a_study_on_another_preparation_is_named_with_what_differs(prepared: PreparedSet, tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    open_study(storage, plan_study(storage, prepared, SMALL, RunOptions()), tmp_path, lambda line: None).ask()
    settings = {**prepared.manifest["settings"], "seed": 7}
    other = PreparedSet(prepared.folder, {**prepared.manifest, "fingerprint": "f" * 64, "settings": settings})
    planned = plan_study(storage, other, SMALL, RunOptions())
    assert planned.is_new
    note = planned.notes[-1]
    assert f"small_cnn-{prepared.fingerprint[:8]}" in note
    assert "differences: settings.seed: 0 (stored), 7 (requested)" in note


def test_a_study_without_a_trial_is_made_anew_with_the_settings_asked_for(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    for epochs in (3, 4):
        options = RunOptions.of(epochs=epochs, given=frozenset({"epochs"}))
        planned = plan_study(storage, prepared, SMALL, options)
        assert planned.is_new
        assert open_study(storage, planned, tmp_path, lambda line: None).trials == []
    assert planned.settings.recipe["epochs"] == 4


def test_a_study_asked_for_by_name_must_be_of_this_prepared_set_and_backbone(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    planned = plan_study(storage, prepared, SMALL, RunOptions())
    open_study(storage, planned, tmp_path, lambda line: None).ask()
    asked = RunOptions.of(study=planned.settings.name)
    assert not plan_study(storage, prepared, SMALL, asked).is_new
    settings = {**prepared.manifest["settings"], "seed": 7}
    other = PreparedSet(prepared.folder, {**prepared.manifest, "fingerprint": "f" * 64, "settings": settings})
    with pytest.raises(
        SearchError, match=r"bound to another prepared set \(differences: settings.seed: 0 \(stored\), 7 \(requested\)"
    ):
        plan_study(storage, other, SMALL, asked)
    with pytest.raises(SearchError, match="is of small_cnn, not of vgg19"):
        plan_study(storage, prepared, backbone_named("vgg19"), with_settings(asked, weights="none"))
    with pytest.raises(StudyError, match="there is no study 'nosuch'; existing studies: small_cnn-"):
        plan_study(storage, prepared, SMALL, RunOptions.of(study="nosuch"))


def test_a_study_goes_on_under_the_backend_it_was_made_with(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    open_study(storage, plan_study(storage, prepared, SMALL, RunOptions()), tmp_path, lambda line: None).ask()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(SearchError, match=r"keras_backend: tensorflow \(stored\), jax \(requested\)"):
        plan_study(storage, prepared, SMALL, RunOptions())


def test_a_changed_space_is_refused_and_a_new_version_takes_over_what_fits(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    path = space(tmp_path, "[space.dropout]\nlow = 0.0\nhigh = 0.5")
    first = plan_study(storage, prepared, SMALL, RunOptions.of(space=str(path)))
    study = open_study(storage, first, tmp_path, lambda line: None)
    for dropout, value in ((0.1, 0.7), (0.4, 0.8)):
        study.enqueue_trial({"dropout": dropout})
        trial = study.ask()
        hyperparameters = first.definition.suggest(trial)
        trial.report(value, 0)
        store_record(trial, TrialEnd(hyperparameters, [{"step": 0, "value": value}], {"best": {"value": value}}))
        study.tell(trial, value)
        folder = trial_folder(tmp_path, study.study_name, trial.number)
        folder.mkdir(parents=True)
        (folder / WEIGHTS_FILE).write_text(f"weights of {dropout}")
    given = frozenset({"space"})
    narrow = RunOptions.of(space=str(space(tmp_path, "[space.dropout]\nlow = 0.2\nhigh = 0.5")), given=given)
    with pytest.raises(SearchError, match=r"space\.dropout\.low: 0\.0 \(stored\), 0\.2 \(requested\).*--new-version"):
        plan_study(storage, prepared, SMALL, narrow)
    with pytest.raises(SearchError, match=r"options \(`space` is set in hpsearch.toml \[run\]\) to continue"):
        plan_study(storage, prepared, SMALL, replace(narrow, in_file=frozenset({"space", "trials"})))
    other = replace(with_settings(narrow, epochs=2), space="robust", given=given | {"epochs"})
    with pytest.raises(SearchError, match=r"with other settings \(the \d+ above\): omit") as many:
        plan_study(storage, prepared, SMALL, other)
    assert f"the {len(many.value.details)} above" in str(many.value) and len(many.value.details) > 3
    assert all(" (stored), " in line and line.endswith(" (requested)") for line in many.value.details)
    beside = plan_study(storage, prepared, SMALL, replace(other, new_version=True))
    assert {f"  {line}" for line in many.value.details} < set(beside.notes)
    planned = plan_study(storage, prepared, SMALL, replace(narrow, new_version=True))
    assert planned.settings.name == f"{first.settings.name}-v2"
    study.enqueue_trial({"dropout": 0.3})
    for trial, value in ((0, 0.9), (1, 0.6)):  # trained again
        store_replicate(
            storage, study.study_name, FinishedReplicate(Replicate(trial, 1), {"mean_macro_f1": value}), value
        )
    lines: list[str] = []
    newer = open_study(storage, planned, tmp_path, lines.append)
    assert replicates_of(storage, newer.study_name) == [FinishedReplicate(Replicate(0, 1), {"mean_macro_f1": 0.6})]
    assert lines[0] == f"1 of 2 trials of {first.settings.name} fit and are taken over"
    assert lines[1].startswith(f"1 unfinished trial of {first.settings.name} is not taken over: ")
    assert (
        f"--study {first.settings.name} --trials 3`" in lines[1] and f"--study {planned.settings.name} KEY" in lines[1]
    )
    (taken,) = newer.trials
    assert (taken.value, taken.params, taken.intermediate_values) == (0.8, {"dropout": 0.4}, {0: 0.8})
    weights = trial_folder(tmp_path, newer.study_name, 0) / WEIGHTS_FILE
    assert weights.read_text() == "weights of 0.4"
    again = plan_study(storage, prepared, SMALL, narrow)
    assert (again.is_new, again.settings) == (False, planned.settings)  # the latest version goes on
    same = plan_study(storage, prepared, SMALL, replace(narrow, new_version=True))
    assert (same.is_new, same.settings) == (False, planned.settings)  # the command that made it, given again
    with pytest.raises(SearchError, match="no setting differs"):
        plan_study(storage, prepared, SMALL, RunOptions.of(study=first.settings.name, new_version=True))
    shorter = RunOptions.of(study=first.settings.name, new_version=True, epochs=5, given=frozenset({"epochs"}))
    third = plan_study(storage, prepared, SMALL, shorter)
    assert (third.is_new, third.settings.name) == (True, f"{first.settings.name}-v3")
    open_study(storage, third, tmp_path, lines.append)
    repeated = plan_study(storage, prepared, SMALL, shorter)  # the command again, or another run of it beside
    assert (repeated.is_new, repeated.settings) == (False, third.settings)
    older = plan_study(storage, prepared, SMALL, RunOptions.of(study=first.settings.name))
    assert older.settings == first.settings


def test_a_set_without_views_is_searched_without_augmentation(tiny_npz: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["-w", str(tmp_path), "prepare", str(tiny_npz), "--levels", "none"])
    assert (done.exit_code, "views: none)" in done.stdout) == (0, True), done.output
    bare = PreparedSet.open(tmp_path / "prepared")
    for space in ("default", "robust"):
        planned = plan_study(None, bare, SMALL, RunOptions.of(space=space))
        (augmentation,) = (one for one in planned.definition.parameters if one.name == "augmentation")
        assert (augmentation.choices or (augmentation.value,)) == ("none",)
    with pytest.raises(SearchError, match="the prepared set has none: run `hpsearch prepare --levels low`"):
        read_versions(bare, 100, 0)


def test_a_study_whose_making_was_cut_off_is_made_anew(prepared: PreparedSet, tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    planned = plan_study(storage, prepared, SMALL, RunOptions())
    begun = create_study(storage, planned.settings)
    begun.enqueue_trial({"dropout": 0.3})
    begun.add_trial(optuna.create_trial(value=0.5, user_attrs={ATTRIBUTE: "{}", TAKEN_FROM: "another 0"}))
    assert not is_complete(begun)  # it got no further
    again = plan_study(storage, prepared, SMALL, RunOptions())
    assert again.is_new
    study = open_study(storage, again, tmp_path, lambda line: None)
    assert all(trial.state == TrialState.WAITING for trial in study.trials)
    assert is_complete(study)


def own_backbone(folder: Path, content: str) -> Backbone:
    """A file that looks like a network to the asking process, which opens none."""
    folder.mkdir()
    with ZipFile(folder / "cells.keras", "w") as archive:
        archive.writestr("config.json", f'{{"class_name": "{content}"}}')
    return asked_backbone(str(folder / "cells.keras"))


def test_another_file_of_the_same_name_is_refused_with_the_difference(prepared: PreparedSet, tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    one, other = own_backbone(tmp_path / "one", "A"), own_backbone(tmp_path / "other", "B")
    planned = plan_study(storage, prepared, one, RunOptions())
    lines: list[str] = []
    assert (planned.weights, planned.settings.weights, planned.settings.name[:6]) == ("own", "own", "cells-")
    study = open_study(storage, planned, tmp_path, lambda line: None)
    trial = study.ask()
    store_record(
        trial, TrialEnd(planned.definition.suggest(trial), [{"step": 0, "value": 0.5}], {"best": {"value": 0.5}})
    )
    study.tell(trial, 0.5)
    assert not plan_study(storage, prepared, one, RunOptions()).is_new
    with pytest.raises(SearchError, match=r"own_backbone\.sha256: .* \(stored\), .* \(requested\).*--new-version"):
        plan_study(storage, prepared, other, RunOptions())
    beside = plan_study(storage, prepared, other, RunOptions.of(new_version=True))
    open_study(storage, beside, tmp_path, lines.append)
    assert lines == [f"0 of 1 trials of {planned.settings.name} fit and are taken over"]
    workspace = Workspace(tmp_path / "workspace")
    copy = workspace.keep_backbone(str(tmp_path / "one" / "cells.keras"), one.own)
    job = job_maker(workspace, planned)(0, {}, 0)
    assert (job.source.own_backbone, job.source.backbone_file, job.source.weights) == (one.own, str(copy), "own")
    assert workspace.keep_backbone("not read", one.own) is None


def test_the_preprocessing_of_an_own_backbone_follows_the_study(prepared: PreparedSet, tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    asked = RunOptions.of(preprocessing="-1..1", given=frozenset({"preprocessing"}))
    planned = plan_study(storage, prepared, asked_backbone("nets:tiny", "-1..1"), asked)
    open_study(storage, planned, tmp_path, lambda line: None).ask()
    assert plan_study(storage, prepared, asked_backbone("nets:tiny"), RunOptions()).settings == planned.settings
    changed = replace(asked, preprocessing="inside")
    with pytest.raises(SearchError, match=r"own_backbone\.preprocessing: -1\.\.1 \(stored\), inside \(requested\)"):
        plan_study(storage, prepared, asked_backbone("nets:tiny", "inside"), changed)


def test_a_weights_file_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"weights")
    (tmp_path / "b.h5").write_bytes(b"weights")
    (tmp_path / "c.h5").write_bytes(b"others")
    one, same, other = (weights_identity(str(tmp_path / name)) for name in ("a.h5", "b.h5", "c.h5"))
    assert one == same != other
    assert weights_identity("imagenet") == "imagenet"


def test_an_objective_on_an_external_set_needs_that_set(prepared: PreparedSet, tmp_path: Path) -> None:
    def planned(objective: str, prepared: PreparedSet = prepared) -> StudySettings:
        options = RunOptions.of(objective=objective, given=frozenset({"objective"}))
        return plan_study(None, prepared, SMALL, options).settings

    assert planned("external:other").objective == "external:other"
    with pytest.raises(SearchError, match=r"needs an external set 'ward-b', and .* has other: name one of them"):
        planned("external:ward-b")
    without = {key: value for key, value in prepared.manifest.items() if key != "external"}
    with pytest.raises(SearchError, match=r"has none: .* prepare again with --external other=PATH --force"):
        planned("external:other", PreparedSet(prepared.folder, without))
    with pytest.raises(SearchError, match=r"unknown objective 'luck': .*, external:NAME"):
        planned("luck")


def test_precision_and_xla_are_decided_once_and_kept(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    workspace, worker = Workspace(prepared.folder.parent), Worker(tmp_path / "log", FAKE_WORKER)
    storage = open_storage(tmp_path / "studies.db")
    new = plan_study(storage, prepared, SMALL, RunOptions())
    assert (new.settings.precision, new.settings.xla) == ("float32", "off")  # until it is decided
    choice = choose_arithmetic(worker, workspace, new, RunOptions(), said.append)
    assert worker.process is None  # trials begin in a process that measured nothing
    planned = with_choice(new, choice)
    open_study(storage, planned, tmp_path, said.append).ask()
    assert said == [
        "trained in mixed_bfloat16 with XLA, measured on Fake GPU: float32 9.0 ms per step, 1.0 s compile time; "
        "mixed_bfloat16 9.0 ms per step, 1.0 s compile time; float32 with XLA 9.0 ms per step, 1.0 s compile time; "
        "mixed_bfloat16 with XLA 9.0 ms per step, 1.0 s compile time"
    ]
    every = frozenset({"precision", "xla"})
    for options in (RunOptions(), RunOptions.of(given=every), RunOptions.of(precision="measure", given=every)):
        again = plan_study(storage, prepared, SMALL, options)
        assert not again.is_new and again.settings == planned.settings
        assert choose_arithmetic(worker, workspace, again, options, said.append) == {}
    job = job_maker(workspace, again)(0, {}, 0)
    assert (job.settings.precision, job.settings.xla) == ("mixed_bfloat16", "on")
    for changed, words in [
        (
            RunOptions.of(precision="float32", given=every),
            r"precision: mixed_bfloat16 \(stored\), float32 \(requested\)",
        ),
        (RunOptions.of(xla="off", given=every), r"xla: on \(stored\), off \(requested\)"),
    ]:
        with pytest.raises(SearchError, match=words):
            plan_study(storage, prepared, SMALL, changed)
    beside = RunOptions.of(precision="float32", given=every, new_version=True)
    version = plan_study(storage, prepared, SMALL, beside)
    assert version.settings.arithmetic == "float32 with XLA"
    assert choose_arithmetic(worker, workspace, version, beside, said.append) == {}
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(SearchError, match="JAX always compiles with XLA"):
        plan_study(None, prepared, SMALL, RunOptions.of(xla="off", given=every))


def test_where_features_are_kept_is_decided_once_and_kept(
    prepared: PreparedSet, own_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    workspace, worker = Workspace(prepared.folder.parent), Worker(tmp_path / "log", FAKE_WORKER)
    storage = open_storage(tmp_path / "studies.db")
    options = RunOptions.of(weights=str(own_weights), precision="float32", xla="off", given=frozenset({"weights"}))
    new = plan_study(storage, prepared, SMALL, options)
    planned = with_choice(new, choose_arithmetic(worker, workspace, new, options, said.append))
    assert worker.process is None
    assert said == [
        "output of frozen layers is cached from 75% frozen on; measured on Fake GPU, compute and read time per view: "
        "75% frozen 0.020 and 0.010 ms"
    ]
    open_study(storage, planned, tmp_path, said.append).ask()
    for given in (options.given, options.given | {"prefix_cache"}):
        again = plan_study(storage, prepared, SMALL, replace(options, given=given))
        assert not again.is_new and again.settings == planned.settings
    assert job_maker(workspace, again)(0, {}, 0).settings.prefix_cache_from == 0.75
    assert set(kept_fractions(again)) == {1.0} < set(frozen_fractions(again))  # the head phase
    everywhere = replace(with_settings(options, prefix_cache="float32"), given=options.given | {"prefix_cache"})
    with pytest.raises(SearchError, match=r"prefix_cache_from: 0.75 \(stored\), 0.0 \(requested\)"):
        plan_study(storage, prepared, SMALL, everywhere)
    planned = plan_study(storage, prepared, SMALL, replace(everywhere, new_version=True))
    assert (planned.settings.prefix_cache, planned.settings.prefix_cache_from) == ("float32", 0.0)
    assert "cuts" not in planned.settings.measured and cache_text(planned.settings) == ""  # the user chose
    assert not list(workspace.folder.glob("cache*"))
    for asked in ("float32", "float16", "off"):
        explicit = with_settings(options, prefix_cache=asked)
        assert choose_arithmetic(worker, workspace, plan_study(None, prepared, SMALL, explicit), explicit, print) == {}
    nowhere = {"precision": "float32", "xla": False, "device": "Fake GPU", "steps": [], "cuts": [], "keep_from": None}
    monkeypatch.setattr(Worker, "choose", lambda self, request: nowhere)
    assert choose_arithmetic(worker, workspace, new, options, print)["prefix_cache"] == "off"


def test_a_version_with_weights_keeps_features_where_one_without_had_none(
    prepared: PreparedSet, own_weights: Path, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    untrained = plan_study(storage, prepared, SMALL, RunOptions())
    assert untrained.settings.prefix_cache == "off"
    open_study(storage, untrained, tmp_path, print).ask()
    options = RunOptions.of(weights=str(own_weights), new_version=True, given=frozenset({"weights"}))
    assert plan_study(storage, prepared, SMALL, options).settings.prefix_cache == "float32"


def test_a_study_goes_on_with_its_weights_whether_they_are_named_or_not(
    prepared: PreparedSet, own_weights: Path, tmp_path: Path
) -> None:
    backbone, storage = backbone_named("mobilenetv2_035"), open_storage(tmp_path / "studies.db")
    untrained = RunOptions.of(weights="none", given=frozenset({"weights"}))
    first = plan_study(storage, prepared, backbone, untrained)
    open_study(storage, first, tmp_path, print).ask()
    again = plan_study(storage, prepared, backbone, RunOptions())
    assert (again.is_new, again.weights, again.settings) == (False, "none", first.settings)
    longer = RunOptions.of(epochs=30, new_version=True, given=frozenset({"epochs"}))
    version = plan_study(storage, prepared, backbone, longer)
    assert (version.settings.weights, version.weights, version.head_epochs) == ("none", "none", 0)


def test_a_new_version_of_a_study_from_a_file_wants_that_file(
    prepared: PreparedSet, own_weights: Path, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "studies.db")
    from_file = RunOptions.of(weights=str(own_weights), given=frozenset({"weights"}))
    open_study(storage, plan_study(storage, prepared, SMALL, from_file), tmp_path, print).ask()
    longer = RunOptions.of(epochs=30, new_version=True, given=frozenset({"epochs"}))
    with pytest.raises(SearchError, match="made with weights from a file: name that file by --weights"):
        plan_study(storage, prepared, SMALL, longer)


def test_frozen_fractions_that_a_network_cannot_have_are_named(prepared: PreparedSet) -> None:
    planned = plan_study(None, prepared, backbone_named("vgg19"), RunOptions())
    assert moved_fractions(planned, [0.0, 0.27, 0.47, 0.73, 1.0]) == ""
    said = moved_fractions(planned, [0.0, 0.003, 0.999, 1.0])
    assert said.startswith(
        "the network can be cut only at 0%, 0%, 100%, 100% of its layers; frozen_fraction uses the nearest cut: 25% as"
    )
    assert ": 25% as 0%, 50% as 0%, 75% as 100% (" in said
    untrained = plan_study(None, prepared, SMALL, RunOptions())
    assert moved_fractions(untrained, [0.0, 1.0]) == ""


def test_what_the_user_chose_is_not_measured(prepared: PreparedSet, tmp_path: Path) -> None:
    workspace, worker = Workspace(prepared.folder.parent), Worker(tmp_path / "log", FAKE_WORKER)
    options = RunOptions.of(precision="mixed_bfloat16", xla="off")
    planned = plan_study(None, prepared, SMALL, options)
    assert choose_arithmetic(worker, workspace, planned, options, print) == {} and worker.process is None
    open_xla = with_settings(options, xla="auto")
    found = choose_arithmetic(worker, workspace, planned, open_xla, lambda line: None)
    assert (found["precision"], found["xla"], len(found["measured"]["steps"])) == ("mixed_bfloat16", "on", 2)


def test_a_setting_travels_from_the_options_to_the_training_process(prepared: PreparedSet, tmp_path: Path) -> None:
    storage, given = open_storage(tmp_path / "studies.db"), frozenset({"gradient_clip_norm"})
    planned = plan_study(storage, prepared, SMALL, RunOptions.of(gradient_clip_norm=0.5, given=given))
    open_study(storage, planned, tmp_path, print).ask()
    job = job_maker(Workspace(prepared.folder.parent), planned)(0, {}, 0)
    assert plan_of(TrainingJob.from_dict(json.loads(json.dumps(asdict(job))))).recipe.gradient_clip_norm == 0.5
    assert plan_study(storage, prepared, SMALL, RunOptions()).settings == planned.settings
    with pytest.raises(SearchError, match=r"--gradient-clip-norm: 0.5 \(stored\), 0.0 \(requested\)"):
        plan_study(storage, prepared, SMALL, RunOptions.of(gradient_clip_norm=0.0, given=given))


def test_a_setting_that_an_older_study_does_not_know_is_taken_at_its_default(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    storage, given = open_storage(tmp_path / "studies.db"), frozenset({"gradient_clip_norm"})
    planned = plan_study(storage, prepared, SMALL, RunOptions())
    recipe = {key: value for key, value in planned.settings.recipe.items() if key != "gradient_clip_norm"}
    older = replace(planned, settings=replace(planned.settings, recipe=recipe))
    open_study(storage, older, tmp_path, print).ask()
    same = plan_study(storage, prepared, SMALL, RunOptions.of(gradient_clip_norm=0.0, given=given))
    assert same.settings == older.settings
    with pytest.raises(SearchError, match=r"--gradient-clip-norm: absent \(stored\), 0.5 \(requested\)"):
        plan_study(storage, prepared, SMALL, RunOptions.of(gradient_clip_norm=0.5, given=given))


def test_a_study_from_before_precision_trains_as_it_did(prepared: PreparedSet) -> None:
    planned = plan_study(None, prepared, SMALL, RunOptions())
    later = ("precision", "xla", "measured")
    old = StudySettings(**{key: value for key, value in vars(planned.settings).items() if key not in later})
    assert old.arithmetic == "float32" and training_text(old) == ""
    job = job_maker(Workspace(prepared.folder.parent), replace(planned, settings=old))(0, {}, 0)
    assert not {"precision", "xla", "replayed"} & set(job.facts())
    assert {"precision", "xla"} < set(replace(job, settings=replace(old, precision="mixed_bfloat16", xla="on")).facts())


def test_a_study_keeps_its_objective_when_none_is_named(prepared: PreparedSet, tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    asked = RunOptions.of(objective="worst_family_macro_f1", given=frozenset({"objective"}))
    first = plan_study(storage, prepared, SMALL, asked)
    open_study(storage, first, tmp_path, print)
    again = plan_study(storage, prepared, SMALL, RunOptions())
    assert (again.is_new, again.settings.objective) == (False, "worst_family_macro_f1")
