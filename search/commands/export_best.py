"""`hpsearch export-best`."""

from __future__ import annotations

from pathlib import Path

import click

from data_prep.prepared import PreparedSet
from models.backbones import backbone_named
from models.converting import check_installed
from models.errors import ModelError
from models.formats import FORMATS
from search.export_formats import print_formats
from search.exporting import METRICS_FILE, Exported, export
from search.figures_output import print_estimates, print_gaps, print_operations, print_parts, print_trust
from search.output import print_table
from search.scored_parts import estimate_errors, parts_in
from search.variants import Extras
from search.winners import find_winner
from search.workspace import Workspace


@click.command(name="export-best")
@click.option("-b", "--backbone", help="Of this backbone only.  [default: of all]")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The folder to write.  [default: in the workspace]")
@click.option(
    "--format",
    "formats",
    type=click.Choice(list(FORMATS)),
    multiple=True,
    help="Write the model in this format as well; may be repeated.  [default: keras alone]",
)
@click.option("--average", type=click.IntRange(2), help="Try the mean of so many of the best trials as well.")
@click.option("--tta", is_flag=True, help="Try the mean over each image turned and mirrored as well.")
@click.pass_obj
def export_best(
    workspace: Workspace,
    backbone: str | None,
    out: Path | None,
    formats: tuple[str, ...],
    average: int | None,
    tta: bool,
) -> None:
    """Hand over the best trial as a model folder: weights, preprocessing and class names inside, figures, model card.

    \b
    hpsearch export-best --out my-model
    hpsearch export-best --average 3 --tta
    hpsearch export-best --format onnx --format litert

    The model is reloaded in a fresh process and must give the same probabilities before the command says done;
    so must each --format, by its own runtime. All take raw uint8 images and give probabilities; codabench is a zip file
    with the model.py that such challenges ask for, which gives labels.
    The locked test set is read once for a trial, as it is and corrupted; exporting it again shows the stored figures.
    --average and --tta (test-time augmentation) are kept only when they raise macro-F1 on the corrupted validation
    images; they cost as many times the prediction as networks and views take part.
    Figures come with 95 % intervals. calibration.json keeps what `evaluate` and `predict` say of how sure they are.
    """
    if backbone:
        try:
            backbone_named(backbone)
        except ModelError as error:
            raise click.BadParameter(str(error), param_hint="--backbone") from error
    if out and out.exists() and not (out / METRICS_FILE).is_file():
        raise click.BadParameter(f"{out} exists and is no export; name another folder", param_hint="--out")
    for name in formats:
        check_installed(FORMATS[name], writing=True)
    PreparedSet.open(workspace.prepared)  # says so where there is no workspace, before one is made for its lock
    with workspace.shared():
        prepared = PreparedSet.open(workspace.prepared)
        winner = find_winner(workspace, prepared, backbone)
        target = out or workspace.exports / f"{winner.settings.name}-trial-{winner.record.number}"
        show(export(workspace, prepared, winner, target, Extras(average or 1, tta), formats))


def show(done: Exported) -> None:
    """The figures and how they were come by."""
    record = done.winner.record
    again = f", on other seeds {done.winner.confirmed:.4f} on average" if done.winner.confirmed is not None else ""
    click.echo(
        f"trial {record.number} of {done.winner.settings.name}, the best of its study: {record.value:.4f}{again}"
    )
    tried = done.metrics["tried"]
    if len(tried) > 1:
        print_table(tried, ("model", "clean", "corrupted", "kept"))
        click.echo("Macro-F1 on the validation images; the corrupted ones decide what is kept.")
    parts = [(part.title, figures) for part, figures in parts_in(done.metrics)]
    print_parts(parts)
    which = f"reading {done.reading} of this workspace" if done.reading else "the stored figures of its first export"
    click.echo(f"test: {which}")
    print_operations(done.metrics["corruptions"])
    print_gaps(done.metrics)
    print_trust(parts)
    print_estimates({}, estimate_errors(done.metrics["test"]))
    click.echo(f"reloaded in a fresh process: probabilities within {done.difference:.1e} on every validation image")
    print_formats(done.metrics["formats"])
    click.echo(f"done: {done.folder}")
