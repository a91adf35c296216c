"""`hpsearch predict`."""

from __future__ import annotations

from pathlib import Path

import click

from models.formats.registry import FORMATS
from models.scoring.target_errors import TARGET_ERRORS
from search.errors import SearchError
from search.terminal.value_range import VALUE_RANGE

DEFAULT_TARGET = 0.01
DEFAULT_OUT = "labels.csv"
TARGETS = {f"{100 * target:g}": target for target in TARGET_ERRORS}


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"File to write; JSON lines if it ends in .jsonl.  [default: {DEFAULT_OUT}, an existing one is not replaced]",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    help="Use the export in this format, in its own runtime.  [default: keras]",
)
@click.option("--probabilities", is_flag=True, help="Add one column per class with its probability.")
@click.option("--abstain", is_flag=True, help="Mark images for which the model is not confident enough to answer.")
@click.option(
    "--target-error",
    type=click.Choice(list(TARGETS)),
    default=f"{100 * DEFAULT_TARGET:g}",
    show_default=True,
    help="Per cent of wrong answers that --abstain aims at.",
)
@VALUE_RANGE
def predict(
    model: Path,
    data: Path,
    out: Path | None,
    format_name: str | None,
    probabilities: bool,
    abstain: bool,
    target_error: str,
    value_range: str | None,
) -> None:
    """Label the images in DATA with an exported MODEL (its folder).

    \b
    hpsearch predict my-model new-cells --out labels.csv
    hpsearch predict my-model new-cells --abstain

    DATA is an .npz file with `images`, a folder with pictures, a table of their paths, or one picture. Images of
    another size are cropped to the middle and resized, as in training.

    The file has a row per image: its label, and the label's probability, calibrated on the validation images. A picture
    that cannot be read has the reason instead.
    """
    from search.evaluating.exported_model import open_export
    from search.evaluating.inputs import chunks
    from search.evaluating.labelling import COLUMNS, Labelling, counted, tell_abstention, write_rows
    from search.terminal.progress_bars import Stages

    out = _checked(out, data)
    exported = open_export(model, format_name)
    threshold = exported.known_trust().abstention(TARGETS[target_error]).threshold if abstain else None
    labelling = Labelling(exported, threshold, probabilities)
    columns = (*COLUMNS, *(["abstained"] if abstain else []), *labelling.class_columns, "reason")
    with Stages() as stages:
        found = (
            row for chunk in chunks(data, exported.image_shape, stages, value_range) for row in labelling.rows(chunk)
        )
        write_rows(out, found, columns)
    if not labelling.labelled:
        raise SearchError(f"no image in {data} could be read: {out} tells the reasons")
    click.echo(f"labelled {labelling.labelled} images: {counted(labelling.labels)}")
    if labelling.unreadable:
        click.echo(f"{labelling.unreadable} could not be read: the column `reason` tells why", err=True)
    if exported.trust is None:
        click.echo(
            "warning: the export has no calibration, its probabilities are raw: export the trial again", err=True
        )
    if threshold is not None:
        tell_abstention(exported, labelling, TARGETS[target_error], threshold)
    click.echo(f"written: {out}")


def _checked(asked: Path | None, data: Path) -> Path:
    """Return the file to write. An existing file is replaced only if it was named, and the images never are."""
    out = asked or Path(DEFAULT_OUT)
    if asked is None and out.exists():
        raise click.BadParameter(f"{out} is there already: name the file to write", param_hint="--out")
    if not out.parent.is_dir():
        raise click.BadParameter(f"there is no folder {out.parent}", param_hint="--out")
    if out.exists() and out.samefile(data):
        raise click.BadParameter(f"{out} is what is to be labelled: name another file", param_hint="--out")
    return out
