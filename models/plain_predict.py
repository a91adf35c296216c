"""Opens a `.keras` file as anyone would and predicts: python plain_predict.py MODEL IMAGES.npy OUT.npy

Run in a process of its own, by its path: it must import nothing of this project.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

model_path, images_path, target = sys.argv[1:]
model = keras.saving.load_model(model_path)
images = np.load(images_path, mmap_mode="r")
np.save(target, model.predict(images, batch_size=128, verbose=0))
