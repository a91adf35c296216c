"""The shapes of the learning rate's schedules."""

from __future__ import annotations

import numpy as np
import pytest

from models.hyperparameters import SCHEDULE_NAMES
from models.training.schedules import LOWEST, SCHEDULES


def test_the_names_are_those_that_hyperparameters_know() -> None:
    assert tuple(SCHEDULES) == SCHEDULE_NAMES


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_begins_at_the_full_rate_and_stays_within_it(name: str) -> None:
    shares = [SCHEDULES[name](done) for done in np.linspace(0, 1, 101)]
    assert shares[0] == 1
    assert all(0 <= share <= 1 for share in shares)


def test_falling_schedules_end_low_and_cycles_come_back_twice() -> None:
    assert SCHEDULES["cosine"](1) == pytest.approx(0)
    assert SCHEDULES["cyclic"](1) == pytest.approx(LOWEST)
    shares = np.array([SCHEDULES["cyclic"](done) for done in np.linspace(0, 1, 1001)])
    assert ((shares[1:-1] > shares[:-2]) & (shares[1:-1] >= shares[2:])).sum() == 2
