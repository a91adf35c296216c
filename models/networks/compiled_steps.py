"""Compiled functions of a training step, for the backend that Keras runs on.

This is the only module with code for particular backends. To add a backend, add a row to BACKENDS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras

from models.errors import ModelError
from models.networks.arithmetic import FLOAT32, Arithmetic

LOSS = keras.losses.CategoricalCrossentropy()
LEAST_PROBABILITY = 1e-37
"""Lower bound of a probability before its logarithm: near the smallest float32 with full precision."""

Function = Callable[..., Any]


def compiled(function: Function, variables: Sequence[keras.Variable]) -> Function:
    """Compile a function of tensors, once for each set of tensor shapes.

    Args:
        function: Function of tensors that may read and assign variables.
        variables: All variables that the function reads or assigns. Assigned values persist after a call.
    """
    result: Function = _backend().compiled(function, variables)
    return result


def forward_function(model: keras.Model, arithmetic: Arithmetic, layers: Sequence[keras.layers.Layer] = ()) -> Function:
    """Return a compiled function from inputs to outputs in inference mode. `layers` is as in `gradient_function`."""

    def forward(inputs: Any) -> Any:
        with _computing_in(arithmetic.precision, layers):
            return model(inputs, training=False)

    result: Function = _backend().compiled(forward, model.variables, _by_xla(arithmetic, model))
    return result


def _by_xla(arithmetic: Arithmetic, model: keras.Model) -> bool:
    """Return whether XLA compiles the model. Random augmentation layers use operations that XLA lacks."""
    return arithmetic.xla and all(layer.supports_jit for layer in model._flatten_layers())


def fused(function: Function) -> Function:
    """Compile a function that uses no variables, with its operations fused into as few passes over memory as possible.

    Its arguments are tensors, lists of tensors or None. It is compiled once for each set of shapes.
    """
    result: Function = _backend().fused(function)
    return result


def gradient_function(
    model: keras.Model,
    variables: Sequence[keras.Variable],
    arithmetic: Arithmetic | None = None,
    layers: Sequence[keras.layers.Layer] = (),
) -> Function:
    """Return a compiled function for the loss of a batch and its gradient.

    Args:
        model: Network from inputs to probabilities (b, classes), called in training mode.
        variables: Variables to differentiate by. Their regularizers are added to the loss.
        arithmetic: Precision and compiler of the step; float32 without XLA by default.
        layers: Layers that compute in the precision of `arithmetic`, within this function only.

    Returns:
        Function (inputs, targets (b, classes), weights (b,)) -> (mean loss, gradient as one flat vector).
    """
    arithmetic = arithmetic or Arithmetic()
    regularized = [variable for variable in variables if getattr(variable, "regularizer", None) is not None]

    def loss(inputs: Any, targets: Any, weights: Any) -> Any:
        with _computing_in(arithmetic.precision, layers):
            predicted = model(inputs, training=True)
        result = _backend().cross_entropy(targets, predicted, weights)
        for variable in regularized:
            result = result + variable.regularizer(variable)
        return result

    result: Function = _backend().gradients(loss, model, variables, _by_xla(arithmetic, model))
    return result


def full_float32() -> AbstractContextManager[Any]:
    """Return a context in which convolutions and products of matrices use all bits of float32.

    By default, NVIDIA GPUs since Ampere round their inputs to TF32, with 10 bits of mantissa. That moves probabilities
    by up to 0.02, so that those of two computations could not be compared.
    """
    row = BACKENDS.get(keras.backend.backend())
    return row.full_float32() if row else nullcontext()


def training_device() -> Device:
    """Return the device that training uses in this process."""
    result: Device = _backend().device()
    return result


@dataclass(frozen=True)
class Device:
    """An accelerator, or the CPU."""

    name: str
    is_cpu: bool = True
    has_bfloat16: bool = True
    """Whether its matrix units compute bfloat16. Always True for a CPU, where measured step times decide."""


@contextmanager
def _computing_in(precision: str, layers: Sequence[keras.layers.Layer]) -> Iterator[None]:
    """Trace the layers in this precision. Their variables stay float32: a mixed policy casts them and their gradient
    at each use."""
    changed = [layer for layer in layers if precision != FLOAT32 and layer.dtype_policy.name == FLOAT32]
    try:
        for layer in changed:
            layer.dtype_policy = precision
        yield
    finally:
        for layer in changed:
            layer.dtype_policy = FLOAT32


def _backend() -> Backend:
    name = keras.backend.backend()
    if name not in BACKENDS:
        raise ModelError(f"KERAS_BACKEND must be {' or '.join(BACKENDS)}, but is {name}")
    return BACKENDS[name]


def _tensorflow_compiled(function: Function, variables: Sequence[keras.Variable], xla: bool = False) -> Function:
    import tensorflow as tf

    result: Function = tf.function(function, autograph=False, jit_compile=xla or None)
    return result


def _tensorflow_fused(function: Function) -> Function:
    # On a CPU, XLA compiles a dozen vector operations quickly. On a GPU, it needs CUDA components that may be missing.
    return _tensorflow_compiled(function, (), xla=_tensorflow_device().is_cpu)


def _tensorflow_gradients(
    loss_of: Function, model: keras.Model, variables: Sequence[keras.Variable], xla: bool
) -> Function:
    import tensorflow as tf

    watched = [variable.value for variable in variables]

    def gradients(inputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            loss = loss_of(inputs, targets, weights)
        found = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, tf.concat([tf.reshape(part, [-1]) for part in found], axis=0)

    return _tensorflow_compiled(gradients, model.variables, xla)


def _tensorflow_cross_entropy(targets: Any, predicted: Any, weights: Any) -> Any:
    return LOSS(targets, predicted, sample_weight=weights)


def _tensorflow_device() -> Device:
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if not found:
        return Device("CPU")
    details = tf.config.experimental.get_device_details(found[0])
    return Device(details.get("device_name", "GPU"), False, _has_bfloat16(details.get("compute_capability", (0,))[0]))


def _has_bfloat16(capability: int) -> bool:
    """Major compute capability -> whether it is Ampere or newer (CUDA C++ Programming Guide, Compute Capabilities)."""
    return capability >= 8


@contextmanager
def _tensorflow_full_float32() -> Iterator[None]:
    from tensorflow.config import experimental

    before = experimental.tensor_float_32_execution_enabled()
    experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        experimental.enable_tensor_float_32_execution(before)


def _jax_compiled(function: Function, variables: Sequence[keras.Variable], xla: bool = True) -> Function:
    import jax

    moved: list[keras.Variable] = []

    def pure(values: Sequence[Any], *arguments: Any) -> tuple[Any, list[Any]]:
        with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
            before = [scope.get_current_value(variable) for variable in variables]
            result = function(*arguments)
            after = [scope.get_current_value(variable) for variable in variables]
        changes = [place for place, (old, new) in enumerate(zip(before, after, strict=True)) if old is not new]
        moved[:] = [variables[place] for place in changes]
        return result, [after[place] for place in changes]

    traced = jax.jit(pure)

    def call(*arguments: Any) -> Any:
        result, values = traced([variable.value for variable in variables], *arguments)
        for variable, value in zip(moved, values, strict=True):
            variable.assign(value)
        return result

    return call


def _jax_fused(function: Function) -> Function:
    import jax

    result: Function = jax.jit(function)
    return result


def _jax_gradients(loss_of: Function, model: keras.Model, variables: Sequence[keras.Variable], xla: bool) -> Function:
    import jax
    import jax.numpy as jnp

    trained = {id(variable) for variable in variables}
    others = [variable for variable in model.variables if id(variable) not in trained]

    def gradients(inputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        """Run inside the scope of `_jax_compiled`, which holds the values of all variables."""
        held = [variable.value for variable in others]

        def with_values(values: Sequence[Any]) -> tuple[Any, list[Any]]:
            mapping = [*zip(variables, values, strict=True), *zip(others, held, strict=True)]
            with keras.StatelessScope(mapping) as scope:
                loss = loss_of(inputs, targets, weights)
            return loss, [scope.get_current_value(variable) for variable in others]

        start = [variable.value for variable in variables]
        (loss, after), found = jax.value_and_grad(with_values, has_aux=True)(start)
        for variable, old, new in zip(others, held, after, strict=True):
            if new is not old:
                variable.assign(new)
        return loss, jnp.concatenate([jnp.ravel(part) for part in found])

    return _jax_compiled(gradients, [*variables, *others])


def _jax_cross_entropy(targets: Any, predicted: Any, weights: Any) -> Any:
    """Return the mean cross-entropy, with a gradient even for tiny probabilities.

    Keras's own loss uses the logits of the softmax, which JAX's tensors do not carry. Without them, it has no gradient
    for probabilities below 1e-7, and a network that is confidently wrong would stay wrong.
    """
    log_likelihood = keras.ops.log(keras.ops.maximum(predicted, LEAST_PROBABILITY))
    return -keras.ops.mean(weights * keras.ops.sum(targets * log_likelihood, axis=-1))


def _jax_device() -> Device:
    import jax

    found = jax.devices()[0]
    if found.platform == "cpu":
        return Device("CPU")
    is_nvidia = found.platform == "gpu" and hasattr(found, "compute_capability")
    return Device(found.device_kind, False, not is_nvidia or _has_bfloat16(int(float(found.compute_capability))))


def _jax_full_float32() -> AbstractContextManager[Any]:
    import jax

    context: AbstractContextManager[Any] = jax.default_matmul_precision("highest")  # convolutions follow it too
    return context


@dataclass(frozen=True)
class Backend:
    """Functions of one backend. All but `cross_entropy` implement the public functions above.

    `cross_entropy` is (targets (b, classes), probabilities (b, classes), weights (b,)) -> weighted mean over the batch.
    """

    compiled: Function
    fused: Function
    gradients: Function
    device: Callable[[], Device]
    cross_entropy: Function
    full_float32: Callable[[], AbstractContextManager[Any]]


BACKENDS: dict[str, Backend] = {
    "tensorflow": Backend(
        *(_tensorflow_compiled, _tensorflow_fused, _tensorflow_gradients, _tensorflow_device),
        *(_tensorflow_cross_entropy, _tensorflow_full_float32),
    ),
    "jax": Backend(_jax_compiled, _jax_fused, _jax_gradients, _jax_device, _jax_cross_entropy, _jax_full_float32),
}
