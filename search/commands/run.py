"""`hpsearch run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import fields
from math import inf
from typing import Any

import click
from click.core import ParameterSource

from models.backbones.registry import Backbone
from models.backbones.user_rows import PREPROCESSING_NAMES, asked_backbone, stored_backbone
from models.errors import ModelError
from models.scoring.objectives import EXTERNAL_OBJECTIVE, OBJECTIVES, external_name
from models.training.recipe import CLASS_WEIGHTS
from search.engine.loop import StopRequestedError
from search.engine.per_gpu import ON_GPU, run_on_each
from search.engine.retention import DEFAULT_KEEP
from search.engine.stop_request import StopRequest, listening_for_signals
from search.planning.run_options import (
    PRECISION_CHOICES,
    PREFIX_CACHES,
    SETTING_DEFAULTS,
    XLA_CHOICES,
    Confirmation,
    RunOptions,
)
from search.planning.warm_start import DEFAULT_HINTS, read_hints
from search.run_studies import Limits, Run, estimate_backbones, run_backbones
from search.terminal.durations import DURATION
from search.terminal.output import console
from search.workspace import Workspace
from studies.pruners import PRUNERS
from studies.samplers import SAMPLERS
from studies.settings import stored_settings
from studies.storage import existing_storage, load_study

GIGABYTES = click.FloatRange(0, min_open=True)
Command = Callable[..., Any]
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def _confirm(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int]:
    """3x3 as two numbers: trials, and seeds for each."""
    if value is None:
        return 0, 0
    top, cross, seeds = value.partition("x")
    if not (cross and top.isdecimal() and seeds.isdecimal() and int(top) and int(seeds)):
        raise click.BadParameter(f"{value!r} must be trials x seeds, such as 3x3")
    return int(top), int(seeds)


def _objective(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """One of OBJECTIVES, or one on an external set, whose name the prepared set judges."""
    if value not in OBJECTIVES and not external_name(value):
        known = ", ".join(map(repr, (*OBJECTIVES, EXTERNAL_OBJECTIVE)))
        raise click.BadParameter(f"{value!r} is not one of {known}.")
    return value


def _gpus(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Numbers or names as CUDA_VISIBLE_DEVICES has them."""
    names = tuple(name.strip() for name in value.split(",")) if value else ()
    if len(set(names)) < len(names) or not all(names):
        raise click.BadParameter(f"{value!r} must be different GPUs, such as 0,1")
    return names


def _setting(flag: str, **options: Any) -> Callable[[Command], Command]:
    """An option that a study fixes: its default stands with the settings."""
    return click.option(flag, default=SETTING_DEFAULTS[flag.removeprefix("--").replace("-", "_")], **options)


@click.command(context_settings={"show_default": True})
@click.option(
    "-b",
    "--backbone",
    "backbones",
    multiple=True,
    help="A name of `hpsearch backbones`, PATH.keras or module:function; may be repeated.",
)
@click.option("-n", "--trials", type=click.IntRange(1), default=20, help="Complete and pruned trials in all, a study.")
@_setting("--weights", help="imagenet, none, own or a file.  [default: imagenet or own where there are any]")
@click.option("--preprocessing", type=click.Choice(PREPROCESSING_NAMES), help="Of a backbone of your own.")
@click.option("--space", default="default", help="Search space: default, robust, or a TOML file.")
@_setting(
    "--objective",
    callback=_objective,
    metavar=f"[{'|'.join((*OBJECTIVES, EXTERNAL_OBJECTIVE))}]",
    help="What is maximized.",
)
@_setting("--head-epochs", type=click.IntRange(0), help="Epochs of the new head alone.")
@_setting("--epochs", type=click.IntRange(1), help="Epochs of fine-tuning, at most.")
@_setting("--batch-size", type=click.IntRange(1), help="Images a training step.")
@_setting(
    "--warmup-epochs",
    type=click.IntRange(0),
    help="Over so many epochs the rate of fine-tuning rises from nothing.",
)
@_setting("--class-weights", type=click.Choice(CLASS_WEIGHTS), help="Of the images in the loss.")
@_setting(
    "--gradient-clip-norm",
    type=click.FloatRange(0),
    help="Scale a step's gradient down to this L2 norm where it is longer; 0: never.",
)
@_setting(
    "--resolution",
    type=click.IntRange(0),
    help="Side in pixels that the network resizes images to; 0: none.  [default: as the search space says]",
)
@_setting("--sampler", type=click.Choice(list(SAMPLERS)), help="Who proposes.")
@_setting("--pruner", type=click.Choice(list(PRUNERS)), help="Who ends poor trials early.")
@_setting("--seed", type=click.IntRange(0), help="Of sampler, weights and batches.")
@click.option("--study", help="Go on with this stored study, an earlier version for example.")
@click.option("--new-version", is_flag=True, help="With changed settings: a study beside the stored one.")
@click.option("--warm-start", metavar="[WORKSPACE:]STUDY", help="Try the best trials of another study first.")
@click.option("--warm-start-trials", type=click.IntRange(1), default=DEFAULT_HINTS, help="So many of them.")
@click.option("--confirm", callback=_confirm, metavar="KxS", help="Train the best K trials again on S other seeds.")
@click.option("--folds", type=click.IntRange(2, 20), help="Cross-validate the best trial on so many parts.")
@click.option(
    "--time-budget", "time_budget_s", type=DURATION, help="Leave after this time, such as 90m or 8h; the trial is kept."
)
@click.option(
    "--trial-timeout",
    "trial_timeout_s",
    type=DURATION,
    help="End a trial that takes longer than this; it counts as poor.",
)
@click.option("--keep", type=click.IntRange(1), default=DEFAULT_KEEP, help="Keep the weights of so many best trials.")
@click.option("--disk-budget", "disk_budget_gb", type=GIGABYTES, help="Gigabytes that trials/ may take.")
@click.option("--memory-limit", "memory_limit_gb", type=GIGABYTES, help="Gigabytes a training process may take.")
@_setting(
    "--prefix-cache",
    type=click.Choice(PREFIX_CACHES),
    help="Keep what frozen layers make of stored views, in this precision; auto: float32, where it pays.",
)
@_setting("--prefix-cache-gb", type=GIGABYTES, help="Gigabytes of it at most, on disk.")
@_setting(
    "--precision",
    type=click.Choice(PRECISION_CHOICES),
    help="Of training steps; auto: the quickest of a short measurement on a GPU, float32 on a CPU; measure: on both.",
)
@_setting("--xla", type=click.Choice(XLA_CHOICES), help="Compile training steps; auto: as above.")
@click.option("--gpus", callback=_gpus, metavar="0,1", help="One run for each of these GPUs, on the same studies.")
@click.option("--fresh-workers", is_flag=True, help="A new training process for each trial: slower, for comparison.")
@click.option("--dry-run", is_flag=True, help="Train a little, say what the search would take, and store nothing.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    backbones: tuple[str, ...],
    confirm: tuple[int, int],
    folds: int | None,
    gpus: tuple[str, ...],
    dry_run: bool,
    warm_start: str | None,
    warm_start_trials: int,
    **options: Any,
) -> None:
    """Search for the best fine-tuning of each backbone: one study each, --trials trials each.

    \b
    hpsearch run --backbone efficientnetv2s --trials 50
    hpsearch run --backbone vgg19 --backbone resnet101v2 --trials 20

    The same command again goes on where it stopped, however it stopped: a trial that was cut off keeps its number and
    goes on from its last finished epoch. Ctrl-C once leaves when the epoch is done, twice leaves now. Several runs may
    work on one study at once; --trials is the total of all.

    Settings that a study fixed when it was made are kept; another value for one of them is refused with the difference.
    --new-version starts a study with them instead, which takes over the trials that still fit.

    A backbone of your own: PATH.keras is an earlier export or another Keras model, whose head is left out and whose
    weights are the start; module:function is called as the functions of keras.applications are, and looked for in the
    current folder. --preprocessing says what range of pixels it was trained with: an export knows it, any other is
    taken to rescale inside.

    --warm-start STUDY tries the best trials of another study first, also of another backbone or in another workspace.
    They are hints: their hyperparameters are brought into this study's space, and trained.

    The best of many trials is also the luckiest. --confirm 3x3 trains the best 3 again on 3 other seeds and shows mean
    and spread; --folds 5 cross-validates the best one: the training images are divided by group into 5 parts, each held
    out in turn and scored, originals and corrupted views. export-best then takes the trial with the best mean.

    --dry-run times the quickest and the slowest trials of the space on some of the images: what epochs, trials and the
    whole search take in time, on the disk and in memory.
    """
    limits = Limits(**{name: options.pop(name) for name in (one.name for one in fields(Limits))})
    given = frozenset(name for name in options if ctx.get_parameter_source(name) != ParameterSource.DEFAULT)
    in_file = frozenset(name for name in given if ctx.get_parameter_source(name) == ParameterSource.DEFAULT_MAP)
    again = Confirmation(*confirm, folds or 0)
    chosen = RunOptions.of(**options, confirmation=again, given=given, in_file=in_file)
    workspace: Workspace = ctx.obj
    rows = _backbones(workspace, backbones, chosen)
    out = console()
    if dry_run:
        estimate_backbones(Run(workspace, chosen, limits, StopRequest(), out), rows)
        return
    if gpus and ON_GPU not in os.environ:
        command = [sys.executable, "-P", "-m", "search", *sys.argv[1:]]
        ctx.exit(run_on_each(gpus, command, lambda line: out.print(line, markup=False, soft_wrap=True)))
    hints = read_hints(workspace, warm_start, warm_start_trials) if warm_start else None
    stop_request = StopRequest(limits.time_budget_s or inf)
    try:
        with listening_for_signals(stop_request, lambda line: out.print(line, markup=False)):
            run_backbones(Run(workspace, chosen, limits, stop_request, out, hints), rows)
    except (KeyboardInterrupt, StopRequestedError):
        stop_request.interrupted = stop_request.interrupted or stop_request.time_left_s > 0
    if stop_request.interrupted:
        out.print("\nInterrupted: everything that was finished is stored, and the same command goes on.")
        ctx.exit(INTERRUPTED)
    if stop_request.wanted:
        out.print("The time is over: everything that was finished is stored, and the same command goes on.")


def _backbones(workspace: Workspace, names: tuple[str, ...], chosen: RunOptions) -> list[Backbone]:
    """Those that were named, or the stored study's."""
    try:
        rows = [asked_backbone(name, chosen.preprocessing) for name in dict.fromkeys(names)]
    except ModelError as error:
        raise click.BadParameter(str(error), param_hint="--backbone") from error
    rows = rows or [_backbone_of(workspace, chosen.study)]
    if chosen.study and len(rows) > 1:
        raise click.BadParameter("--study goes with one backbone", param_hint="--backbone")
    if len({row.name for row in rows}) < len(rows):
        raise click.BadParameter("two backbones of one name: rename one of the files", param_hint="--backbone")
    return rows


def _backbone_of(workspace: Workspace, study: str | None) -> Backbone:
    if study is None:
        raise click.UsageError("Missing option '-b' / '--backbone': name one of `hpsearch backbones`")
    settings = stored_settings(load_study(existing_storage(workspace.database), study))
    return stored_backbone(settings.backbone, settings.own_backbone, workspace.backbone_file(settings.own_backbone))
