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
from search.engine.device_notes import require_gpus
from search.engine.own_python import own_module
from search.engine.per_gpu import ON_GPU, run_on_each
from search.engine.stop_request import StopRequest, StopRequestedError, listening_for_signals
from search.interrupts import INTERRUPTED
from search.planning.run_options import (
    DEFAULT_HINTS,
    DEFAULT_KEEP,
    PRECISION_CHOICES,
    PREFIX_CACHES,
    SETTING_DEFAULTS,
    XLA_CHOICES,
    Confirmation,
    Limits,
    RunOptions,
)
from search.terminal.durations import DURATION
from search.terminal.help_sections import SectionedCommand, section_options
from search.workspace import Workspace
from studies.pruners import PRUNERS
from studies.samplers import SAMPLERS
from studies.settings import stored_settings

GIGABYTES = click.FloatRange(0, min_open=True)
Command = Callable[..., Any]


def _confirm(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int]:
    """3x3 as two numbers: trials, and seeds for each."""
    if value is None:
        return 0, 0
    top, cross, seeds = value.partition("x")
    if not (cross and top.isdecimal() and seeds.isdecimal() and int(top) and int(seeds)):
        raise click.BadParameter(f"{value!r} must be trials x seeds, such as 3x3")
    return int(top), int(seeds)


def _objective(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Check an objective: one of OBJECTIVES, or external:NAME, whose name is checked with the prepared set."""
    if value not in OBJECTIVES and not external_name(value):
        known = ", ".join(map(repr, (*OBJECTIVES, EXTERNAL_OBJECTIVE)))
        raise click.BadParameter(f"{value!r} is not one of {known}.")
    return value


def _gpus(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Return GPU numbers or names, as CUDA_VISIBLE_DEVICES takes them."""
    names = tuple(name.strip() for name in value.split(",")) if value else ()
    if len(set(names)) < len(names) or not all(names):
        raise click.BadParameter(f"{value!r} must be different GPUs, such as 0,1")
    return names


_study, _training, _search = map(section_options, ("Study", "Training", "Search"))
_after, _limits, _speed = map(section_options, ("After the search", "Limits", "Speed"))


def _setting(section: Callable[..., Any], flag: str, **options: Any) -> Callable[[Command], Command]:
    """Declare an option that a study fixes. Its default is that of the setting."""
    option: Callable[[Command], Command] = section(
        flag, default=SETTING_DEFAULTS[flag.removeprefix("--").replace("-", "_")], **options
    )
    return option


@click.command(cls=SectionedCommand, context_settings={"show_default": True})
@_study(
    "-b",
    "--backbone",
    "backbones",
    multiple=True,
    help="Network to fine-tune: a name from `hpsearch backbones`, PATH.keras, or module:function. May be repeated.",
)
@_study("-n", "--trials", type=click.IntRange(1), default=20, help="Trials per study in total, over all runs.")
@_setting(_study, "--seed", type=click.IntRange(0), help="Seed of the sampler, new weights and batches.")
@_study("--study", help="Continue this stored study, for example an earlier version.")
@_study("--new-version", is_flag=True, help="Start a new study for changed settings, beside the stored one.")
@_study(
    "--warm-start",
    metavar="[WORKSPACE:]STUDY",
    help="Try the best hyperparameters of another study first.",
)
@_study("--warm-start-trials", type=click.IntRange(1), default=DEFAULT_HINTS, help="Trials to take from that study.")
@_setting(
    _training,
    "--weights",
    help="Initial weights: imagenet, none (random), own (those of PATH.keras), or a file.  [default: as `hpsearch "
    "backbones` shows; own for PATH.keras, none for module:function]",
)
@_training(
    "--preprocessing", type=click.Choice(PREPROCESSING_NAMES), help="Pixel range that a backbone of your own expects."
)
@_setting(
    _training,
    "--resolution",
    type=click.IntRange(0),
    help="Pixels of the shorter side after the network resizes images; 0: no resizing.  [default: by the space]",
)
@_setting(
    _training,
    "--head-epochs",
    type=click.IntRange(0),
    help="Epochs that train the new last layer alone, before fine-tuning.",
)
@_setting(_training, "--epochs", type=click.IntRange(1), help="Most epochs of fine-tuning in a trial.")
@_setting(_training, "--batch-size", type=click.IntRange(1), help="Images per training step.")
@_setting(
    _training, "--warmup-epochs", type=click.IntRange(0), help="Epochs over which the learning rate warms up from 0."
)
@_setting(
    _training,
    "--class-weights",
    type=click.Choice(CLASS_WEIGHTS),
    help="How classes count in the loss. balanced: rare classes as much as common ones; none: every image alike.",
)
@_setting(
    _training,
    "--gradient-clip-norm",
    type=click.FloatRange(0),
    help="Largest L2 norm of a step's gradient; longer gradients are scaled down. 0: no limit.",
)
@_search("--space", default="default", help="Search space: default, robust, or a TOML file.")
@_setting(
    _search,
    "--objective",
    callback=_objective,
    metavar=f"[{'|'.join((*OBJECTIVES, EXTERNAL_OBJECTIVE))}]",
    help="Figure to maximize; external:NAME is macro-F1 on an external set.",
)
@_setting(_search, "--sampler", type=click.Choice(list(SAMPLERS)), help="Optuna sampler that suggests hyperparameters.")
@_setting(_search, "--pruner", type=click.Choice(list(PRUNERS)), help="Rule that ends poor trials early.")
@_after("--confirm", callback=_confirm, metavar="KxS", help="Train the best K trials again, each with S other seeds.")
@_after("--folds", type=click.IntRange(2, 20), help="Cross-validate the best trial on this many folds.")
@_limits(
    "--time-budget",
    "time_budget_s",
    type=DURATION,
    help="Stop after this time, such as 90m or 8h. The next run continues.",
)
@_limits(
    "--trial-timeout",
    "trial_timeout_s",
    type=DURATION,
    help="End a trial that takes longer, and count it as poor.",
)
@_limits("--keep", type=click.IntRange(1), default=DEFAULT_KEEP, help="Best trials whose weights stay on disk.")
@_limits("--disk-budget", "disk_budget_gb", type=GIGABYTES, help="Most gigabytes for the folder trials/.")
@_limits(
    "--memory-limit",
    "memory_limit_gb",
    type=GIGABYTES,
    help="Most gigabytes of main memory for a training process.  [default: 90 % of what is free]",
)
@_setting(
    _speed,
    "--prefix-cache",
    type=click.Choice(PREFIX_CACHES),
    help="Precision in which outputs of frozen layers are cached. auto: float32 where that is faster; off: no cache.",
)
@_setting(_speed, "--prefix-cache-gb", type=GIGABYTES, help="Most gigabytes of disk for the prefix cache.")
@_setting(
    _speed,
    "--precision",
    type=click.Choice(PRECISION_CHOICES),
    help="Precision of training. auto: the fastest on a GPU by a short measurement, float32 on a CPU; measure: "
    "measure on a CPU too.",
)
@_setting(
    _speed,
    "--xla",
    type=click.Choice(XLA_CHOICES),
    help="Compile training steps with XLA. auto: on a GPU, if that is faster; on a CPU, off.",
)
@_speed("--gpus", callback=_gpus, metavar="0,1", help="Start one run per GPU, all on the same studies.")
@_speed("--fresh-workers", is_flag=True, help="Start a new training process for each trial. Slower, for comparison.")
@_speed("--dry-run", is_flag=True, help="Estimate the time, disk and memory that the search takes. Stores nothing.")
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
    """Search for the best hyperparameters of each backbone.

    \b
    hpsearch run --backbone efficientnetv2s --trials 50
    hpsearch run --backbone vgg19 --backbone resnet101v2 --trials 20
    hpsearch run --backbone mobilenetv2_035 --dry-run

    Each backbone gets a study of its own with --trials trials. The same command resumes it, however it was stopped: a
    trial that was cut off keeps its number and continues from its last finished epoch. Press Ctrl-C once to stop after
    the current epoch, twice to stop now. Several runs may share a study; --trials counts the trials of all of them.

    A study fixes its settings when it is created. Another value later is refused, and the message names the difference.
    --new-version starts a study with the new values, which takes over the trials that still fit.

    A backbone of your own is PATH.keras (an earlier export or another Keras model; its head is left out and its weights
    are the start) or module:function (called as the functions of keras.applications are, looked up in the current
    folder). The pixel range of a model that holds the network as one nested model, such as an export, is recognised.
    Any other network must rescale pixels of 0..255 itself, or --preprocessing names its range.

    The best of many trials is also the luckiest. --confirm 3x3 trains the best 3 again with 3 other seeds each, and
    shows mean and spread. --folds 5 cross-validates the best trial, by group. export-best then takes the trial with the
    best mean.
    """
    # Late, as in every command: Optuna, SQLAlchemy and NumPy take half a second, and `--help` needs none of them.
    from search.planning.warm_start import read_hints
    from search.run_studies import Run, estimate_backbones, run_backbones
    from search.terminal.output import console, print_next

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
        require_gpus(",".join(gpus))
        command = own_module("search", *sys.argv[1:])
        ctx.exit(run_on_each(gpus, command, lambda line: out.print(line, markup=False, soft_wrap=True)))
    hints = read_hints(workspace, warm_start, warm_start_trials) if warm_start else None
    stop_request = StopRequest(limits.time_budget_s or inf)
    try:
        with listening_for_signals(stop_request, lambda line: out.print(line, markup=False)):
            run_backbones(Run(workspace, chosen, limits, stop_request, out, hints), rows)
    except (KeyboardInterrupt, StopRequestedError):
        stop_request.interrupted = stop_request.interrupted or stop_request.time_left_s > 0
    if stop_request.interrupted:
        out.print(
            "\nInterrupted: everything that was finished is stored; run the same command again to continue.",
            soft_wrap=True,
        )
        ctx.exit(INTERRUPTED)
    if stop_request.wanted:
        out.print(
            f"{stop_request.time_is_over()}: everything that was finished is stored; run the same command again "
            "to continue.",
            soft_wrap=True,
        )
    elif ON_GPU not in os.environ:
        print_next(workspace, "compare")


def _backbones(workspace: Workspace, names: tuple[str, ...], chosen: RunOptions) -> list[Backbone]:
    """Return the backbones that were named, or the stored study's."""
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
    from studies.storage import existing_storage, load_study

    if study is None:
        raise click.UsageError("Missing option '-b' / '--backbone': name one of `hpsearch backbones`")
    settings = stored_settings(load_study(existing_storage(workspace.database), study))
    return stored_backbone(settings.backbone, settings.own_backbone, workspace.backbone_file(settings.own_backbone))
