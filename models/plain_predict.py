"""Opens a `.keras` file as anyone would and predicts: python plain_predict.py MODEL [IMAGES.npy OUT.npy]...

Run in a process of its own, by its path: it must import nothing of this project.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

model_path, *pairs = sys.argv[1:]
model = keras.saving.load_model(model_path)
for images_path, target in zip(pairs[::2], pairs[1::2], strict=True):
    images = np.load(images_path, mmap_mode="r")
    images = images.reshape(-1, *images.shape[-3:])  # corrupted images have a further axis: their views
    np.save(target, model.predict(images, batch_size=128, verbose=0))
