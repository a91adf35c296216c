"""Run hpsearch with one more pruner, `--pruner peer`: the plain loop's. Part of ../versus.py.

hpsearch's own pruners are more patient than the loop's. With this one, both do the same work.
"""

from __future__ import annotations

from optuna.pruners import MedianPruner

from search.cli import main
from studies.pruners import PRUNERS

PRUNERS["peer"] = lambda head_epochs, epochs: MedianPruner(n_startup_trials=4, n_warmup_steps=1)  # as in peers.py

if __name__ == "__main__":
    main(prog_name="hpsearch")
