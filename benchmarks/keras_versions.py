"""Open exported models with other versions of Keras, under each backend, and compare the answers.

    python benchmarks/keras_versions.py FOLDER [--backbones small_cnn,mobilenetv2_035] [--backends tensorflow,jax,numpy]

FOLDER holds the versions, each in a folder of its own. Keras is pure Python, so this installs one:

    pip install --no-deps --target FOLDER/keras-3.8.0 keras==3.8.0

TensorFlow, JAX and NumPy are those of the environment that runs the script. For each backbone it writes two models as
`export-best` does, with random weights: the plain one, and an average of two with test-time augmentation. A process of
each version and backend opens both and answers 100 images. The table shows the largest difference of a probability to
the answers of the installed Keras, and whether every image gets the same class.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

IMAGES, CLASSES, SIDE = 100, 5, 32
BACKENDS = "tensorflow,jax,numpy"
ANSWER = """
import sys
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
given, wanted = np.load(sys.argv[2]), np.load(sys.argv[3])
found = np.asarray(model.predict(given, verbose=0))
same = bool((found.argmax(axis=1) == wanted.argmax(axis=1)).all())
print(f"RESULT {keras.__version__} {np.abs(found - wanted).max():.1e} {same}")
"""


def write_models(backbone: str, folder: Path, images: np.ndarray) -> list[Path]:
    """Write two models of a backbone, and beside each its answers to the images as NAME.npy."""
    import keras

    from models.backbones.registry import backbone_named
    from models.formats.keras_file import Member, save_model
    from models.networks.classifier import ClassifierSettings, make_classifier

    settings = ClassifierSettings(backbone_named(backbone), "none", (SIDE, SIDE, 3), CLASSES)
    members = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        weights = folder / f"{backbone}-{seed}.weights.h5"
        make_classifier(settings, 0.1).joined.save_weights(weights)
        members.append(Member(settings, 0.1, weights))
    written = []
    for name, chosen, orientations in (("plain", members[:1], False), ("average", members, True)):
        path = folder / f"{backbone}-{name}.keras"
        save_model(chosen, path, orientations)
        answers = keras.saving.load_model(path).predict(images, verbose=0)
        np.save(path.with_suffix(".npy"), answers)
        written.append(path)
    return written


def answered(model: Path, images: Path, version: Path, backend: str) -> str:
    """Return what a process of this version and backend found: the largest difference, or why it failed."""
    env = os.environ | {"PYTHONPATH": str(version), "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", "-c", ANSWER, str(model), str(images), str(model.with_suffix(".npy"))]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        return "fails: " + " ".join(done.stderr.split())[-160:]
    _, _, difference, same = lines[0]
    return difference if same == "True" else f"{difference}, other classes"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbones", default="small_cnn,mobilenetv2_035")
    parser.add_argument("--backends", default=BACKENDS)
    arguments = parser.parse_args()
    versions = sorted(arguments.folder.glob("keras-*"), key=lambda path: [int(n) for n in path.name[6:].split(".")])
    if not versions:
        parser.error(f"{arguments.folder} has no folder keras-VERSION")
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch, "images.npy")
        np.save(given, images)
        for backbone in arguments.backbones.split(","):
            for model in write_models(backbone, Path(scratch), images):
                for version in versions:
                    for backend in arguments.backends.split(","):
                        found = answered(model, given, version, backend)
                        print(f"{model.stem:28} {version.name:14} {backend:10} {found}", flush=True)


if __name__ == "__main__":
    main()
