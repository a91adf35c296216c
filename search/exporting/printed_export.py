"""What `hpsearch export-best` prints: the verdict, and all figures if they are asked for."""

from __future__ import annotations

from typing import Any

import click

from models.scoring.objectives import external_name
from search.exporting.export import CARD_FILE, Exported
from search.exporting.figure_tables import print_estimates, print_gaps, print_operations, print_parts, print_trust
from search.exporting.format_files import print_formats
from search.exporting.scored_parts import estimate_errors, parts_in
from search.exporting.verdict import verdict_lines
from search.terminal.output import print_table


def print_export(done: Exported, what: str, details: bool = False) -> None:
    """Print the verdict; with `details` all figures.

    Args:
        what: What the trial is, such as "the best of its study".
    """
    record, metrics = done.winner.record, done.metrics
    again = f", {done.winner.confirmed:.4f} on average over other seeds" if done.winner.confirmed is not None else ""
    click.echo(f"trial {record.number} of {done.winner.settings.name}, {what}: {record.value:.4f}{again}")
    for line in verdict_lines(metrics):
        click.echo(line)
    if decisive := external_name(done.winner.settings.objective):
        click.echo(f"chosen by macro-F1 on the external set {decisive}: its figures on that set are too high")
    if refit := metrics.get("refit"):
        click.echo(
            f"refitted on {sum(refit['trained_on'].values()):,} training and validation images, "
            f"{' and '.join(map(str, refit['epochs']))} epochs: the score and the validation figures are from before"
        )
    if len(metrics["tried"]) > 1:
        print_table(metrics["tried"], ("model", "clean", "corrupted", "kept"))
        click.echo("Macro-F1 on the validation images; the corrupted ones decide what is kept.")
    which = f"reading {done.reading} of this workspace" if done.reading else "the stored figures of its first export"
    click.echo(f"test set: {which}")
    if details:
        _show_details(metrics, decisive is None)
    click.echo(f"reloaded in a fresh process: probabilities within {done.difference:.1e} on every validation image")
    print_formats(metrics["formats"])
    if done.replaced:
        click.echo(f"replaced the export of {done.replaced} in this folder")
    click.echo(f"done: {done.folder}")
    if not details:
        click.echo(f"All figures: {done.folder / CARD_FILE}, or --details")


def _show_details(metrics: dict[str, Any], corruptions_decide: bool) -> None:
    parts = [(part.title, figures) for part, figures in parts_in(metrics)]
    print_parts(parts)
    print_operations(metrics["corruptions"], corruptions_decide)
    print_gaps(metrics)
    print_trust(parts)
    print_estimates({}, estimate_errors(metrics["test"]))
