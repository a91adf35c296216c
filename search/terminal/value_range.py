"""The option `--value-range`, which several commands share."""

from __future__ import annotations

import click

from data_prep.settings import VALUE_RANGES

VALUE_RANGE = click.option(
    "--value-range",
    type=click.Choice(VALUE_RANGES),
    help="Range of the values in an .npz file that is not uint8, if the values do not show it.",
)
