"""A network with a new head, and the places where it can be cut into a frozen prefix and a trained suffix.

`joined` is the same network in one piece, of stock layers alone: what is scored, saved and exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from models.backbones.cut_points import CutPoint, chosen_cuts, nodes_of
from models.backbones.preprocessing import PREPROCESSING, resized
from models.backbones.registry import UNTRAINED, Backbone, build, resized_shape


@dataclass(frozen=True)
class ClassifierSettings:
    """What a network is made of, besides its hyperparameters."""

    backbone: Backbone
    weights: str
    """`imagenet`, `none` or a file."""
    image_shape: tuple[int, int, int]
    """Of the prepared images, which the joined network takes."""
    classes: int
    resolution: int = 0
    """As `Hyperparameters.resolution`."""

    @property
    def network_shape(self) -> tuple[int, int, int]:
        """Of the images that the backbone sees."""
        return resized_shape(self.image_shape, self.resolution)

    @property
    def pretrained(self) -> bool:
        return self.weights != UNTRAINED


class Frozen(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Runs a model in inference mode, all of it, whatever mode the model around it runs in.

    `trainable = False` alone would leave drop-connect and stochastic depth active, and a `training=False` given while
    a functional model is put together is overridden when it is fitted (keras#20285).
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(trainable=False)
        self.model = model

    def call(self, x: Any) -> Any:
        return self.model(x, training=False)

    def compute_output_spec(self, x: Any) -> Any:
        # Keras would trace the whole model, twice, to find a shape that the model knows.
        return self.model.compute_output_spec(x)


class TunableDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose rate is a variable: another one needs no new trace. Inert in inference mode.

    What is kept is divided by the share that is kept (Srivastava et al. 2014, inverted).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator()
        self.rate = self.add_weight(shape=(), initializer="zeros", trainable=False, name="rate")

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        rate = keras.ops.cast(self.rate, x.dtype)
        kept = keras.random.uniform(keras.ops.shape(x), dtype=x.dtype, seed=self.seed_generator) >= rate
        return keras.ops.where(kept, x / (1 - rate), keras.ops.zeros_like(x))


@dataclass(frozen=True)
class Classifier:
    """Layers shared by several graphs: the joined network, and its trained parts (models/networks/kept_networks.py)."""

    settings: ClassifierSettings
    network: keras.Model
    """The backbone: preprocessed images -> features."""
    cuts: tuple[CutPoint, ...]
    head: tuple[keras.layers.Layer, ...]
    """Pooling, dropout and the softmax layer."""
    joined: keras.Model
    """uint8 (n, h, w, 3) -> float32 probabilities (n, classes)."""

    def rate_scales(self, layer_decay: float) -> dict[str, float]:
        """Path of a backbone's variable -> layer_decay to the power of the number of parts behind it, the head's
        included, where cut points end the parts (layer-wise rates: Howard & Ruder 2018). Empty without decay."""
        if layer_decay == 1:
            return {}
        nodes = nodes_of(self.network)
        inner = [cut.fraction for cut in self.cuts if 0 < cut.fraction < 1]
        scales: dict[str, float] = {}
        for position, node in enumerate(nodes, 1):
            behind = 1 + sum(position / len(nodes) <= fraction for fraction in inner)
            scales |= {variable.path: layer_decay**behind for variable in getattr(node.operation, "weights", ())}
        return scales


def make_classifier(settings: ClassifierSettings, dropout: float) -> Classifier:
    """A new network: the backbone with its weights, a new head. ModelError when it cannot be built."""
    network = build(settings.backbone, settings.weights, settings.network_shape)
    cuts = chosen_cuts(network)
    head = (
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dropout(dropout, name="dropout"),
        keras.layers.Dense(settings.classes, activation="softmax", dtype="float32", name="probabilities"),
    )
    image = keras.Input(settings.image_shape, dtype="uint8", name="image")
    x = network(preprocessed(settings, image))
    for layer in head:
        x = layer(x)
    return Classifier(settings, network, cuts, head, keras.Model(image, x, name=f"hpsearch_{settings.backbone.name}"))


def preprocessed(settings: ClassifierSettings, images: Any) -> Any:
    """What the backbone is given: the images resized, in the range that its weights expect.

    Whatever changes images at random (models/feeding/batch_changes.py, the in-model layers) comes before, at the
    prepared size.
    """
    return PREPROCESSING[settings.backbone.preprocessing](resized(images, settings.network_shape[:2]))


def set_trainable(model: keras.Model, trainable: bool, norm: bool = True) -> None:
    """Sets the flag layer by layer; batch norm with `norm=False` stays frozen, which is inference mode in Keras."""
    for layer in model._flatten_layers(include_self=False):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = trainable and (norm or not is_norm)
