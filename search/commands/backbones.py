"""`hpsearch backbones`."""

from __future__ import annotations

from dataclasses import asdict

import click

from models.backbones.registry import BACKBONES, default_weights


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backbones(as_json: bool) -> None:
    """List the backbones that `run` can fine-tune.

    \b
    hpsearch backbones

    Shown are the parameters (without the head), the side of the images it was pretrained on, the smallest side it
    takes, preprocessing, default weights, and the shares of its layers that a trial can freeze.

    `run` also takes an earlier export (--backbone PATH.keras) and a function of your own that is called as the
    functions of keras.applications are (--backbone module:function).
    """
    from search.terminal.output import print_json, print_table

    rows = [{key: value for key, value in asdict(row).items() if key != "own"} for row in BACKBONES]
    rows = [row | {"weights": default_weights(one)} for row, one in zip(rows, BACKBONES, strict=True)]
    if as_json:
        print_json(rows)
    else:
        shown = [row | {"cuts": " ".join(f"{cut:g}" for cut in row["cuts"])} for row in rows]
        print_table(shown, ("name", "parameters", "native_size", "min_size", "preprocessing", "weights", "cuts"))
