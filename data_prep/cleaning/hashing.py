"""Perceptual hashes (pHash) of images: 64 bits each, of which few differ between pictures that look alike."""

from concurrent.futures import ThreadPoolExecutor

import imagehash
import numpy as np
import scipy.fftpack
from PIL import Image

from data_prep.progress import Progress, Silent
from data_prep.storage.machine import processors

_BATCH = 256  # images hashed at a time


def phashes(images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Return the perceptual hash of each image.

    Each bit tells whether one of the 8x8 lowest frequencies of a 32x32 cosine transform is above their median. The
    hashes equal those of imagehash.phash bit for bit, but are computed in batches, with one thread per core for
    Pillow's part of the work.

    Args:
        images: uint8 (n, h, w, 3).
        progress: receiver of progress reports, in images.

    Returns:
        uint64 (n,), one hash per image.
    """
    progress = progress or Silent()
    hashes = np.empty(len(images), np.uint64)
    starts = range(0, len(images), _BATCH)
    with ThreadPoolExecutor(processors()) as pool:
        done = pool.map(lambda start: _phashes(images[start : start + _BATCH]), starts)
        for start, batch in zip(starts, done, strict=True):
            hashes[start : start + _BATCH] = batch
            progress.advance(len(batch))
    return hashes


def phash(picture: Image.Image) -> np.uint64:
    """Return the perceptual hash of one picture, as `phashes` returns it for its pixels."""
    return np.uint64(int(str(imagehash.phash(picture)), 16))


def _phashes(images: np.ndarray) -> np.ndarray:
    small = np.stack([np.asarray(_shrunk(image)) for image in images])
    rows = scipy.fftpack.dct(small, axis=1)[:, :8]
    low = scipy.fftpack.dct(rows, axis=2)[:, :, :8].reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0]


def _shrunk(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
