"""Hyperparameters proposed for a trial: what is refused, and how another study's are brought into a space."""

from __future__ import annotations

import optuna
import pytest

from studies.definition import definition_of
from studies.errors import StudyError
from studies.proposals import enqueue, fitted, read_proposal, tried

SPACE = definition_of(
    {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "frozen_fraction": {"low": 0.0, "high": 0.75, "step": 0.25},
        "optimizer": {"choices": ["adamw", "sgd"]},
        "momentum": {"low": 0.8, "high": 0.97, "when": {"optimizer": ["sgd"]}},
        "flips": {"choices": [True, False]},
        "views_per_image": {"choices": [1, 2]},
        "dropout": {"value": 0.3},
    }
)


def test_words_become_the_spaces_own_values() -> None:
    words = ["learning_rate=2e-3", "optimizer=sgd", "momentum=0.9", "flips=true", "views_per_image=2", "dropout=0.3"]
    assert read_proposal(SPACE, words, "s").values == {
        "learning_rate": 0.002, "optimizer": "sgd", "momentum": 0.9, "flips": True, "views_per_image": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("learning_rate=0.5", "must be a number from 0.0001 to 0.01, but is '0.5'"),
        ("learning_rate=nan", "must be a number from 0.0001 to 0.01, but is 'nan'"),
        ("learning_rate=fast", "must be a number from 0.0001 to 0.01, but is 'fast'"),
        ("frozen_fraction=0.3", "must be a number from 0 to 0.75 in steps of 0.25, but is '0.3'"),
        ("optimizer=lion", "must be one of adamw, sgd, but is 'lion'"),
        ("flips=1", "must be one of True, False, but is '1'"),
        ("dropout=0.1", "must be 0.3 (fixed in this study), but is '0.1'"),
        ("learning_rat=0.001", "did you mean `learning_rate`?"),
        ("learning_rate", "'learning_rate' must be a hyperparameter and its value"),
        ("momentum=0.9", "`momentum` is only used when optimizer=sgd"),
        ("optimizer=adamw momentum=0.9", "`momentum` is only used when optimizer=sgd"),
        ("flips=true flips=false", "`flips` is given 2 times"),
    ],
)
def test_what_lies_outside_the_space_is_refused_with_what_is_allowed(words: str, part: str) -> None:
    with pytest.raises(StudyError) as caught:
        read_proposal(SPACE, words.split(), "s")
    assert part in str(caught.value)


def test_another_studys_values_are_moved_into_the_space_or_left_to_the_sampler() -> None:
    other = {"learning_rate": 0.05, "frozen_fraction": 0.6, "optimizer": "lion", "momentum": 0.9, "dropout": 0.1}
    found = fitted(SPACE, other | {"flips": True, "layer_scale": 2})
    assert found.values == {"learning_rate": 0.01, "frozen_fraction": 0.5, "flips": True}
    assert found.notes == (
        "`layer_scale` is dropped",
        "`learning_rate` 0.05 becomes 0.01",
        "`frozen_fraction` 0.6 becomes 0.5",
        "`optimizer` is left to the sampler, lion is unknown",
        "`views_per_image` is left to the sampler",
        "`dropout` is fixed at 0.3",
    )


def test_values_of_the_space_itself_stay_as_they_are() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        chosen = SPACE.suggest(study.ask())
        assert fitted(SPACE, chosen).values == SPACE.searched(chosen)
        assert fitted(SPACE, chosen).notes == ()


def test_a_proposal_is_given_out_first_and_the_sampler_proposes_the_rest() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.tell(study.ask(), 0.5)
    proposal = read_proposal(SPACE, ["learning_rate=0.002", "optimizer=sgd"], "s")
    assert tried(study, proposal.values) is None
    assert enqueue(study, proposal, {"from": "me"}) == 1
    assert tried(study, proposal.values) == 1
    trial = study.ask()
    chosen = SPACE.suggest(trial)
    assert (trial.number, chosen["learning_rate"], chosen["optimizer"]) == (1, 0.002, "sgd")
    assert trial.user_attrs == {"from": "me"}
    assert SPACE.why_not(chosen) is None
    assert tried(study, SPACE.searched(chosen)) == 1
