"""Every format of an export, whatever backend Keras runs on in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.formats.registry import FORMATS

SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace

import keras, numpy as np

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import backbone_named
from models.formats.conversion import predict_in_fresh_process
from models.formats.keras_file import Member, save_model
from models.networks.classifier import ClassifierSettings, make_classifier
from search.exporting.format_files import write_formats
from search.exporting.scored_parts import PARTS

prepared, folder, names = PreparedSet.open(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3:]
assert keras.backend.backend() == "jax"
settings = ClassifierSettings(backbone_named("small_cnn"), "none", prepared.image_shape, 3)
make_classifier(settings, 0.1).joined.save_weights(folder.parent / "own.weights.h5")
save_model([Member(settings, 0.1, folder.parent / "own.weights.h5")], folder / "model.keras")
images = next(part for part in PARTS if part.split == "validation" and not part.key).file(prepared)
(expected,) = predict_in_fresh_process(folder / "model.keras", [images], folder.parent)
chosen = SimpleNamespace(validation={"": SimpleNamespace(probabilities=expected)}, difference=0.0,
                         variant=SimpleNamespace(members=()))
rows = write_formats(names, chosen, prepared, folder)
print("written:", *(name for name, row in rows.items() if row["largest_difference"] <= row["tolerance"]))
"""


@pytest.mark.slow
def test_every_format_is_written_and_checked_under_jax(tiny_workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    names = [row.name for row in FORMATS.values() if row.write]
    arguments = [str(tiny_workspace / "prepared"), str(tmp_path / "export"), *names]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"written: {' '.join(FORMATS)}"
