"""The published recipe: what it trains, on what, and when it stops."""

from __future__ import annotations

import keras
import numpy as np
from tiny_images import CLASSES, tiny_images

from benchmarks.published_recipe import BATCH, Budget, all_versions, batches, published_model


def test_every_image_is_followed_by_one_low_one_medium_and_one_hard_view() -> None:
    images, _ = tiny_images(4)
    versions = all_versions(images, seed=0)
    assert versions.shape == (4, 4, 32, 32, 3)
    np.testing.assert_array_equal(versions[:, 0], images)
    assert all((versions[:, level] != images).any() for level in range(1, 4))


def test_half_of_the_layers_are_frozen_and_images_are_raw_pixels() -> None:
    model = published_model((32, 32, 3), CLASSES, weights=None)
    (base,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    trained = [layer.trainable for layer in base.layers]
    assert trained == sorted(trained)
    assert sum(trained) - len(trained) / 2 in (0, 0.5)
    images, _ = tiny_images(2)
    front = keras.Model(model.input, model.layers[model.layers.index(base) - 1].output)
    np.testing.assert_allclose(front(images, training=False), images / 127.5 - 1, atol=1e-5)


def test_training_batches_are_shuffled_and_of_one_size_validation_ones_complete_and_in_order() -> None:
    images, labels = tiny_images(40)
    targets, rows = np.eye(CLASSES, dtype="float32")[labels], np.arange(5, 40)
    parts = [(batch.numpy(), wanted.numpy()) for batch, wanted in batches(images, targets, rows, training=True)]
    assert [len(batch) for batch, _ in parts] == [BATCH, BATCH]
    assert not np.array_equal(parts[0][0], images[rows[:BATCH]])
    ((batch, wanted),) = batches(images, targets, rows, training=False)
    np.testing.assert_array_equal(batch, images[rows])
    np.testing.assert_array_equal(wanted, targets[rows])


def test_training_stops_at_the_step_at_which_the_time_is_used_up_and_is_evaluated_once_more() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy")
    budget = Budget(seconds=0.0)
    x, y = np.zeros((64, 2), "float32"), np.eye(2, dtype="float32")[np.zeros(64, int)]
    history = model.fit(x, y, batch_size=16, epochs=5, validation_data=(x, y), callbacks=[budget], verbose=0).history
    assert (budget.steps, budget.used_up, budget.evaluating_s) == (1, True, 0)
    assert len(history["val_loss"]) == 1
