"""Augmented views of the training images, by level.

Levels low to hard apply AugMix (Hendrycks et al. 2020, one chain) and then RandAugment (Cubuk et al. 2020, one
operation), both from keras-cv. To add a level, add its strength to STRENGTHS and its function to MAKERS.
"""

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from threading import Event, Lock
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from data_prep.augmentation import strong_views
from data_prep.augmentation.quiet_import import undisturbed, without_stderr
from data_prep.errors import DataError
from data_prep.progress import Progress
from data_prep.settings import STRENGTHS

_BATCH = 64


def level_seed(seed: int, level: str, generation: int) -> int:
    """Return a 32-bit seed for one level of one generation, independent of the other levels."""
    return int.from_bytes(hashlib.sha256(f"{seed} {level} {generation}".encode()).digest()[:4], "big")


def augment(images: np.ndarray, views: Mapping[str, np.ndarray], seed: tuple[int, int], progress: Progress) -> None:
    """Fill each level's `views` with augmented versions of `images`, with one thread per level.

    On CPU, the same seed gives the same views, regardless of which other levels are made.

    Args:
        images: uint8 (n, h, w, 3).
        views: arrays to fill, by level (names from STRENGTHS), uint8 (n, copies, h, w, 3); row i is made from image i.
        seed: (seed, generation).
        progress: receiver of progress reports, in views.
    """
    # Set up all makers before the first one draws: setting TensorFlow's seed restarts every graph's random numbers.
    makers = [
        MAKERS[level](images, array, STRENGTHS[level], level_seed(seed[0], level, seed[1]))
        for level, array in views.items()
    ]
    reporting, stopped = Lock(), Event()

    def exhaust(maker: Iterator[int]) -> None:
        for count in maker:
            with reporting:
                progress.advance(count)
            if stopped.is_set():
                return

    with ThreadPoolExecutor(max(1, len(makers))) as threads:
        try:
            for done in as_completed([threads.submit(exhaust, maker) for maker in makers]):
                done.result()
        finally:  # after an error in one level or Ctrl-C, the other threads end too
            stopped.set()


def _with_keras_cv(images: np.ndarray, views: np.ndarray, strength: float, seed: int) -> Iterator[int]:
    """Fill `views` with keras-cv; `strength` is the severity of AugMix and the magnitude of RandAugment.

    The call traces the graph, for which it sets the global random state of TensorFlow, Keras, NumPy and Python. The
    views are drawn while the result is iterated, in any thread.

    A level draws its views one by one on a single core, because its random numbers need a fixed order. Calling graphs
    from Python threads keeps all cores busy; tf.data pipelines side by side left half of two cores idle.
    """
    tf, keras, keras_cv = _libraries()
    keras.utils.set_random_seed(seed)
    # keras-cv draws from TensorFlow's global generator, which set_random_seed leaves alone.
    with tf.device("CPU:0"):
        generator = tf.random.Generator.from_seed(seed)
    tf.random.set_global_generator(generator)
    view = _one_view(tf, keras_cv, generator, strength)
    shape = images.shape[1:]

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.uint8)])  # type: ignore[untyped-decorator]
    def batch_of_views(batch: Any) -> Any:
        return tf.map_fn(view, batch, parallel_iterations=1)

    return _fill(batch_of_views.get_concrete_function(), tf.constant, images, views)


def _fill(batch_of_views: Any, tensor: Any, images: np.ndarray, views: np.ndarray) -> Iterator[int]:
    """Fill `views` batch by batch, row after row with all copies of a row, and yield the number made."""
    count, copies = views.shape[:2]
    for start in range(0, count * copies, _BATCH):
        at = np.arange(start, min(start + _BATCH, count * copies))
        views[at // copies, at % copies] = batch_of_views(tensor(images[at // copies])).numpy()
        yield len(at)


Maker = Callable[[np.ndarray, np.ndarray, float, int], Iterator[int]]
MAKERS: Mapping[str, Maker] = MappingProxyType(
    {"low": _with_keras_cv, "medium": _with_keras_cv, "hard": _with_keras_cv, "strong": strong_views.fill},
)
"""Function of each level. It takes (images, views, strength, seed), fills the views as in `augment`, and yields the
number made, batch by batch."""


def _one_view(tf: Any, keras_cv: Any, generator: Any, strength: float) -> Any:
    """Return a function from one uint8 image to one uint8 view of it.

    It takes single images, because keras-cv processes ten images of a batch in parallel, and these draw their random
    numbers in no fixed order.
    """

    class Severity(keras_cv.core.FactorSampler):  # type: ignore[misc]
        """keras-cv's default severity sampler for AugMix, 0.01..strength, with a generator of fixed draw order."""

        def __call__(self, shape: tuple[int, ...] = (), dtype: str = "float32") -> Any:
            return generator.uniform(shape, min(0.01, strength), strength, dtype)

    augmix = keras_cv.layers.AugMix(value_range=(0, 255), severity=Severity(), num_chains=1)
    randaugment = keras_cv.layers.RandAugment(value_range=(0, 255), augmentations_per_image=1, magnitude=strength)

    def view(image: Any) -> Any:
        changed = randaugment(augmix(tf.cast(image, tf.float32)))
        return tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8)

    return view


@cache
def _libraries() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import TensorFlow, Keras and keras-cv on first use, without their start-up messages and warnings."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # with it, keras-cv looks for Keras 2
    try:
        return _imported()
    except Exception as error:  # each part fails in its own way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"keras-cv, which draws the augmented views, cannot be imported: {reason}") from error


def _imported() -> tuple[ModuleType, ModuleType, ModuleType]:
    with undisturbed(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), without_stderr():
        warnings.simplefilter("ignore")
        import keras
        import keras_cv
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # raised if TensorFlow has set up its devices already
            # Augmentation runs on CPUs. If TensorFlow saw a GPU, it would take memory there from the training process.
            tf.config.set_visible_devices([], "GPU")
    # The user's keras.json may say otherwise, and views must not depend on it.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    return tf, keras, keras_cv
