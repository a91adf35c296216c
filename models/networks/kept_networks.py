"""A process's networks, kept from trial to trial: building and tracing one takes as long as an epoch of a small set.

A trial begins with `Networks.taken`, which leaves nothing of the trial before in it.
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
"""Trials of one study differ by their resolution at most, and a large network takes a gigabyte with its graphs."""


class Networks:
    """Keeps the KEPT_NETWORKS networks that were used last, with all that was traced for them."""

    def __init__(self) -> None:
        self._kept: list[Network] = []

    @property
    def traced(self) -> int:
        """How many parts the kept networks have: a number that a process's memory grows with."""
        return sum(network.traced for network in self._kept)

    def built(self, settings: ClassifierSettings) -> Network:
        """The network of these settings, from an earlier time or new. ModelError when it cannot be built."""
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
        """The same, as new: the weights of a fresh network of this seed, this rate of dropout, trained in this
        arithmetic."""
        network = self.built(settings)
        network.reset(dropout, seed)
        network.arithmetic = arithmetic or Arithmetic()
        return network


class Network:
    """A classifier and the parts of it that trials train."""

    def __init__(self, settings: ClassifierSettings) -> None:
        self.classifier = make_classifier(settings, dropout=0.0)
        self.dropout = TunableDropout(name="dropout_in_training")
        self._weights = self.classifier.network.get_weights() if settings.pretrained else None
        self.arithmetic = Arithmetic()
        self._parts: dict[tuple[CutPoint, bool, bool, Arithmetic], TrainedPart] = {}
        self._suffixes: dict[CutPoint, keras.Model] = {}

    @cached_property
    def scored(self) -> keras.Model:
        """The joined network as it is scored while it trains: the same weights and answers up to rounding, sooner."""
        return folded(self.classifier.joined)

    @property
    def traced(self) -> int:
        """How many parts there are."""
        return len(self._parts)

    def reset(self, dropout: float, seed: int) -> None:
        settings, network = self.classifier.settings, self.classifier.network
        _seed(seed, settings.backbone)
        weights = self._weights
        if weights is None:  # random ones, drawn as a new network draws them
            weights = build(settings.backbone, settings.weights, settings.network_shape).get_weights()
        network.set_weights(weights)
        dense = self.classifier.head[-1]
        dense.set_weights([keras.initializers.GlorotUniform()(dense.kernel.shape), np.zeros(dense.bias.shape)])
        self.dropout.rate.assign(dropout)

    def cut(self, frozen_fraction: float) -> CutPoint:
        """The cut point nearest to this share of the layers."""
        return nearest_cut(self.classifier.cuts, frozen_fraction)

    def part(self, frozen_fraction: float, in_model: bool = False, on_features: bool = False) -> TrainedPart:
        """What lies behind the cut nearest to `frozen_fraction`, ready to be trained; only one part at a time is.

        Args:
            in_model: with the random layers in front.
            on_features: trained on what the frozen prefix gives (`TrainedPart.prefix`) instead of on images.
        """
        cut = self.cut(frozen_fraction)
        self._set_trainable(cut)
        key = (cut, in_model, on_features, self.arithmetic)
        if key not in self._parts:
            self._parts[key] = self._made(cut, in_model, on_features)
        return self._parts[key]

    def forward(self, model: keras.Model) -> Callable[..., Any]:
        """A model made of this network's layers as a compiled function, in the network's arithmetic."""
        return forward_function(model, self.arithmetic, self._layers)

    @property
    def _layers(self) -> tuple[keras.layers.Layer, ...]:
        return tuple(self.classifier.network._flatten_layers(include_self=False))

    def rate_scales(self, part: TrainedPart, layer_decay: float) -> np.ndarray | None:
        """float32, as `part.gathered()`: the factor on each weight's rate under layer-wise decay; None without."""
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
        """A part whose batch norm never trains, where the weights are pretrained: folded."""
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
    """Starts anew what Keras's initializers and its layers' generators take their seeds from.

    `keras.utils.set_random_seed` sets TensorFlow's seed too, upon which TensorFlow forgets all that it has made of
    traced functions: the next call of each is nearly as slow as its first. Only a user's own layers may draw from it.
    """
    if backbone.own:
        keras.utils.set_random_seed(seed)
        return
    random.seed(seed)
    np.random.seed(seed)


@dataclass(frozen=True)
class TrainedPart:
    """A trained part of a network: `model` is what stands behind the cut, with all in front of it or without."""

    cut: CutPoint
    model: keras.Model
    """Images uint8 (n, h, w, 3), or features where there is a `prefix`, -> probabilities (n, classes)."""
    prefix: keras.Model | None
    """Images -> features of the cut, in inference mode."""
    variables: tuple[keras.Variable, ...]
    """What is trained."""
    gradients: Callable[..., Any]
    """As `models.networks.compiled_steps.gradient_function` gives it."""
    spread: Callable[[Any], None]
    """Assigns a flat vector of values to `variables`."""

    @staticmethod
    def of(
        cut: CutPoint, model: keras.Model, prefix: keras.Model | None, gradients_of: Callable[..., Callable[..., Any]]
    ) -> TrainedPart:
        variables = tuple(model.trainable_variables)
        shapes = [variable.shape for variable in variables]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

        def spread(flat: Any) -> None:
            for variable, part, shape in zip(variables, keras.ops.split(flat, ends.tolist()), shapes, strict=True):
                variable.assign(keras.ops.reshape(part, shape))

        return TrainedPart(cut, model, prefix, variables, gradients_of(model, variables), compiled(spread, variables))

    def gathered(self) -> np.ndarray:
        """The values of `variables`, float32, as one flat vector."""
        return np.concatenate([keras.ops.convert_to_numpy(variable).ravel() for variable in self.variables])

    @property
    def seeds(self) -> list[keras.Variable]:
        """The states of the random generators that take part in training. Those of frozen layers do not: with them, a
        trial would differ from the same one on features, where those layers are not part of the model."""
        frozen = [layer for layer in self.model.layers if isinstance(layer, Frozen)]
        inert = {id(variable) for layer in frozen for variable in layer.variables}
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        return [variable for variable in states if id(variable) not in inert]

    def reseed(self, seed: int) -> None:
        """Starts the random generators of the part's layers anew."""
        rng = np.random.default_rng(seed)
        for state in self.seeds:
            state.assign(np.array([rng.integers(2**31), 0], keras.backend.standardize_dtype(state.dtype)))


def weights_sha256(model: keras.Model) -> str:
    """Of the bytes of a model's weights in order."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
