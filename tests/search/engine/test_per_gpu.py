"""One run for each GPU, here of processes that say what they see."""

from __future__ import annotations

import os
import signal
import sys
import threading

from search.engine.per_gpu import run_on_each

SAYS = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['HPSEARCH_ON_GPU'])"
WAITS = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(3))
print("ready", flush=True)
time.sleep(60)
"""


def test_each_sees_its_own_gpu_alone_and_the_worst_exit_code_counts() -> None:
    lines: list[str] = []
    assert run_on_each(["0", "GPU-1a2b"], [sys.executable, "-c", SAYS], lines.append) == 0
    assert sorted(lines) == ["GPU 0: 0 0", "GPU GPU-1a2b: GPU-1a2b GPU-1a2b"]
    fails = "import os, sys; sys.exit(int(os.environ['CUDA_VISIBLE_DEVICES']))"
    assert run_on_each(["0", "2"], [sys.executable, "-c", fails], lines.append) == 2


def test_an_interrupt_is_passed_on_to_all() -> None:
    ready = threading.Semaphore(0)

    def interrupt() -> None:
        for _ in range(2):
            ready.acquire(timeout=20)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert run_on_each(["0", "1"], [sys.executable, "-c", WAITS], lambda line: ready.release()) == 3
