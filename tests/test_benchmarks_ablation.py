"""The ablation's rows: each is a change that trials can have."""

from __future__ import annotations

import pytest

from benchmarks.ablation import CHANGES, Change, first_trial
from models.hyperparameters import Hyperparameters


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_each_row_changes_the_first_trial_of_the_robust_study(change: Change) -> None:
    changed = Hyperparameters.from_dict(first_trial() | change.hyperparameters)
    is_same = changed == Hyperparameters.from_dict(first_trial())
    assert is_same == (not change.hyperparameters)
