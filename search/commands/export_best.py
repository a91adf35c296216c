"""`hpsearch export-best`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.backbones.registry import backbone_named
from models.errors import ModelError
from models.formats.registry import FORMATS
from search.terminal.help_sections import SectionedCommand, section_options
from search.winners.budget_options import LIMITS, budget_options
from search.workspace import Workspace

if TYPE_CHECKING:
    from data_prep.storage.reader import PreparedSet
    from search.winners.model_budget import Budget, Choice
    from search.winners.picked_trial import Pick

_which, _model = map(section_options, ("Which trial", "Model"))


@click.command(name="export-best", cls=SectionedCommand)
@_which("-b", "--backbone", help="Consider this backbone only.  [default: all]")
@_which("--study", help="Consider this study only.  [default: the one with the best trial]")
@_which("--trial", type=click.IntRange(0), help="Export this trial.  [default: the best]")
@budget_options
@_model("--average", type=click.IntRange(2), help="Also try the average of this many of the best trials.")
@_model("--tta", is_flag=True, help="Also try test-time augmentation: the average over mirrored and turned copies.")
@_model("--refit", is_flag=True, help="Train the chosen trial again on training and validation images together.")
@_model("--weights", help="With --refit: file of the pretrained weights, if the study used one.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder to write.  [default: in the workspace]")
@click.option(
    "--format",
    "formats",
    type=click.Choice(list(FORMATS)),
    multiple=True,
    help="Also write the model in this format. May be repeated.",
)
@click.option("--details", is_flag=True, help="Show all figures: per part, family, calibration, abstaining.")
@click.pass_obj
def export_best(
    workspace: Workspace,
    /,
    backbone: str | None,
    out: Path | None,
    study: str | None,
    trial: int | None,
    formats: tuple[str, ...],
    details: bool,
    **options: Any,
) -> None:
    """Export the best trial as a model folder: weights, preprocessing, class names, figures and a model card.

    \b
    hpsearch export-best --out my-model
    hpsearch export-best --average 3 --tta
    hpsearch export-best --max-params 5M --max-ms 2
    hpsearch export-best --trial 7 --refit
    hpsearch export-best --format onnx --format litert

    The model takes raw uint8 images and gives probabilities. It is reloaded in a fresh process, where it must give the
    probabilities of training; so must every --format, in its own runtime. codabench is a zip file with the model.py
    that such challenges ask for.

    The locked test set is read once per trial, clean and corrupted. Exporting a trial again shows the stored figures.

    --average and --tta are kept only if they raise macro-F1 on the corrupted validation images. They multiply the time
    of a prediction. The --max options take the best trial, of all backbones, that costs no more; milliseconds are those
    that the trial measured on its own machine.

    --refit trains for as many epochs as the trial's best one had. The refitted model has no validation score of its
    own: the validation figures shown are those from before.
    """
    from data_prep.storage.reader import PreparedSet
    from models.formats.conversion import check_installed
    from search.exporting.export import METRICS_FILE, export
    from search.exporting.printed_export import print_export
    from search.exporting.variants import ExportExtras
    from search.winners.model_budget import Budget
    from search.winners.picked_trial import Pick
    from search.winners.refit import Refitter

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
        done = export(workspace, prepared, winner, out or workspace.exports / name, extras, formats)
        print_export(done, f"the best with {budget}" if budget.limits else what, details)
    if choice.left_out:
        better = choice.left_out
        click.echo(
            f"left out for the budget: trial {better.record.number} of {better.settings.name}, {better.value:.4f}, "
            f"with {budget.costs(better.record)}"
        )


def _check_budget(budget: Budget, pick: Pick, multiplied: bool) -> None:
    """Raise UsageError if a budget is given with an option that excludes it."""
    if budget.limits and not (pick.study is None and pick.trial is None):
        raise click.UsageError("--study and --trial say which trial it is: leave them out, or the --max- options")
    if budget.limits and multiplied:
        raise click.UsageError("--average and --tta multiply what a model costs: leave them out, or the --max- options")


def _choice(workspace: Workspace, prepared: PreparedSet, budget: Budget, pick: Pick) -> Choice:
    from search.winners.model_budget import Choice
    from search.winners.picked_trial import picked

    if budget.limits:
        return budget.best(workspace, prepared, pick.backbone)
    return Choice(picked(workspace, prepared, pick))


def check_backbone(workspace: Workspace, name: str) -> None:
    """Raise BadParameter for a name that is neither in the table nor the backbone of a stored study."""
    from studies.sqlite_reader import read_studies

    try:
        backbone_named(name)
    except ModelError as error:
        studies = read_studies(workspace.database) if workspace.database.is_file() else []
        own = {study.settings.backbone for study in studies if study.settings.own_backbone}
        if name in own:
            return
        hint = f"; your own: {', '.join(sorted(own))}" if own else ""
        raise click.BadParameter(f"{error}{hint}", param_hint="--backbone") from error
