"""Check every backbone against its row in models/backbones/registry.py.

    python benchmarks/contract.py run OUT.json [NAME ...]
    python benchmarks/contract.py show OUT.json

`run` builds each backbone (or only those named) in a process of its own, at the smallest image size that the row
allows, and checks parameters, cut points, weights file, preprocessing, the split into prefix and suffix, and the saved
file. It exits with 1 if a backbone does not match its row. No weights are downloaded: the name of the file that
keras.applications asks for is compared with the row, and random weights take its place, with batch norm set so that
features differ between images. tests/models/backbones/test_registry.py runs the same checks on the smaller backbones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np

from models.backbones.preprocessing import BGR_MEANS, PREPROCESSING, RGB_DEVIATIONS, RGB_MEANS
from models.backbones.registry import BACKBONES, Backbone, backbone_named, default_weights, weights_path
from models.formats.conversion import predict_in_fresh_process
from models.networks.classifier import ClassifierSettings
from models.networks.kept_networks import Network

CLASSES, IMAGES = 3, 16
AGREEMENT = 0.01
"""Largest allowed difference between probabilities, as a share of their standard deviation over images. Graphs may sum
float32 numbers in different orders."""
NORM_SCALE = 0.3
"""Gamma of the batch norm layers. At 1, its initial value, a deep network amplifies rounding errors layer by layer: in
EfficientNetV2M to 0.013 of the standard deviation over images, against 0.00003 at 0.3."""
RANGES = {
    "-1..1": (-1.0, 1.0),
    "bgr-mean": (-max(BGR_MEANS), 255 - min(BGR_MEANS)),
    "rgb-mean-std": (-RGB_MEANS[0] / RGB_DEVIATIONS[0], (1 - RGB_MEANS[2]) / RGB_DEVIATIONS[2]),
    "inside": (0.0, 255.0),
}


@dataclass(frozen=True)
class Subject:
    """A backbone's network, with random weights in place of pretrained ones."""

    network: Network
    weights_file: str | None
    """Name of the file that keras.applications asked for, if any."""
    images: np.ndarray
    """uint8 (IMAGES, size, size, 3)."""
    probabilities: np.ndarray
    """Output of the undivided network, float32 (IMAGES, CLASSES)."""

    @property
    def row(self) -> Backbone:
        return self.network.classifier.settings.backbone

    def must_give(self, probabilities: Any) -> None:
        """Compare with the probabilities of the undivided network.

        Raises:
            AssertionError: They differ by more than AGREEMENT.
        """
        spread = float(self.probabilities.std(axis=0).max())
        np.testing.assert_allclose(probabilities, self.probabilities, rtol=0, atol=AGREEMENT * spread)


def subject_of(row: Backbone) -> Subject:
    """Build a backbone's network and compute its probabilities on random images."""
    shape = (row.min_size, row.min_size, 3)
    keras.utils.set_random_seed(0)
    with _no_download() as asked:
        network = Network(ClassifierSettings(row, default_weights(row), shape, CLASSES))
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    _settle(network, images)
    probabilities = np.asarray(network.classifier.joined(images, training=False))
    return Subject(network, asked[0] if asked else None, images, probabilities)


@contextmanager
def _no_download() -> Iterator[list[str]]:
    """Record the names of requested weights files, without downloading or loading any."""
    asked: list[str] = []

    def get_file(name: str, *_: Any, **__: Any) -> str:
        asked.append(name)
        return name

    with (
        mock.patch("keras.src.utils.file_utils.get_file", get_file),
        mock.patch.object(keras.Model, "load_weights"),
    ):
        yield asked


def _settle(network: Network, images: np.ndarray) -> None:
    """Set batch norm to the statistics of the images: without them, features of an untrained network are constant."""
    layers = list(network.classifier.network._flatten_layers())
    norms = [(one, "momentum") for one in layers if isinstance(one, keras.layers.BatchNormalization)]
    drops = [(one, "rate") for one in layers if isinstance(one, keras.layers.Dropout)]
    for norm, _ in norms:
        if norm.scale:
            norm.gamma.assign(np.full(norm.gamma.shape, NORM_SCALE))
    before = [getattr(layer, name) for layer, name in norms + drops]
    for layer, name in norms + drops:
        setattr(layer, name, 0.0)
    network.classifier.network(PREPROCESSING[network.classifier.settings.backbone.preprocessing](images), training=True)
    for (layer, name), value in zip(norms + drops, before, strict=True):
        setattr(layer, name, value)


def check_row(subject: Subject) -> None:
    """Check the number of parameters, the cut points and the weights file."""
    classifier, row = subject.network.classifier, subject.row
    assert classifier.network.count_params() == row.parameters
    assert tuple(dict.fromkeys(round(cut.fraction, 2) for cut in classifier.cuts)) == row.cuts
    fractions = [cut.fraction for cut in classifier.cuts]
    assert (fractions[0], fractions[-1]) == (0, 1) and fractions == sorted(set(fractions))
    assert abs(classifier.cuts[-1].parameter_fraction - 1) < 1e-6
    expected = weights_path(row, classifier.settings.image_shape).name if row.weights_file else None
    assert subject.weights_file == expected


def check_preprocessing(subject: Subject) -> None:
    """Check that preprocessing returns float32 in the range that the row names."""
    shape = subject.images.shape[1:]
    extremes = np.stack([np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)])
    out = keras.ops.convert_to_numpy(PREPROCESSING[subject.row.preprocessing](extremes))
    assert out.dtype == np.float32
    np.testing.assert_allclose((out.min(), out.max()), RANGES[subject.row.preprocessing], atol=1e-3)


def check_images_are_told_apart(subject: Subject) -> None:
    """Check that probabilities differ between images; the other checks would else compare constants."""
    assert np.isfinite(subject.probabilities).all()
    assert subject.probabilities.std(axis=0).max() > 1e-4


def check_cuts(subject: Subject) -> None:
    """Check at each cut point that prefix and suffix together give the output of the whole network."""
    classifier = subject.network.classifier
    before = keras.Model(classifier.network.inputs[0], [cut.tensor for cut in classifier.cuts])
    features = before(PREPROCESSING[subject.row.preprocessing](subject.images), training=False)
    for cut, feature in zip(classifier.cuts, features, strict=True):
        x = feature if cut.fraction == 1 else keras.Model(cut.tensor, classifier.network.outputs[0])(feature)
        for layer in classifier.head:
            x = layer(x, training=False)
        subject.must_give(x)


def check_parts(subject: Subject, fractions: Sequence[float] = (0.0, 0.5, 1.0)) -> None:
    """Check that the networks of trials give the output of the whole, with and without cached prefix features."""
    for fraction in fractions:
        part = subject.network.part(fraction)
        subject.must_give(part.model(subject.images, training=False))
        behind = subject.network.part(fraction, on_features=True)
        assert behind.prefix is not None
        features = behind.prefix(subject.images, training=False)
        subject.must_give(behind.model(features, training=False))


def check_opens_in_plain_keras(subject: Subject, folder: Path, fresh_process: bool = False) -> None:
    """Check that the saved network gives the same probabilities when plain Keras opens it, without hpsearch's code."""
    path = folder / "model.keras"
    subject.network.classifier.joined.save(path)
    if fresh_process:
        np.save(folder / "images.npy", subject.images)
        (reloaded,) = predict_in_fresh_process(path, [folder / "images.npy"], folder)
    else:
        reloaded = np.asarray(keras.saving.load_model(path, safe_mode=True)(subject.images, training=False))
    path.unlink()
    subject.must_give(reloaded)


def measure(row: Backbone) -> dict[str, Any]:
    """Run all checks on one backbone, and return its figures with the seconds of each step."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 1)

    with timed("build"):
        subject = subject_of(row)
    with timed("row"):
        check_row(subject)
        check_preprocessing(subject)
        check_images_are_told_apart(subject)
    with timed("plain_keras"), tempfile.TemporaryDirectory() as folder:
        check_opens_in_plain_keras(subject, Path(folder), fresh_process=True)
    with timed("cuts"):
        check_cuts(subject)
    with timed("parts"):
        check_parts(subject)
    cuts = subject.network.classifier.cuts
    return {
        "parameters": subject.network.classifier.network.count_params(),
        "size": row.min_size,
        "cuts": [
            {"layers": round(cut.fraction, 4), "parameters": round(cut.parameter_fraction, 4), "layer": cut.layer}
            for cut in cuts
        ],
        "probabilities_std": float(f"{subject.probabilities.std(axis=0).max():.2g}"),
        "seconds": seconds,
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}, Keras {keras.__version__}",
        "date": time.strftime("%Y-%m-%d"),
    }


def run(target: Path, names: list[str]) -> bool:
    """Check backbones, each in a process of its own so that memory is freed; return whether all match their rows."""
    table = json.loads(target.read_text()) if target.exists() else {}
    kept = True
    for name in names or [row.name for row in BACKBONES]:
        command = [sys.executable, __file__, "one", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            table[name] = json.loads(done.stdout.splitlines()[-1])
        else:
            kept, table[name] = False, {"broken": done.stderr.strip().splitlines()[-1:]}
        target.write_text(json.dumps(table, indent=1) + "\n")
        show({name: table[name]})
    return kept


def show(table: dict[str, Any]) -> None:
    for name, entry in table.items():
        if "broken" in entry:
            print(f"{name}: BROKEN: {' '.join(entry['broken'])}", flush=True)
            continue
        cuts = ", ".join(f"{cut['layers']:.2f}" for cut in entry["cuts"])
        seconds = ", ".join(f"{key} {value} s" for key, value in entry["seconds"].items())
        print(
            f"{name}: {entry['parameters']:,} parameters, {entry['size']} px, cut points {cuts}; {seconds}", flush=True
        )


def _name(text: str) -> str:
    if text not in (known := [row.name for row in BACKBONES]):
        raise argparse.ArgumentTypeError(f"unknown backbone {text!r}: `hpsearch backbones` lists the {len(known)}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, what in (("run", "check backbones, all without a NAME"), ("show", "print the table")):
        commands.add_parser(command, help=what).add_argument("out", type=Path)
    commands.choices["run"].add_argument("names", nargs="*", type=_name, metavar="NAME")
    commands.add_parser("one", help="check one backbone and print its figures as JSON").add_argument("name", type=_name)
    options = parser.parse_args()
    if options.command == "one":
        print(json.dumps(measure(backbone_named(options.name))))
    elif options.command == "run":
        sys.exit(not run(options.out, options.names))
    else:
        show(json.loads(options.out.read_text()))


if __name__ == "__main__":
    main()
