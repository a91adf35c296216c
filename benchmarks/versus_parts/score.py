"""Score snapshots on the held-out fold: the evaluator that all systems share. Part of ../versus.py.

    python benchmarks/versus_parts/score.py FOLD.npz < REQUEST.json > SCORES.json

The request has `network` (`peer` or `hpsearch`) and `weights`, a list of files. SCORES has `macro_f1` and `accuracy` of
each. It runs in a process of its own, so that no system shares memory with this TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

BACKBONE, PREDICT_BATCH = "mobilenetv2_035", 128


def peer(shape: tuple[int, ...], classes: int) -> Any:
    from peers import network

    return network(shape, classes, 0.0, None)[0]


def hpsearch(shape: tuple[int, ...], classes: int) -> Any:
    from models.backbones.registry import UNTRAINED, backbone_named
    from models.networks.classifier import ClassifierSettings, make_classifier

    height, width, channels = shape
    settings = ClassifierSettings(backbone_named(BACKBONE), UNTRAINED, (height, width, channels), classes)
    return make_classifier(settings, 0.0).joined


NETWORKS = {"peer": peer, "hpsearch": hpsearch}


def load(model: Any, file: Path) -> None:
    """Load the weights of a whole network.

    Args:
        model: The network.
        file: Keras's `.weights.h5`, a peer's list of arrays, or a trial's checkpoint, whose group `best` is used.
    """
    if file.suffix == ".h5":
        model.load_weights(file)
        return
    with np.load(file, allow_pickle=False) as content:
        names = [name for name in content.files if name.startswith("best/")] or content.files
        model.set_weights([content[name] for name in names])


def main() -> None:
    request = json.load(sys.stdin)
    with np.load(sys.argv[1]) as archive:
        images, labels = archive["images"], archive["labels"].ravel()
    model = NETWORKS[request["network"]](images.shape[1:], int(labels.max()) + 1)
    scores = []
    for file in request["weights"]:
        load(model, Path(file))
        guesses = model.predict(images, batch_size=PREDICT_BATCH, verbose=0).argmax(axis=1)
        macro_f1 = f1_score(labels, guesses, average="macro", zero_division=0)
        scores.append({"macro_f1": float(macro_f1), "accuracy": float(accuracy_score(labels, guesses))})
    json.dump(scores, sys.stdout)


if __name__ == "__main__":
    main()
