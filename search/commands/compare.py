"""`hpsearch compare`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import click

from search.workspace import Workspace, current_fingerprint
from studies.replicates import seed_noise
from studies.sqlite_reader import StoredStudy, read_studies
from studies.trial_tables import SCORES, foreign_note, trial_row, trial_rows

if TYPE_CHECKING:
    from search.winners.ties import DifferenceNoise

TITLES = dict(zip(SCORES, ("clean F1", "corrupted F1", "worst family F1"), strict=True))
COST_TITLES = ("GFLOPs", "ms/image", "MB")
COLUMNS = ("study", "trial", *TITLES.values())
DETAILED_COLUMNS = ("study", "trial", "accuracy", "precision", "recall", *TITLES.values(), "parameters", *COST_TITLES)
CONFIRMED = "other seeds"
LEAST = (
    *("precision", "recall", "parameters", *COST_TITLES, "accuracy"),
    *("trial", CONFIRMED, "worst family F1"),
)
"""Columns that a narrow terminal leaves out, the least important first."""
LEAST_TRIALS = 5


@click.command()
@click.option("--trials", "all_trials", is_flag=True, help="Show every complete trial, not only the best ones.")
@click.option("--details", is_flag=True, help="Add further columns, hyperparameters and rank correlations.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with hyperparameters and rank correlations.")
@click.pass_obj
def compare(workspace: Workspace, all_trials: bool, details: bool, as_json: bool) -> None:
    """Compare the best trial of each study, by its scores on clean and on corrupted validation images.

    \b
    hpsearch compare
    hpsearch compare --trials --details

    A score marked with = differs from the best of its column by no more than chance explains. --details adds precision,
    recall, parameters, milliseconds per image, hyperparameters, and rank correlations, which show whether the scores
    agree on what is good. GFLOPs are twice the multiply-adds of convolutions and dense layers; MB is the size of the
    exported weights.
    """
    from search.terminal.output import print_json, print_next
    from search.winners.best_trial import common_figure
    from search.winners.ties import DifferenceNoise, mark_ties

    studies = read_studies(workspace.database)
    everything = [row for study in studies for row in trial_rows(study)]
    if not everything and not as_json:
        click.echo("No trial is complete yet.")
        return
    rows = everything if all_trials else _best(studies)
    current = current_fingerprint(workspace)
    figure = common_figure({row["objective"] for row in rows if row["fingerprint"] == current})
    by_seeds = all(row["confirmed"] for row in rows if row["fingerprint"] == current)  # as export-best decides
    rows.sort(key=lambda row: (row["fingerprint"] != current, -_rank(row, figure, by_seeds and not all_trials)))
    noise = DifferenceNoise(workspace, {study.name: _seed_noise(study) for study in studies})
    for fingerprint in {row["fingerprint"] for row in rows}:
        mark_ties([row for row in rows if row["fingerprint"] == fingerprint], noise)
    correlations = _correlations([row for row in everything if row["fingerprint"] == current])
    if as_json:
        print_json({"trials": rows, "noise": sorted(noise.used), "rank_correlations": correlations})
        return
    for note in filter(None, map(foreign_note, studies)):
        click.echo(note)
    _show(rows, noise, DETAILED_COLUMNS if details else COLUMNS)
    if figure:
        click.echo("The studies have different objectives: ordered by the mean of clean and corrupted macro-F1.")
    if others := {row["study"]: None for row in rows if row["fingerprint"] != current}:
        click.echo(f"Not comparable, since they were scored on the images of another preparation: {', '.join(others)}")
    if details:
        _show_details(rows, correlations)
    else:
        click.echo("Accuracy, costs, hyperparameters and rank correlations: hpsearch compare --details")
        print_next(workspace, "export-best")


def _best(studies: Sequence[StoredStudy]) -> list[dict[str, Any]]:
    from search.winners.best_trial import best_of

    found = [(study, best_of(study)) for study in studies]
    return [trial_row(study, best.record) for study, best in found if best]


def _rank(row: dict[str, Any], figure: str | None, by_seeds: bool) -> float:
    if figure:
        return float(row[figure])
    return float(row["confirmed"]["mean"] if by_seeds and row["confirmed"] else row["value"])


def _seed_noise(study: StoredStudy) -> dict[str, float]:
    spreads = {figure: seed_noise(study.retrained, figure) for figure in SCORES}
    return {figure: spread for figure, spread in spreads.items() if spread is not None}


def _correlations(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per pair of figures, over the trials that have both; none with fewer than LEAST_TRIALS."""
    from models.scoring.rank_correlation import rank_correlations

    found = []
    for first, second in combinations(SCORES, 2):
        pairs = [(row[first], row[second]) for row in rows if None not in (row[first], row[second])]
        if len(pairs) >= LEAST_TRIALS:
            columns = {"columns": f"{TITLES[first]}, {TITLES[second]}", "trials": len(pairs)}
            found.append(columns | rank_correlations(*zip(*pairs, strict=True)))
    return found


def _show(rows: Sequence[dict[str, Any]], noise: DifferenceNoise, columns: Sequence[str]) -> None:
    from search.terminal.output import print_table
    from search.winners.ties import TIE

    external = tuple(dict.fromkeys(_external_title(name) for row in rows for name in row["external"]))
    confirmed = (CONFIRMED,) if any(row["confirmed"] for row in rows) else ()
    print_table([_shown(row) for row in rows], (*columns, *external, *confirmed), least=(*LEAST, *external))
    if confirmed:
        click.echo(f"{CONFIRMED}: mean objective over other seeds, and their number (`run --confirm`)")
    if external:
        click.echo("external F1: macro-F1 over the classes of the external set, which no trial was trained on")
    if any(TIE in row["standing"].values() for row in rows):
        click.echo(
            "= chance may explain the difference to the best of the column: it is below 1.96 standard errors, "
            f"estimated by {' and '.join(sorted(noise.used))}"
        )


def _show_details(rows: Sequence[dict[str, Any]], correlations: Sequence[dict[str, Any]]) -> None:
    from search.terminal.output import print_table, short

    for row in rows:
        chosen = ", ".join(f"{key} {short(value)}" for key, value in row["hyperparameters"].items())
        click.echo(f"{row['study']} trial {row['trial']}, {row['objective']} {row['value']:.4f}: {chosen}")
    if correlations:
        click.echo("Rank correlations of the columns over the complete trials (1: same order, 0: none, -1: reversed):")
        print_table(correlations, ("columns", "trials", "kendall_tau", "spearman_rho"))


def _external_title(name: str) -> str:
    return f"external {name} F1"


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row under the headings of the terminal."""
    from search.terminal.output import cell
    from search.winners.ties import TIE

    scores = {
        title: cell(row[name]) + (" =" if row["standing"].get(name) == TIE else "") for name, title in TITLES.items()
    }
    if row["worst_family"]:
        scores[TITLES["worst_family_macro_f1"]] += f" ({row['worst_family']})"
    gflops = None if row["flops_per_image"] is None else row["flops_per_image"] / 1e9
    names = {"precision": "macro_precision", "recall": "macro_recall", "ms/image": "ms_per_image", "MB": "weights_mb"}
    external = {_external_title(name): figures["macro_f1"] for name, figures in row["external"].items()}
    again = row["confirmed"]
    external |= {CONFIRMED: f"{again['mean']:.4f} ({again['seeds']})" if again else ""}
    return row | scores | external | {"GFLOPs": gflops} | {heading: row[name] for heading, name in names.items()}
