"""Folds batch norm in inference mode into the convolution before it.

One operation over the activations replaces three, and the backward pass stores and computes less. With batch norm's
mean m, variance v, epsilon e, scale g and offset beta (Jacob et al. 2018, section 3.2):

    W' = W g / sqrt(v + e),  b' = (b - m) g / sqrt(v + e) + beta

The layers keep their own variables, so training still updates W. To fold another kind of convolution, add a row to
KINDS.

A 1x1 convolution is computed as a matrix product over the channels, because TensorFlow's gradients of matrix products
are faster on a CPU. (For strided 1x1 convolutions with fewer than 8 or 16 input channels, oneDNN's gradients are even
wrong: oneDNN issue 6035.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def folded(model: keras.Model) -> keras.Model:
    """Return a copy of a functional model with each batch norm folded into the convolution directly before it.

    The copy shares layers and variables with the model. Folded batch norm always runs in inference mode, even if the
    copy is called in training mode.
    """
    convolutions: dict[int, tuple[keras.layers.Layer, Any]] = {}
    made: dict[tuple[int, int], FoldedConvolution] = {}
    kept = []  # keeps the tensors alive whose ids are keys of `convolutions`

    def shared(layer: Any) -> Any:
        return folded(layer) if _is_functional(layer) else layer

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        if len(inputs) != 1:  # called by keyword
            return layer(*inputs, **options)
        if _is_foldable_norm(layer) and id(inputs[0]) in convolutions:
            convolution, x = convolutions[id(inputs[0])]
            key = (id(convolution), id(layer))
            made[key] = made.get(key) or FoldedConvolution(convolution, layer)
            return made[key](x)
        output = layer(*inputs, **options)
        if _is_foldable_convolution(layer):
            convolutions[id(output)] = layer, inputs[0]
            kept.append(output)
        return output

    return keras.models.clone_model(model, clone_function=shared, call_function=call)


class FoldedConvolution(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """One layer for a convolution and the batch norm after it. It uses their variables and the convolution's dtype."""

    def __init__(self, convolution: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> None:
        super().__init__(name=f"{convolution.name}_with_{norm.name}", autocast=False)
        self.convolution, self.norm = convolution, norm

    def call(self, x: Any) -> Any:
        norm, dtype = self.norm, self.convolution.compute_dtype
        scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
        if norm.scale:
            scale = scale * norm.gamma
        offset = -norm.moving_mean * scale
        if norm.center:
            offset = offset + norm.beta
        if self.convolution.use_bias:
            offset = offset + self.convolution.bias * scale
        output = KINDS[type(self.convolution)](self.convolution, ops.cast(x, dtype), scale)
        return output + ops.cast(offset, dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.convolution.compute_output_shape(input_shape)


def _standard(layer: Any, x: Any, scale: Any) -> Any:
    kernel = ops.cast(layer.kernel * scale, x.dtype)
    if tuple(layer.kernel_size) == (1, 1) and layer.groups == 1:
        down, across = layer.strides
        return _of_one_pixel(x[:, ::down, ::across], kernel)
    return layer.convolution_op(x, kernel)


def _depthwise(layer: Any, x: Any, scale: Any) -> Any:
    kernel = layer.kernel * ops.reshape(scale, layer.kernel.shape[-2:])
    return ops.depthwise_conv(x, ops.cast(kernel, x.dtype), **_geometry(layer))


def _separable(layer: Any, x: Any, scale: Any) -> Any:
    depthwise, pointwise = layer.depthwise_kernel, layer.pointwise_kernel * scale
    between = ops.depthwise_conv(x, ops.cast(depthwise, x.dtype), **_geometry(layer))
    return _of_one_pixel(between, ops.cast(pointwise, x.dtype))


def _of_one_pixel(x: Any, kernel: Any) -> Any:
    """Return the convolution of x (n, h, w, c) by a kernel (1, 1, c, d).

    It multiplies two-dimensional matrices, because with more dimensions `ops.matmul` traces many operations that handle
    unknown shapes.
    """
    incoming, outgoing = kernel.shape[-2:]
    rows = ops.matmul(ops.reshape(x, (-1, incoming)), ops.reshape(kernel, (incoming, outgoing)))
    return ops.reshape(rows, (-1, *ops.shape(x)[1:3], outgoing))


def _geometry(layer: Any) -> dict[str, Any]:
    names = ("strides", "padding", "data_format", "dilation_rate")
    return {name: getattr(layer, name) for name in names}


KINDS: dict[type, Callable[[Any, Any, Any], Any]] = {
    keras.layers.Conv2D: _standard,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv2D: _separable,
}
"""Type of convolution -> function (layer, inputs (n, h, w, c), factor per output channel) -> output without bias."""


def _is_foldable_convolution(layer: Any) -> bool:
    return (
        type(layer) in KINDS
        and layer.activation in (None, keras.activations.linear)
        and layer.data_format == "channels_last"
    )


def _is_foldable_norm(layer: Any) -> bool:
    return type(layer) is keras.layers.BatchNormalization and layer.axis in (-1, 3)


def _is_functional(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential) and hasattr(layer, "operations")
