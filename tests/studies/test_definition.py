"""Search spaces in TOML: what they allow, what they refuse, and the one that ships."""

from __future__ import annotations

import codecs
import random
from pathlib import Path

import optuna
import pytest

from models.backbones.registry import BACKBONES
from models.hyperparameters import Hyperparameters, names
from models.training.optimizers import RULES
from studies.definition import SHIPPED, definition_of, read_definition
from studies.errors import StudyError

KNOWN = names()
BACKBONE_NAMES = [row.name for row in BACKBONES]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("backbone", [row.name for row in BACKBONES])
def test_the_default_space_gives_valid_hyperparameters_for_every_backbone(backbone: str) -> None:
    definition = read_definition("default", backbone, KNOWN, BACKBONE_NAMES)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    chosen = [Hyperparameters.from_dict(definition.suggest(study.ask())) for _ in range(60)]
    assert {one.optimizer for one in chosen} == set(RULES) - {"lion"}  # which wants a range of rates of its own
    assert all(definition.why_not(definition.suggest(study.ask())) is None for _ in range(5))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("backbone", ["mobilenetv2_035", "small_cnn"])
def test_every_shipped_space_gives_valid_hyperparameters(name: str, backbone: str) -> None:
    definition = read_definition(name, backbone, KNOWN, BACKBONE_NAMES)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        chosen = definition.suggest(study.ask())
        assert Hyperparameters.from_dict(chosen)
        assert definition.why_not(chosen) is None


@pytest.mark.parametrize("space", ["default", "robust"])
@pytest.mark.parametrize("backbone", ["vgg19", "mobilenetv2_035", "nasnetmobile"])
def test_what_a_space_starts_with_is_in_it(space: str, backbone: str) -> None:
    definition = read_definition(space, backbone, KNOWN, BACKBONE_NAMES)
    assert definition.first
    assert [definition.why_not(first) for first in definition.first] == [None] * len(definition.first)


def test_lion_is_searched_where_a_space_says_so(tmp_path: Path) -> None:
    text = """[space.optimizer]\nchoices = ["adamw", "lion"]\n[space.weight_decay]\nlow = 1e-4\nhigh = 1.0\nlog = true
    when = { optimizer = ["lion"] }"""
    definition = read_definition(str(written(tmp_path, text)), "vgg19", KNOWN, BACKBONE_NAMES)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    chosen = [definition.suggest(study.ask()) for _ in range(20)]
    assert {one["optimizer"] for one in chosen if "weight_decay" in one} == {"lion"}
    assert all(Hyperparameters.from_dict(one) for one in chosen)


def test_a_fixed_parameter_is_not_searched() -> None:
    small = read_definition("default", "small_cnn", KNOWN, BACKBONE_NAMES)
    assert small.why_not({"frozen_fraction": 0.5}) == "`frozen_fraction` = 0.5 is outside the search space"
    assert "frozen_fraction" not in small.searched({"frozen_fraction": 0.0, "dropout": 0.1})


def test_a_parameter_is_used_only_when_its_condition_holds() -> None:
    definition = definition_of(
        {"optimizer": {"choices": ["sgd", "adam"]}, "momentum": {"low": 0, "high": 1, "when": {"optimizer": ["sgd"]}}}
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for chosen in (definition.suggest(study.ask()) for _ in range(20)):
        assert ("momentum" in chosen) == (chosen["optimizer"] == "sgd")
    assert definition.why_not({"optimizer": "adam", "momentum": 0.5}) == "`momentum` is not in the search space"
    assert definition.why_not({"optimizer": "sgd"}) == "`momentum` is missing"


def test_a_space_survives_being_stored() -> None:
    definition = read_definition("default", "small_cnn", KNOWN, BACKBONE_NAMES)
    assert definition_of(definition.as_dict()).as_dict() == definition.as_dict()
    assert definition_of(definition.as_dict()).parameters == definition.parameters


def test_augmentation_choices_that_a_prepared_set_lacks_are_left_out() -> None:
    definition = read_definition("default", "vgg19", KNOWN, BACKBONE_NAMES).without_levels(["low"])
    (augmentation,) = [parameter for parameter in definition.parameters if parameter.name == "augmentation"]
    assert augmentation.choices == ("none", "low")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[space.dropuot]\nvalue = 0.1", "unknown key `dropuot`; did you mean `dropout`?"),
        ("[spcae.dropout]\nvalue = 0.1", "unknown key `spcae`; did you mean `space`?"),
        ("[space.dropout]\nlow = 0.5\nhigh = 0.1", "`low <= high` must hold, but got low=0.5, high=0.1"),
        ("[space.dropout]\nlow = 0.5", "`low <= high` must hold"),
        ("[space.dropout]\nhihg = 0.5", "unknown key `hihg`; did you mean `high`?"),
        ("[space.dropout]\nvalue = 0.1\nlow = 0.1\nhigh = 0.2", "needs one of `value`, `choices`, or `low` and `high`"),
        ("[space.learning_rate]\nlow = 0.0\nhigh = 0.1\nlog = true", "`log` needs `low > 0`"),
        ("[space.optimizer]\nchoices = 'sgd'", "`choices` must be a list, but is 'sgd'"),
        ("[space]\ndropout = 0.1", "`dropout` must be a table, but is 0.1"),
        ("space = 3", "`space` must be a table, but is 3"),
        ("[space.momentum]\nvalue = 0.9\nwhen = {optimizer = ['sgd']}", "unknown key `optimizer`"),
        (
            "[space.momentum]\nvalue = 0.9\nwhen = {optimizer = ['sgd']}\n[space.optimizer]\nvalue = 'sgd'",
            "[space.momentum] when: `optimizer` must stand before `momentum`: move its table up",
        ),
        ("[space.dropout]\nchoices = [0.1, 0.2]\nlog = true", "`log` and `step` need `low` and `high`"),
        ("[space.dropout]\nvalue = 0.1\nstep = 0.1", "`log` and `step` need `low` and `high`"),
        ("[space.dropout", "cannot be read"),
        ("", "defines no parameter"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        read_definition(str(written(tmp_path, text)), "vgg19", KNOWN, BACKBONE_NAMES)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "`" in str(caught.value)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, b""])
def test_a_space_may_come_from_any_editor(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "space.toml"
    path.write_bytes(mark + "# 学习\r\n[space.dropout]\r\nvalue = 0.1\r\n".encode())
    (parameter,) = read_definition(str(path), "vgg19", KNOWN, BACKBONE_NAMES).parameters
    assert parameter.value == 0.1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_a_space_in_another_encoding_is_refused_with_the_way_out(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "space.toml"
    path.write_bytes("# dropout für alle\n[space.dropout]\nvalue = 0.1\n".encode(encoding))
    with pytest.raises(StudyError, match=r"space\.toml is not UTF-8 text.*: save it as UTF-8"):
        read_definition(str(path), "vgg19", KNOWN, BACKBONE_NAMES)


def test_a_space_stays_in_its_bounds() -> None:
    definition = definition_of({"frozen_fraction": {"low": 0.0, "high": 0.75, "step": 0.25}})
    assert definition.why_not({"frozen_fraction": 0.5}) is None
    rng = random.Random(0)
    for _ in range(20):
        value = rng.uniform(0.76, 2)
        assert definition.why_not({"frozen_fraction": value}) is not None
    assert definition.why_not({"frozen_fraction": 0.3}) is not None


CHOICES = '[space.optimizer]\nchoices = ["sgd", "adam"]\n'
MOMENTUM = "[space.momentum]\nlow = 0.1\nhigh = 0.9\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CHOICES + MOMENTUM + "when = { optimizer = [] }", "`optimizer` has no value: list some of sgd, adam"),
        ("[space.dropout]\nlow = 0.1\nhigh = 0.5\n" + MOMENTUM + "when = { dropout = [0.1] }", "`dropout` is a range"),
        ('[space.dropout]\nlow = "0.1"\nhigh = 0.5', "`low` must be a number, without quotes, but is '0.1'"),
        ('[space.dropout]\nlow = 0.1\nhigh = 0.5\nstep = "0.1"', "`step` must be a number, without quotes"),
        ("[space.dropout]\nchoices = [0.1, 0.2, 0.1]", "`choices` must differ, but 0.1 is there 2 times"),
        ("[space.dropout]\nchoices = [0.1, nan]", "numbers must be finite, but got nan"),
        ("[space.dropout]\nvalue = inf", "numbers must be finite, but got inf"),
        ("[space.dropout]\nlow = 0.0\nhigh = 0.5\nstep = 0.7", "`step` must be at most high - low"),
        (
            "[space.learning_rate]\nlow = 0.1\nhigh = 0.5\nlog = true\nstep = 0.1",
            "no `step`, but got low=0.1",
        ),
    ],
)
def test_a_mistake_in_a_space_is_named_by_file_and_place(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(StudyError) as refused:
        read_definition(str(file), "vgg19", KNOWN, BACKBONE_NAMES)
    assert str(file) in str(refused.value) and message in str(refused.value) and "\n" not in str(refused.value)


def test_a_step_that_does_not_reach_the_end_is_said_and_optuna_warns_of_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "[space.dropout]\nlow = 0.1\nhigh = 0.6\nstep = 0.2")
    definition = read_definition(str(file), "vgg19", KNOWN, BACKBONE_NAMES)
    assert definition.notes() == ["`dropout` goes from 0.1 in steps of 0.2 up to 0.5, not 0.6"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = {round(float(definition.suggest(study.ask())["dropout"]), 6) for _ in range(40)}  # warnings are errors
    assert found == {0.1, 0.3, 0.5}
    assert read_definition("default", "vgg19", KNOWN, BACKBONE_NAMES).notes() == []


def test_a_parameter_that_no_trial_uses_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, '[space.optimizer]\nchoices = ["adam"]\n' + MOMENTUM + 'when = { optimizer = ["sgd"] }')
    definition = read_definition(str(file), "vgg19", KNOWN, BACKBONE_NAMES)
    assert definition.notes() == ["`momentum` is never used: `optimizer` is never sgd"]
