"""`hpsearch backbones`."""

from __future__ import annotations

from dataclasses import asdict

import click

from models.backbones.registry import BACKBONES, default_weights
from search.terminal.output import print_json, print_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backbones(as_json: bool) -> None:
    """List the backbones: parameters (without the head), the side of the images they were pretrained on and of the
    smallest they take, preprocessing, default weights, and the cut points: the shares of the layers that a trial can
    freeze.

    \b
    hpsearch backbones

    Others can be given to `run`: an earlier export (--backbone PATH.keras), or a function of your own that is called as
    those of keras.applications are (--backbone module:function).
    """
    rows = [{key: value for key, value in asdict(row).items() if key != "own"} for row in BACKBONES]
    rows = [row | {"weights": default_weights(one)} for row, one in zip(rows, BACKBONES, strict=True)]
    if as_json:
        print_json(rows)
    else:
        shown = [row | {"cuts": " ".join(f"{cut:g}" for cut in row["cuts"])} for row in rows]
        print_table(shown, ("name", "parameters", "native_size", "min_size", "preprocessing", "weights", "cuts"))
