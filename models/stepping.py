"""What a training step is made of, compiled by the backend Keras runs on. To add a backend: a row in BACKENDS.

The only module that knows one backend from another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from models.errors import ModelError

LOSS = keras.losses.CategoricalCrossentropy()

Function = Callable[..., Any]


def compiled(function: Function, variables: Sequence[keras.Variable]) -> Function:
    """The same function of tensors, compiled once per shape of them.

    Args:
        variables: all that the function reads or assigns; they keep what it assigns.
    """
    result: Function = _backend()[0](function, variables)
    return result


def gradient_function(model: keras.Model, variables: Sequence[keras.Variable]) -> Function:
    """(inputs, targets (b, classes), weights (b,)) -> (mean loss, its gradient by `variables` as one flat vector)."""
    result: Function = _backend()[1](model, variables)
    return result


def _backend() -> tuple[Function, Function]:
    name = keras.backend.backend()
    if name not in BACKENDS:
        raise ModelError(f"training runs on {' or '.join(BACKENDS)}, and KERAS_BACKEND is {name}")
    return BACKENDS[name]


def _loss(model: keras.Model, inputs: Any, targets: Any, weights: Any) -> Any:
    return LOSS(targets, model(inputs, training=True), sample_weight=weights)


def _tensorflow_compiled(function: Function, variables: Sequence[keras.Variable]) -> Function:
    import tensorflow as tf

    # XLA costs more to compile on a CPU than it wins back in a trial of some minutes.
    result: Function = tf.function(function, autograph=False)
    return result


def _tensorflow_gradients(model: keras.Model, variables: Sequence[keras.Variable]) -> Function:
    import tensorflow as tf

    watched = [variable.value for variable in variables]

    def gradients(inputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            loss = _loss(model, inputs, targets, weights)
        found = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, tf.concat([tf.reshape(part, [-1]) for part in found], axis=0)

    return _tensorflow_compiled(gradients, model.variables)


def _jax_compiled(function: Function, variables: Sequence[keras.Variable]) -> Function:
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


def _jax_gradients(model: keras.Model, variables: Sequence[keras.Variable]) -> Function:
    import jax
    import jax.numpy as jnp

    trained = {id(variable) for variable in variables}
    others = [variable for variable in model.variables if id(variable) not in trained]

    def gradients(inputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        """Runs inside the scope of `_jax_compiled`, which holds the values of all variables."""
        held = [variable.value for variable in others]

        def loss_of(values: Sequence[Any]) -> tuple[Any, list[Any]]:
            mapping = [*zip(variables, values, strict=True), *zip(others, held, strict=True)]
            with keras.StatelessScope(mapping) as scope:
                loss = _loss(model, inputs, targets, weights)
            return loss, [scope.get_current_value(variable) for variable in others]

        start = [variable.value for variable in variables]
        (loss, after), found = jax.value_and_grad(loss_of, has_aux=True)(start)
        for variable, old, new in zip(others, held, after, strict=True):
            if new is not old:
                variable.assign(new)
        return loss, jnp.concatenate([jnp.ravel(part) for part in found])

    return _jax_compiled(gradients, [*variables, *others])


BACKENDS: dict[str, tuple[Function, Function]] = {
    "tensorflow": (_tensorflow_compiled, _tensorflow_gradients),
    "jax": (_jax_compiled, _jax_gradients),
}
