"""hpsearch with the plain loop's pruner as one row more, `--pruner peer`. Part of ../versus.py.

As patient as the loop is, so that the two do the same work: hpsearch's own pruners wait longer.
"""

from __future__ import annotations

from optuna.pruners import MedianPruner

from search.cli import main
from studies.pruners import PRUNERS

PRUNERS["peer"] = lambda head_epochs, epochs: MedianPruner(n_startup_trials=4, n_warmup_steps=1)  # as in peers.py

if __name__ == "__main__":
    main(prog_name="hpsearch")
