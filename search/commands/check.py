"""`hpsearch check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from search.workspace import Workspace

if TYPE_CHECKING:
    from search.evaluating.leaky_split import Measured


@click.command(context_settings={"show_default": True})
@click.option("--what-if-leaky", is_flag=True, help="Also show how splitting after augmentation inflates the score.")
@click.option("--images", type=click.IntRange(30), default=900, help="With --what-if-leaky: most originals to use.")
@click.option("--epochs", type=click.IntRange(1), default=40, help="With --what-if-leaky: epochs of each training.")
@click.option("--seed", type=click.IntRange(0), default=0, help="With --what-if-leaky: seed of splits and trainings.")
@click.pass_context
def check(ctx: click.Context, /, what_if_leaky: bool, images: int, epochs: int, seed: int) -> None:
    """Verify the prepared set from its files: checksums, leaks between the splits, augmented views outside training.

    \b
    hpsearch check
    hpsearch check --what-if-leaky

    The check compares pixels, so it also finds files that were changed together with their checksums. Exit code 1 means
    that something is wrong.

    --what-if-leaky then trains the small network twice on training images: once split after augmentation, a common
    mistake, and once split before. Both are scored on images that neither has seen. It takes a minute or two, and does
    not read the test set.
    """
    from data_prep.check import check as look
    from search.terminal.progress_bars import Stages

    workspace: Workspace = ctx.obj
    with Stages() as stages:
        problems = look(workspace.prepared, stages)
    for problem in problems:
        click.echo(problem)
    if problems:
        click.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {workspace.prepared}.")
        ctx.exit(1)
    click.echo(f"{workspace.prepared} is sound.")
    if what_if_leaky:
        _show_leak(workspace, images, epochs, seed)


def _show_leak(workspace: Workspace, images: int, epochs: int, seed: int) -> None:
    from search.engine.keras_import import import_keras

    import_keras()
    from data_prep.storage.reader import PreparedSet
    from search.evaluating.leaky_split import explain
    from search.evaluating.leaky_split import what_if_leaky as measure
    from search.terminal.output import print_table
    from search.terminal.progress_bars import Stages

    with workspace.shared(), Stages() as stages:
        leaky, proper = measure(PreparedSet.open(workspace.prepared), images, epochs, seed, stages)
    print_table(_rows(leaky, proper), ("", "split_after_augmenting", "split_first"))
    click.echo(explain(leaky, proper))
    click.echo("All figures count stored views as well as originals: do not compare them with a study's.")


def _rows(leaky: Measured, proper: Measured) -> list[dict[str, object]]:
    """Return a row per figure, with a column per way to split."""
    lines = {
        "training images, views included": "training_images",
        "validation images, views included": "validation_images",
        "share of them known from training": "known_share",
        "validation accuracy": "accuracy",
        "validation macro-F1": "macro_f1",
        "accuracy on images kept out of both": "unseen_accuracy",
        "macro-F1 on images kept out of both": "unseen_macro_f1",
        "validation accuracy is too high by": "overstated",
    }
    return [
        {"": title, "split_after_augmenting": getattr(leaky, name), "split_first": getattr(proper, name)}
        for title, name in lines.items()
    ]
