"""A backbone with a new head, and the points where it can be cut into a frozen prefix and a trained suffix.

`Classifier.joined` is the whole network as one model of stock layers. It is the one that is scored, saved and exported.
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
    """Settings that determine the architecture and initial weights of a network."""

    backbone: Backbone
    weights: str
    """Initial weights: `imagenet`, `none`, `own` or a file."""
    image_shape: tuple[int, int, int]
    """Shape (h, w, 3) of the prepared images, which are the input of the joined network."""
    classes: int
    resolution: int = 0
    """Resolution in pixels, as `Hyperparameters.resolution`."""

    @property
    def network_shape(self) -> tuple[int, int, int]:
        """Shape (h, w, 3) of the images after resizing, which are the input of the backbone."""
        return resized_shape(self.image_shape, self.resolution)

    @property
    def pretrained(self) -> bool:
        """Whether training starts from weights that are not random."""
        return self.weights != UNTRAINED


class Frozen(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Layer that always runs a model in inference mode, even while the model around it trains.

    `trainable = False` alone would leave drop-connect and stochastic depth active. A `training=False` given when a
    functional model is built is overridden when that model is fitted (keras#20285).
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(trainable=False)
        self.model = model

    def call(self, x: Any) -> Any:
        return self.model(x, training=False)

    def compute_output_spec(self, x: Any) -> Any:
        # By default, Keras would trace the whole model twice to find a shape that the model knows.
        return self.model.compute_output_spec(x)


class TunableDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose rate is a variable, so that changing it needs no new trace. Inactive in inference mode.

    Kept values are divided by the share of values kept (inverted dropout, Srivastava et al. 2014).
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
    """Classifier whose layers the joined network shares with its trained parts (models/networks/kept_networks.py)."""

    settings: ClassifierSettings
    network: keras.Model
    """Backbone: preprocessed images -> features."""
    cuts: tuple[CutPoint, ...]
    head: tuple[keras.layers.Layer, ...]
    """Pooling, dropout and the softmax layer."""
    joined: keras.Model
    """Whole network: images uint8 (n, h, w, 3) -> probabilities float32 (n, classes)."""

    def rate_scales(self, layer_decay: float) -> dict[str, float]:
        """Return the learning-rate factor of each backbone variable, by the variable's path.

        Cut points divide the backbone into parts. The factor is layer_decay ** (number of later parts, the head
        included); see layer-wise rates in Howard & Ruder 2018. The result is empty if `layer_decay` is 1.
        """
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
    """Build a network: the backbone with its initial weights, and a new head.

    Raises:
        ModelError: The backbone cannot be built.
    """
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
    """Return the input of the backbone: the images resized, in the range that its weights expect.

    Random augmentation (models/feeding/batch_changes.py, the in-model layers) comes before, at the prepared size.
    """
    return PREPROCESSING[settings.backbone.preprocessing](resized(images, settings.network_shape[:2]))


def set_trainable(model: keras.Model, trainable: bool, norm: bool = True) -> None:
    """Set `trainable` on each layer. With `norm=False`, batch norm stays frozen: in Keras, that is inference mode."""
    for layer in model._flatten_layers(include_self=False):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = trainable and (norm or not is_norm)
