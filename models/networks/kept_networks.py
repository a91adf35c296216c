"""Networks that a process reuses from trial to trial.

Building and tracing a network takes as long as an epoch on a small data set. A trial begins with `Networks.taken`,
which resets the network, so that nothing of the previous trial remains.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np

from models.backbones.cut_points import CutPoint, nearest_cut
from models.backbones.preprocessing import in_model_augmentation
from models.backbones.registry import Backbone, build
from models.networks.arithmetic import Arithmetic
from models.networks.classifier import (
    ClassifierSettings,
    Frozen,
    TunableDropout,
    make_classifier,
    preprocessed,
    set_trainable,
)
from models.networks.compiled_steps import compiled, forward_function, gradient_function
from models.networks.norm_folding import folded

KEPT_NETWORKS = 2
"""Number of networks to keep. Those of one study differ only in resolution, and a large one takes a gigabyte with its
traced graphs."""


class Networks:
    """The KEPT_NETWORKS most recently used networks, with everything traced for them."""

    def __init__(self) -> None:
        self._kept: list[Network] = []

    @property
    def traced(self) -> int:
        """Number of traced parts in all kept networks. The memory of the process grows with it."""
        return sum(network.traced for network in self._kept)

    def built(self, settings: ClassifierSettings) -> Network:
        """Return the network of these settings: the kept one, or a new one in place of the least recently used.

        Raises:
            ModelError: The network cannot be built.
        """
        found = next((network for network in self._kept if network.classifier.settings == settings), None)
        if found is None:
            while len(self._kept) >= KEPT_NETWORKS:
                self._kept.pop(0)
            keras.backend.clear_session(free_memory=True)
            found = Network(settings)
        else:
            self._kept.remove(found)
        self._kept.append(found)
        return found

    def taken(
        self, settings: ClassifierSettings, dropout: float, seed: int, arithmetic: Arithmetic | None = None
    ) -> Network:
        """Return the network of these settings, reset for a new trial.

        Args:
            settings: Architecture and initial weights.
            dropout: Dropout rate of the head.
            seed: Seed of the random weights: the head's, and the backbone's if it is not pretrained.
            arithmetic: Arithmetic of its training steps; float32 without XLA by default.

        Raises:
            ModelError: The network cannot be built.
        """
        network = self.built(settings)
        network.reset(dropout, seed)
        network.arithmetic = arithmetic or Arithmetic()
        return network


class Network:
    """A classifier, with the parts of it that trials train."""

    def __init__(self, settings: ClassifierSettings) -> None:
        self.classifier = make_classifier(settings, dropout=0.0)
        self.dropout = TunableDropout(name="dropout_in_training")
        self._weights = self.classifier.network.get_weights() if settings.pretrained else None
        self.arithmetic = Arithmetic()
        self._parts: dict[tuple[CutPoint, bool, bool, Arithmetic], TrainedPart] = {}
        self._suffixes: dict[CutPoint, keras.Model] = {}

    @cached_property
    def scored(self) -> keras.Model:
        """Faster form of the joined network for scoring during training: same weights, same output up to rounding."""
        return folded(self.classifier.joined)

    @property
    def traced(self) -> int:
        """Number of traced parts."""
        return len(self._parts)

    def reset(self, dropout: float, seed: int) -> None:
        """Set the weights of a new network, drawn from `seed` where they are not pretrained, and the dropout rate."""
        settings, network = self.classifier.settings, self.classifier.network
        _seed(seed, settings.backbone)
        weights = self._weights
        if weights is None:  # random weights: draw them as a new network would
            weights = build(settings.backbone, settings.weights, settings.network_shape).get_weights()
        network.set_weights(weights)
        dense = self.classifier.head[-1]
        dense.set_weights([keras.initializers.GlorotUniform()(dense.kernel.shape), np.zeros(dense.bias.shape)])
        self.dropout.rate.assign(dropout)

    def cut(self, frozen_fraction: float) -> CutPoint:
        """Return the cut point nearest to this share of frozen layers."""
        return nearest_cut(self.classifier.cuts, frozen_fraction)

    def part(self, frozen_fraction: float, in_model: bool = False, on_features: bool = False) -> TrainedPart:
        """Return the layers after the cut nearest to `frozen_fraction`, ready to train.

        Only the part returned last can be trained: parts share layers, and this call sets which are trainable.

        Args:
            frozen_fraction: Share of the backbone's layers to freeze, 0..1.
            in_model: Whether the random augmentation layers come first.
            on_features: Whether to train on the output of the frozen layers (`TrainedPart.prefix`) instead of images.
        """
        cut = self.cut(frozen_fraction)
        self._set_trainable(cut)
        key = (cut, in_model, on_features, self.arithmetic)
        if key not in self._parts:
            self._parts[key] = self._made(cut, in_model, on_features)
        return self._parts[key]

    def forward(self, model: keras.Model) -> Callable[..., Any]:
        """Compile a model of this network's layers for inference, in the network's arithmetic."""
        return forward_function(model, self.arithmetic, self._layers)

    @property
    def _layers(self) -> tuple[keras.layers.Layer, ...]:
        return tuple(self.classifier.network._flatten_layers(include_self=False))

    def rate_scales(self, part: TrainedPart, layer_decay: float) -> np.ndarray | None:
        """Return each weight's learning-rate factor, float32 in the order of `part.gathered()`; None without decay."""
        if layer_decay == 1:
            return None
        by_path = self.classifier.rate_scales(layer_decay)
        scales = [np.full(int(np.prod(v.shape)), by_path.get(v.path, 1.0), "float32") for v in part.variables]
        return np.concatenate(scales)

    def _set_trainable(self, cut: CutPoint) -> None:
        set_trainable(self.classifier.network, False)
        if cut.fraction < 1:
            set_trainable(self._suffix(cut), True, norm=not self.classifier.settings.pretrained)

    def _suffix(self, cut: CutPoint) -> keras.Model:
        if cut not in self._suffixes:
            self._suffixes[cut] = self._in_inference(keras.Model(cut.tensor, self.classifier.network.outputs[0]))
        return self._suffixes[cut]

    def _in_inference(self, model: keras.Model) -> keras.Model:
        """Return the model, with its batch norm folded if the weights are pretrained: batch norm then never trains."""
        return folded(model) if self.classifier.settings.pretrained else model

    def _made(self, cut: CutPoint, in_model: bool, on_features: bool) -> TrainedPart:
        classifier = self.classifier
        settings, (pool, _, dense) = classifier.settings, classifier.head
        image = keras.Input(settings.image_shape, dtype="uint8")
        x = image
        for layer in in_model_augmentation() if in_model else ():
            x = layer(x)
        x = preprocessed(settings, x)
        if cut.fraction > 0:
            x = Frozen(self._in_inference(keras.Model(classifier.network.inputs[0], cut.tensor)))(x)
        if cut.fraction == 1:
            x = pool(x)
        prefix = None
        inputs = image
        if on_features:
            prefix = keras.Model(image, x)
            inputs = x = keras.Input(x.shape[1:])
        if cut.fraction < 1:
            x = pool(self._suffix(cut)(x))
        model = keras.Model(inputs, dense(self.dropout(x)))
        gradients = partial(gradient_function, arithmetic=self.arithmetic, layers=self._layers)
        return TrainedPart.of(cut, model, prefix, gradients)


def _seed(seed: int, backbone: Backbone) -> None:
    """Seed the generators from which Keras's initializers and layers take their seeds.

    `keras.utils.set_random_seed` also seeds TensorFlow, which then discards the compiled form of all traced functions:
    the next call of each is nearly as slow as the first. So it is used only where a user's own layers may need that
    seed.
    """
    if backbone.own:
        keras.utils.set_random_seed(seed)
        return
    random.seed(seed)
    np.random.seed(seed)


@dataclass(frozen=True)
class TrainedPart:
    """The trained part of a network.

    `model` holds the layers after the cut. If `prefix` is None, it also holds the frozen layers before the cut.
    """

    cut: CutPoint
    model: keras.Model
    """Model from images uint8 (n, h, w, 3), or from features if there is a `prefix`, to probabilities (n, classes)."""
    prefix: keras.Model | None
    """Model from images to features at the cut, in inference mode; None if `model` takes images."""
    variables: tuple[keras.Variable, ...]
    """Variables to train."""
    gradients: Callable[..., Any]
    """Loss and gradient of a batch: the result of `models.networks.compiled_steps.gradient_function`."""
    spread: Callable[[Any], None]
    """Function that assigns a flat vector of values to `variables`."""

    @staticmethod
    def of(
        cut: CutPoint, model: keras.Model, prefix: keras.Model | None, gradients_of: Callable[..., Callable[..., Any]]
    ) -> TrainedPart:
        """Return a part that trains the trainable variables of `model`."""
        variables = tuple(model.trainable_variables)
        shapes = [variable.shape for variable in variables]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

        def spread(flat: Any) -> None:
            for variable, part, shape in zip(variables, keras.ops.split(flat, ends.tolist()), shapes, strict=True):
                variable.assign(keras.ops.reshape(part, shape))

        return TrainedPart(cut, model, prefix, variables, gradients_of(model, variables), compiled(spread, variables))

    def gathered(self) -> np.ndarray:
        """Return the values of `variables` as one flat vector, float32."""
        return np.concatenate([keras.ops.convert_to_numpy(variable).ravel() for variable in self.variables])

    @property
    def seeds(self) -> list[keras.Variable]:
        """States of the random generators that are active in training.

        Those of frozen layers are left out. Otherwise a trial on images would differ from the same trial on features,
        where the frozen layers are not part of the model.
        """
        frozen = [layer for layer in self.model.layers if isinstance(layer, Frozen)]
        inert = {id(variable) for layer in frozen for variable in layer.variables}
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        return [variable for variable in states if id(variable) not in inert]

    def reseed(self, seed: int) -> None:
        """Reseed the random generators in `seeds`."""
        rng = np.random.default_rng(seed)
        for state in self.seeds:
            state.assign(np.array([rng.integers(2**31), 0], keras.backend.standardize_dtype(state.dtype)))


def weights_sha256(model: keras.Model) -> str:
    """Return the SHA-256 of the bytes of a model's weights, in order."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
