"""The ablation's rows: each is a change that trials can have."""

from __future__ import annotations

import pytest

from benchmarks.ablation import CHANGES, Change, base_trial
from models.hyperparameters import Hyperparameters


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_each_row_changes_the_base_trial(change: Change) -> None:
    changed = Hyperparameters.from_dict(base_trial() | change.hyperparameters)
    is_same = changed == Hyperparameters.from_dict(base_trial())
    assert is_same == (not change.hyperparameters)
