"""The real blood cells, where they are at hand: cleaning finds the 1,800 anomalies without being shown them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.prepare import counts, decide
from data_prep.progress import Silent
from data_prep.settings import PrepareSettings
from data_prep.sources.registry import read_source

DATA = Path(os.environ.get("HPSEARCH_REAL_DATA", Path(__file__).parents[4] / "shared" / "data"))
SCRIPT = DATA / "make_training_set.py"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the real images are not here: HPSEARCH_REAL_DATA names their folder")
def test_the_real_set_is_cleaned_as_known(tmp_path: Path) -> None:
    npz = tmp_path / "training_set.npz"
    subprocess.run([sys.executable, str(SCRIPT), str(npz)], check=True, capture_output=True)
    data = read_source(str(npz), 96)
    decisions = decide(data, PrepareSettings(str(npz)), Silent())
    found = counts(data, decisions)
    assert found["rejected"] == {"recurring picture": 1800, "copy": 16, "contradicting labels": 2}
    assert found["kept"] == 11941
    per_class = [sum(side) for side in zip(*found["per_split"].values(), strict=True)]
    assert per_class == [846, 2174, 1085, 2023, 849, 992, 2329, 1643]
