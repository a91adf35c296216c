"""`hpsearch export-best`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import backbone_named
from models.errors import ModelError
from models.formats.conversion import check_installed
from models.formats.registry import FORMATS
from models.scoring.objectives import external_name
from search.exporting.export import METRICS_FILE, Exported, export
from search.exporting.figure_tables import print_estimates, print_gaps, print_operations, print_parts, print_trust
from search.exporting.format_files import print_formats
from search.exporting.scored_parts import estimate_errors, parts_in
from search.exporting.variants import ExportExtras
from search.terminal.output import print_table
from search.winners.model_budget import LIMITS, Budget, Choice, budget_options
from search.winners.picked_trial import Pick, picked
from search.winners.refit import Refitter
from search.workspace import Workspace
from studies.sqlite_reader import read_studies


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
@click.option("--study", help="Of this study.  [default: the one with the best trial]")
@click.option("--trial", type=click.IntRange(0), help="This trial of it.  [default: the best]")
@click.option("--refit", is_flag=True, help="Train it anew on training and validation images together.")
@click.option("--weights", help="For --refit: the file, of a study whose pretrained weights came from one.")
@budget_options
@click.pass_obj
def export_best(
    workspace: Workspace,
    /,
    backbone: str | None,
    out: Path | None,
    study: str | None,
    trial: int | None,
    formats: tuple[str, ...],
    **options: Any,
) -> None:
    """Hand over the best trial as a model folder: weights, preprocessing and class names inside, figures, model card.

    \b
    hpsearch export-best --out my-model
    hpsearch export-best --average 3 --tta
    hpsearch export-best --max-params 5M --max-ms 2
    hpsearch export-best --trial 7 --refit
    hpsearch export-best --format onnx --format litert

    The model is reloaded in a fresh process and must give the same probabilities before the command says done;
    so must each --format, by its own runtime. All take raw uint8 images and give probabilities; codabench is a zip file
    with the model.py that such challenges ask for, which gives labels.
    The locked test set is read once for a trial, as it is and corrupted; exporting it again shows the stored figures.
    --average and --tta (test-time augmentation) are kept only when they raise macro-F1 on the corrupted validation
    images; they cost as many times the prediction as networks and views take part.
    --max-params, --max-flops, --max-ms and --max-mb take the best trial, of all backbones, that costs no more; the
    figures are those of `compare`, milliseconds as measured by the trial on its own machine.
    --refit trains the chosen trial anew, for as many epochs as its best one had, on the validation images too. It has
    no validation score then: the validation figures shown are those from before. With --average, what is kept is
    settled first, and each of its trials trained anew.
    Figures come with 95 % intervals. calibration.json keeps what `evaluate` and `predict` say of how sure they are.
    """
    if backbone:
        check_backbone(workspace, backbone)
    if out and out.exists() and not (out / METRICS_FILE).is_file():
        raise click.BadParameter(f"{out} exists and is no export; name another folder", param_hint="--out")
    for name in formats:
        check_installed(FORMATS[name], writing=True)
    pick, budget = Pick(backbone, study, trial), Budget.of({name: options[name] for name in LIMITS})
    _check_budget(budget, pick, options["average"] or options["tta"])
    PreparedSet.open(workspace.prepared)  # says so where there is no workspace, before one is made for its lock
    with workspace.shared():
        prepared = PreparedSet.open(workspace.prepared)
        choice = _choice(workspace, prepared, budget, pick)
        winner = choice.winner
        refit = Refitter(workspace, prepared, options["weights"], click.echo).refitted if options["refit"] else None
        name = f"{winner.settings.name}-trial-{winner.record.number}{'-refit' if refit else ''}"
        extras = ExportExtras(options["average"] or 1, pick.allows, options["tta"], refit)
        what = "picked by its number" if winner.picked else "the best of its study"
        show(
            export(workspace, prepared, winner, out or workspace.exports / name, extras, formats),
            f"the best with {budget}" if budget.limits else what,
        )
    if choice.left_out:
        better = choice.left_out
        click.echo(
            f"left out for the budget: trial {better.record.number} of {better.settings.name}, {better.value:.4f}, "
            f"with {budget.costs(better.record)}"
        )


def _check_budget(budget: Budget, pick: Pick, multiplied: bool) -> None:
    """UsageError where a budget stands beside what it does not go with."""
    if budget.limits and not (pick.study is None and pick.trial is None):
        raise click.UsageError("--study and --trial say which trial it is: leave them out, or the --max- options")
    if budget.limits and multiplied:
        raise click.UsageError("--average and --tta multiply what a model costs: leave them out, or the --max- options")


def _choice(workspace: Workspace, prepared: PreparedSet, budget: Budget, pick: Pick) -> Choice:
    if budget.limits:
        return budget.best(workspace, prepared, pick.backbone)
    return Choice(picked(workspace, prepared, pick))


def check_backbone(workspace: Workspace, name: str) -> None:
    """BadParameter for a name that is neither in the table nor that of a study's own backbone."""
    try:
        backbone_named(name)
    except ModelError as error:
        studies = read_studies(workspace.database) if workspace.database.is_file() else []
        own = {study.settings.backbone for study in studies if study.settings.own_backbone}
        if name in own:
            return
        hint = f"; your own: {', '.join(sorted(own))}" if own else ""
        raise click.BadParameter(f"{error}{hint}", param_hint="--backbone") from error


def show(done: Exported, what: str) -> None:
    """The figures and how they were come by; `what` the trial is."""
    record = done.winner.record
    again = f", on other seeds {done.winner.confirmed:.4f} on average" if done.winner.confirmed is not None else ""
    click.echo(f"trial {record.number} of {done.winner.settings.name}, {what}: {record.value:.4f}{again}")
    if decisive := external_name(done.winner.settings.objective):
        click.echo(f"chosen by macro-F1 on the external set {decisive}: its figures there flatter it")
    if refit := done.metrics.get("refit"):
        click.echo(
            f"refitted on {sum(refit['trained_on'].values()):,} training and validation images, "
            f"{' and '.join(map(str, refit['epochs']))} epochs: the score and the validation figures are from before"
        )
    tried = done.metrics["tried"]
    if len(tried) > 1:
        print_table(tried, ("model", "clean", "corrupted", "kept"))
        click.echo("Macro-F1 on the validation images; the corrupted ones decide what is kept.")
    parts = [(part.title, figures) for part, figures in parts_in(done.metrics)]
    print_parts(parts)
    which = f"reading {done.reading} of this workspace" if done.reading else "the stored figures of its first export"
    click.echo(f"test: {which}")
    print_operations(done.metrics["corruptions"], decisive is None)
    print_gaps(done.metrics)
    print_trust(parts)
    print_estimates({}, estimate_errors(done.metrics["test"]))
    click.echo(f"reloaded in a fresh process: probabilities within {done.difference:.1e} on every validation image")
    print_formats(done.metrics["formats"])
    click.echo(f"done: {done.folder}")
