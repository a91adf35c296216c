"""`hpsearch backbones`."""

from __future__ import annotations

from dataclasses import asdict

import click

from models.backbones import BACKBONES, default_weights
from search.output import print_json, print_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backbones(as_json: bool) -> None:
    """List the backbones: weights without the head, native image size, preprocessing, default weights.

    \b
    hpsearch backbones
    """
    rows = [asdict(row) | {"weights": default_weights(row)} for row in BACKBONES]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ("name", "parameters", "native_size", "preprocessing", "weights"))
