"""What is soon wanted of a memory-mapped array is read before it is touched."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from models.feeding.batches import TrainingViews
from models.feeding.reading_ahead import forget, read_ahead

PAGES = 64


def in_memory(path: Path, page: int) -> bool:
    with open(path, "rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(8)], page * mmap.PAGESIZE, os.RWF_NOWAIT) == 8
        except BlockingIOError:
            return False


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="Linux alone tells what it holds in memory")
def test_the_rows_asked_for_are_in_memory_soon(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    shape = (PAGES, mmap.PAGESIZE // 12, 4, 3)
    np.save(path, np.random.default_rng(0).integers(0, 256, shape, "uint8"))
    forget(path)
    images = np.load(path, mmap_mode="r")
    if in_memory(path, 40):
        pytest.skip("this file system keeps all in memory")
    views = TrainingViews(images[:30], [images[30:].reshape(17, 2, *shape[1:])], np.zeros(30, int))
    views.ready(np.array([3, 5]), np.array([0, 1]), np.array([0, 1]))
    wanted = (3, 30 + 2 * 5 + 1)
    deadline = time.monotonic() + 5
    while not all(in_memory(path, page) for page in wanted) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(in_memory(path, page) for page in wanted)
    assert not in_memory(path, 20)


def test_arrays_that_are_no_files_are_left_alone() -> None:
    array = np.arange(10_000).reshape(10, 5, 200)
    read_ahead(array, np.array([1, 9]), np.array([4, 4]))
    read_ahead(array, np.array([], int))
    assert (array == np.arange(10_000).reshape(10, 5, 200)).all()
