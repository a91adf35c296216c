"""Measure what pruning saves and what it costs, by replaying recorded trials under each pruning policy.

    python benchmarks/pruning.py record WORKSPACE CURVES.json [--study NAME]
    python benchmarks/pruning.py replay CURVES.json OUT.json --seeds 200 --trials 20
    python benchmarks/pruning.py show OUT.json

`record` needs a study without pruning:

    hpsearch prepare training_set.npz
    hpsearch run --backbone mobilenetv2_035 --trials 40 --pruner none

It writes the curves of all complete trials anew; call it again after more trials. For each seed, `replay` draws
`--trials` of the recorded trials in random order and gives them to Optuna's pruner one after the other, as a search in
one process does (report, should_prune, tell), with the recorded values.

Rows `hpsearch: ...` are the pruners as `run` configures them, head phase included. All other rows report the epochs of
fine-tuning alone, counted from 1, because values of the head phase are not comparable with later ones. Rows `all to
epoch ...` train all trials to that epoch and only the best share of them to the end; resuming a trial costs its start
once more.

    share           epochs (or seconds) under the policy, divided by those of the same trials unpruned
    regret          best final value of the drawn trials, less the best among the trials that ran to their end
    equal compute   trials are drawn with replacement until the policy has used as much as `--trials` unpruned trials;
                    the figure is how far its best value lies below the best recorded one
    recorded order  share of epochs, and regret, if the trials come once in the order in which they were recorded

Prefer epochs to seconds for comparing policies: the seconds are those recorded, on a machine that may have had other
work.

The replay has limits. It does not replay the sampler, which would suggest other trials after pruned ones. Trials that
diverged or failed have no curve. All seeds draw from the same few trials, so the standard errors cover the drawing
alone, not another data set. The best of this many rows is partly luck: prefer a good row with good neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from pruning_replay import (
    NONE,
    POLICIES,
    UNITS,
    Curve,
    Recorded,
    best_value,
    of_seed,
    share_and_regret,
    summary,
    unpruned,
)
from scipy.stats import kendalltau

from models.training.recipe import HEAD
from studies.records import TrialRecord, records_of
from studies.settings import stored_settings
from studies.storage import existing_storage, load_study, study_names

SHOWN = {
    "epochs %": ("epochs_median", "epochs_mean"),
    "seconds %": ("seconds_median", "seconds_mean"),
    "regret, p90": ("regret_mean", "regret_p90"),
    "lost %": ("best_lost",),
    **{
        f"equal {unit}: below best, gain": tuple(f"equal_{unit}_{key}" for key in ("below_best", "gain", "gain_error"))
        for unit in UNITS
    },
    "recorded order": ("as_recorded_epochs", "as_recorded_regret"),
}
"""Title of each column of the table -> the figures in it."""


def record(workspace: Path, out: Path, name: str | None) -> None:
    """Write the curves of the complete trials of one study: the one called `name`, or the only one without pruning."""
    storage = existing_storage(workspace / "studies.db")
    studies = [load_study(storage, one) for one in ([name] if name else study_names(storage))]
    whole = [study for study in studies if stored_settings(study).pruner == "none"]
    if len(whole) != 1:
        names = ", ".join(study.study_name for study in whole) or "none"
        raise SystemExit(f"one study run with `--pruner none` is needed, but there are: {names}; name one with --study")
    complete = [one for one in records_of(whole[0]) if one.state == "complete"]
    columns = ["phase", "value", "seconds"]
    report = origin() | {"settings": asdict(stored_settings(whole[0])), "epoch_columns": columns}
    write(out, report, "trials", [_trial(one) for one in complete])
    print(f"{len(complete)} complete trials of {whole[0].study_name}")


def _trial(found: TrialRecord) -> dict[str, Any]:
    return {
        "number": found.number,
        "value": found.value,
        "seconds": round(found.seconds, 1),
        "hyperparameters": found.hyperparameters,
        "epochs": [[epoch["phase"], epoch["value"], round(epoch["seconds"], 1)] for epoch in found.epochs],
    }


def origin() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("keras", "optuna")},
    }


def write(out: Path, report: dict[str, Any], key: str, rows: list[dict[str, Any]]) -> None:
    """Write the report as JSON, with one line for each row under `key`."""
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    head = json.dumps(report, indent=1).removesuffix("\n}")
    out.write_text(f'{head},\n "{key}": [\n  {lines}\n ]\n}}\n')


def recorded_of(report: dict[str, Any]) -> Recorded:
    """Read the curves from a report of `record`."""
    curves = []
    for trial in report["trials"]:
        phases, values, seconds = zip(*trial["epochs"], strict=True)
        outside_s = max(0.0, trial["seconds"] - sum(seconds))
        curves.append(Curve(values, seconds, outside_s, trial["value"], phases.count(HEAD)))
    heads = {curve.head for curve in curves}
    if len(heads) != 1:
        raise SystemExit(f"all trials must have head phases of the same length, but they have {sorted(heads)} epochs")
    return Recorded(tuple(curves), heads.pop(), report["settings"]["recipe"]["epochs"])


def early_ranks(recorded: Recorded) -> dict[str, float]:
    """Return how well values after each epoch of fine-tuning rank the trials.

    Returns:
        Finished epochs (0: the head phase alone) -> Kendall's tau between the values then and the final values.
    """
    finals = [curve.final for curve in recorded.curves]
    ranks = {}
    for epoch in range(0 if recorded.head else 1, recorded.tuning + 1):
        then = [curve.values[: curve.head + epoch][-1] for curve in recorded.curves]
        ranks[str(epoch)] = float(kendalltau(then, finals).statistic)
    return ranks


def replay_all(curves: Path, out: Path, seeds: int, trials: int) -> None:
    report = json.loads(curves.read_text())
    recorded = recorded_of(report)
    if not 2 <= trials <= len(recorded.curves):
        raise SystemExit(f"`2 <= --trials <= {len(recorded.curves)}`, the trials recorded, must hold; it is {trials}")
    if seeds < 2:
        raise SystemExit(f"`--seeds >= 2` must hold, but it is {seeds}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    best = best_value(unpruned(recorded.curves))
    rows, none = [], [of_seed(NONE, recorded, seed, trials) for seed in range(seeds)]
    for policy in POLICIES:
        found = [of_seed(policy, recorded, seed, trials) for seed in range(seeds)]
        once = share_and_regret(policy, recorded, recorded.curves, "as recorded")
        recorded_order = {f"as_recorded_{key}": round(value, 6) for key, value in once.items()}
        rows.append({"policy": policy.name, **summary(found, none, best), **recorded_order})
    settings = {key: report["settings"][key] for key in ("backbone", "fingerprint", "recipe", "objective")}
    drawn = {"seeds": seeds, "trials": trials, "recorded_trials": len(recorded.curves)}
    write(out, {**origin(), "settings": settings, **drawn, "early_ranks": early_ranks(recorded)}, "policies", rows)
    show(out)


def show(out: Path) -> None:
    """Print a line for each policy, the best at equal seconds first."""
    report = json.loads(out.read_text())
    ranks = ", ".join(f"{epoch}: {tau:.2f}" for epoch, tau in report["early_ranks"].items())
    print(f"{report['seeds']} seeds, {report['trials']} of {report['recorded_trials']} recorded trials")
    print(f"Kendall's tau with the final values, by finished epochs of fine-tuning: {ranks}")
    print("epochs, seconds: median and mean share in %; regret: mean and 90th percentile, in 0.01 of the objective;")
    print("equal compute: below best, gain over none, standard error of the gain, in 0.01 of the objective")
    widths = {title: max(len(title), 7 * len(keys)) + 2 for title, keys in SHOWN.items()}
    print(f"{'policy':<40}" + "".join(f"{title:>{widths[title]}}" for title in SHOWN) + "  trials")
    for row in sorted(report["policies"], key=lambda row: row["equal_seconds_below_best"]):
        cells = {title: "".join(f"{100 * row[key]:>7.2f}" for key in keys) for title, keys in SHOWN.items()}
        line = "".join(f"{cell:>{widths[title]}}" for title, cell in cells.items())
        print(f"{row['policy']:<40}{line}{row['equal_seconds_trials']:>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="write the curves of a study without pruning")
    replaying = commands.add_parser("replay", help="replay the curves under each policy")
    showing = commands.add_parser("show", help="print the table")
    recording.add_argument("workspace", type=Path)
    recording.add_argument("--study", help="default: the only study without pruning")
    replaying.add_argument("curves", type=Path)
    replaying.add_argument("--seeds", type=int, default=200, help="random orders (default: %(default)s)")
    replaying.add_argument("--trials", type=int, default=20, help="trials drawn for each seed (default: %(default)s)")
    for command in (recording, replaying, showing):
        command.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "record":
        record(options.workspace, options.out, options.study)
    elif options.command == "replay":
        replay_all(options.curves, options.out, options.seeds, options.trials)
    else:
        show(options.out)


if __name__ == "__main__":
    main()
