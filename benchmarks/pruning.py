"""What pruning saves and what it costs: recorded curves of unpruned trials, replayed under each policy.

    python benchmarks/pruning.py record WORKSPACE CURVES.json [--study NAME]   # again after more trials: all of them
    python benchmarks/pruning.py replay CURVES.json OUT.json --seeds 200 --trials 20
    python benchmarks/pruning.py show OUT.json

The study whose curves are recorded is one without pruning, on a workspace that is prepared as usual:

    hpsearch prepare training_set.npz
    hpsearch run --backbone mobilenetv2_035 --trials 40 --pruner none

`replay` draws for each seed `--trials` of the recorded trials in a random order and gives them to Optuna's pruner one
after the other, as a search of one worker does: report, should_prune, tell, with the recorded values. The rows
`hpsearch: ...` are the pruners as `run` configures them, head phase included. All other rows report fine-tuning epochs
alone, counted from 1, since values of the head phase are not comparable with them. `all to epoch ...` rows train all
trials to an epoch, and the best share of them to the end; going on with a trial costs its start once more.

Share: epochs (seconds) of the policy / of the same trials unpruned. Regret: the best final value of the trials drawn
minus that of the trials that ran to their end. Equal compute: trials are drawn with replacement until the policy has
used what `--trials` unpruned ones take; how far the best value reached lies below the best one recorded. Seconds are
those recorded, of a machine that may have had other work: epochs tell policies apart with less noise.

What it does not say: the sampler is not replayed, and would propose other trials after pruned ones (`recorded order` is
that in which it proposed them, once: share of epochs and regret). Trials that diverged or failed have no curve. Seeds
draw from the same few trials: the errors shown are of the drawing alone and say nothing about another data set, and the
best of so many rows is lucky, so prefer one among the best whose neighbours are good too.
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
"""The columns of the table, with the figures under each."""


def record(workspace: Path, out: Path, name: str | None) -> None:
    """Writes the complete trials of the workspace's study without pruning, or of the one called `name`."""
    storage = existing_storage(workspace / "studies.db")
    studies = [load_study(storage, one) for one in ([name] if name else study_names(storage))]
    whole = [study for study in studies if stored_settings(study).pruner == "none"]
    if len(whole) != 1:
        names = ", ".join(study.study_name for study in whole) or "none"
        raise SystemExit(f"one study run with `--pruner none` is needed, and there are: {names}; name one by --study")
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
    """A row a line under `key`."""
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    head = json.dumps(report, indent=1).removesuffix("\n}")
    out.write_text(f'{head},\n "{key}": [\n  {lines}\n ]\n}}\n')


def recorded_of(report: dict[str, Any]) -> Recorded:
    """The curves in what `record` wrote."""
    curves = []
    for trial in report["trials"]:
        phases, values, seconds = zip(*trial["epochs"], strict=True)
        outside_s = max(0.0, trial["seconds"] - sum(seconds))
        curves.append(Curve(values, seconds, outside_s, trial["value"], phases.count(HEAD)))
    heads = {curve.head for curve in curves}
    if len(heads) != 1:
        raise SystemExit(f"all trials must have the same head phase, but there are ones of {sorted(heads)} epochs")
    return Recorded(tuple(curves), heads.pop(), report["settings"]["recipe"]["epochs"])


def early_ranks(recorded: Recorded) -> dict[str, float]:
    """Epochs of fine-tuning done (0: the end of the head phase) -> Kendall's tau of the values then with the last."""
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
    """A line a policy, the best at equal seconds first."""
    report = json.loads(out.read_text())
    ranks = ", ".join(f"{epoch}: {tau:.2f}" for epoch, tau in report["early_ranks"].items())
    print(f"{report['seeds']} seeds, {report['trials']} of {report['recorded_trials']} recorded trials")
    print(f"Kendall's tau with the final value after so many fine-tuning epochs: {ranks}")
    print("shares: median, mean; regret, below best and gain over none, with its standard error: 0.01 of the objective")
    widths = {title: max(len(title), 7 * len(keys)) + 2 for title, keys in SHOWN.items()}
    print(f"{'policy':<40}" + "".join(f"{title:>{widths[title]}}" for title in SHOWN) + "  trials")
    for row in sorted(report["policies"], key=lambda row: row["equal_seconds_below_best"]):
        cells = {title: "".join(f"{100 * row[key]:>7.2f}" for key in keys) for title, keys in SHOWN.items()}
        line = "".join(f"{cell:>{widths[title]}}" for title, cell in cells.items())
        print(f"{row['policy']:<40}{line}{row['equal_seconds_trials']:>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording, replaying = commands.add_parser("record"), commands.add_parser("replay")
    recording.add_argument("workspace", type=Path)
    recording.add_argument("--study")
    replaying.add_argument("curves", type=Path)
    replaying.add_argument("--seeds", type=int, default=200)
    replaying.add_argument("--trials", type=int, default=20)
    for command in (recording, replaying, commands.add_parser("show")):
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
