"""`hpsearch prepare`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data_prep.errors import DataError
from data_prep.settings import DEFAULT_SPLIT, NEAR_COPIES, SPLITS, STRENGTHS, VALUE_RANGES, PrepareSettings
from models.keras_config import check_backend
from search.terminal.help_sections import SectionedCommand, section_options
from search.workspace import Workspace

if TYPE_CHECKING:
    from data_prep.prepare import Outcome

_DEFAULTS = PrepareSettings("demo")
NONE = "none"


def _percentages(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[int, ...] | None:
    """70/15/15 as three numbers; a list from the config file is taken as it is."""
    if value is None:
        return None
    try:
        return tuple(int(part) for part in (value.split("/") if isinstance(value, str) else value))
    except (ValueError, TypeError) as error:
        raise click.BadParameter(f"{value!r} must be three percentages, such as 70/15/15") from error


def _levels(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:
    """Return names from a list with commas, or none for the word that means none."""
    return () if value == NONE else tuple(part.strip() for part in str(value).split(","))


def _class_names(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:
    """Return names from a list with commas, or from the lines of a file."""
    if value is None:
        return ()
    path = Path(str(value))
    if "," in str(value) and not path.is_file():
        return tuple(part.strip() for part in str(value).split(","))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise click.BadParameter(f"{value!r} must be names with commas between them, or a file of lines") from error
    if "\0" in text:  # as in UTF-16
        raise click.BadParameter(f"{value} is not UTF-8 text: save it as UTF-8")
    return tuple(line.strip() for line in text.strip().splitlines())


class _NamingSources(SectionedCommand):
    """A command whose help ends with the kinds of source."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from data_prep.sources.kinds import KINDS

        with formatter.section("SOURCE"):
            formatter.write_dl(list(KINDS.items()))


_images, _cleaning, _split = map(section_options, ("Images", "Cleaning", "Split"))
_views, _scored = map(section_options, ("Augmentation", "Scoring"))


@click.command(cls=_NamingSources, context_settings={"show_default": True})
@click.argument("source", required=False)
@_images("--image-size", type=int, default=_DEFAULTS.image_size, help="Side in pixels to which pictures are resized.")
@_images("--size", type=int, help="Side in pixels of the MedMNIST set to download: 28, 64, 128 or 224.")
@_images(
    "--value-range",
    type=click.Choice(VALUE_RANGES),
    help="Range of the pixel values in an .npz file that is not uint8, where it is not clear.",
)
@_images(
    "--class-names",
    callback=_class_names,
    metavar="A,B,...|FILE",
    help="Names of numbered classes, in order: a list, or a file with one name per line.",
)
@_images("--limit", type=int, help="Use only this many images, in class proportion. For trying things out.")
@_cleaning(
    "--anomaly",
    "anomalies",
    multiple=True,
    help="Picture whose copies and near copies are rejected. May be repeated.",
)
@_cleaning(
    "--recurrence-limit",
    type=int,
    default=_DEFAULTS.recurrence_limit,
    help="Reject a picture, and all its copies, if it occurs more often than this.",
)
@_split(
    "--split",
    callback=_percentages,
    metavar="A/B/C",
    show_default=f"the source's own split, else {'/'.join(map(str, DEFAULT_SPLIT))}",
    help="Percentages of train, validation and test. Also splits a source anew that has a split.",
)
@_split(
    "--near-copies",
    type=click.Choice(NEAR_COPIES),
    default=_DEFAULTS.near_copies,
    help="Versions of one picture (turned, mirrored, cropped, relit): join keeps them on one side, report only counts "
    "them, off does not look for them.",
)
@_split(
    "--groups",
    metavar="FILE",
    help="Table of images and their groups, such as patients: .csv, .tsv or .jsonl. A group stays on one side.",
)
@_split(
    "--seed",
    type=int,
    default=_DEFAULTS.seed,
    help="Seed of the split, the augmentation, the corruptions, --limit and the demo set.",
)
@_views(
    "--levels",
    callback=_levels,
    default=",".join(_DEFAULTS.levels),
    metavar="NAME[*COPIES],...",
    help=f"Augmentation levels: {', '.join(STRENGTHS)}. strong*4 stores 4 views per image of that level; "
    f"{NONE} stores no views.",
)
@_views(
    "--copies",
    type=int,
    default=_DEFAULTS.copies,
    help="Augmented views per training image, for levels without a number of their own.",
)
@_scored(
    "--corrupted-views",
    type=int,
    default=_DEFAULTS.corrupted_views,
    help="Corrupted views per validation image, by which trials are scored, and per test image; 0: none.",
)
@_scored(
    "--external",
    multiple=True,
    metavar="NAME=PATH",
    help="Images of another scanner or hospital: every trial is scored on them, none is trained on them. May be "
    "repeated.",
)
@click.option("--force", is_flag=True, help="Replace a prepared set that is there.")
@click.pass_obj
def prepare(workspace: Workspace, /, source: str | None, force: bool, **options: Any) -> None:
    """Clean, split and augment a set of labelled images, once. All other commands work on the result.

    \b
    hpsearch prepare training_set.npz
    hpsearch prepare pictures/ --image-size 128 --anomaly shrek.png
    hpsearch prepare labels.csv --groups patients.csv
    hpsearch prepare bloodmnist --size 128
    hpsearch prepare training_set.npz --external ward-b=ward_b.npz

    Near copies, and images that --groups joins, go to the same side of the split. Only training images are augmented,
    after the split. A split that SOURCE brings is kept: an image whose group also has images on a later side (train,
    validation, test) is left out, and a missing side is taken from the training images. prepared/report.html shows what
    was left out, and why.

    Pictures are cropped to their central square and resized. 16 bits per channel become 8 (65535 becomes 255; in a
    picture without values above 4095, which is 12 bits, 4095 becomes 255). Transparency is dropped. Downloads go to
    $HPSEARCH_DATA, by default ~/.cache/hpsearch.

    Without SOURCE, the built-in demo set is prepared. Write ./bloodmnist for a folder with the name of a public set.
    """
    if source is None:
        source = "demo"
        click.echo("No SOURCE given: preparing the built-in demo set.")
    try:
        settings = PrepareSettings(source, **options)
    except DataError as error:
        raise click.UsageError(str(error)) from error
    show_outcome(prepare_shown(settings, workspace, force=force), workspace)


def prepare_shown(settings: PrepareSettings, workspace: Workspace, *, force: bool = False) -> Outcome:
    """Prepares into the workspace, which nobody else may use meanwhile, and shows progress bars."""
    from data_prep.prepare import prepare as make
    from search.terminal.progress_bars import Stages

    if settings.levels:
        check_backend()  # keras-cv draws the views
    with workspace.exclusive(), Stages() as stages:
        outcome = make(settings, workspace.prepared, force=force, progress=stages)
        if outcome.created:
            shutil.rmtree(workspace.features, ignore_errors=True)  # of the images of before
            shutil.rmtree(workspace.refits, ignore_errors=True)
        return outcome


def show_outcome(outcome: Outcome, workspace: Workspace) -> None:
    """Print what was prepared as tables, the warnings, and where the report is."""
    from rich.text import Text

    from search.exporting.figure_tables import MOST_CLASSES
    from search.terminal.output import console, print_next, print_table

    manifest, out = outcome.manifest, console()
    counts, names = manifest["counts"], manifest["class_names"]
    mark = manifest["fingerprint"][:8]
    if not outcome.created:
        click.echo(f"Nothing to do: {workspace.prepared} holds this very set already (fingerprint {mark}).")
    rows = [{"images": "read", "number": counts["images_read"]}]
    rows += [{"images": f"rejected: {reason}", "number": number} for reason, number in counts["rejected"].items()]
    if counts["left_out"]:
        rows.append({"images": "left out by --limit", "number": counts["left_out"]})
    rows += [{"images": "kept", "number": counts["kept"]}, {"images": "groups", "number": counts["groups"]}]
    print_table(rows, ("images", "number"))
    per_split = counts["per_split"]
    classes = [
        {"class": name, **{split: per_split[split][label] for split in SPLITS}} for label, name in enumerate(names)
    ]
    if hidden := max(0, len(classes) - MOST_CLASSES):
        classes = sorted(classes, key=lambda row: sum(row[split] for split in SPLITS))[:MOST_CLASSES]
    classes.append({"class": "all", **{split: sum(per_split[split]) for split in SPLITS}})
    for row in classes:
        row["total"] = sum(row[split] for split in SPLITS)
    print_table(classes, ("class", *SPLITS, "total"), least=SPLITS)
    if hidden:
        click.echo(f"The {MOST_CLASSES} classes with the fewest images; report.html has the other {hidden:,} too.")
    _show_external(manifest)
    for warning in outcome.warnings:
        out.print(Text.assemble(("Warning: ", "yellow"), warning), soft_wrap=True)
    if outcome.created:
        levels = ", ".join(manifest["settings"]["levels"]) or NONE
        click.echo(f"Prepared {manifest['source']} in {workspace.prepared} (fingerprint {mark}; views: {levels}).")
    click.echo(f"What was left out, and why: {workspace.prepared / 'report.html'}")
    print_next(workspace, "run --backbone mobilenetv2_035")


def _show_external(manifest: Mapping[str, Any]) -> None:
    """Print a row per external set: images read, left out and kept."""
    from search.terminal.output import print_table

    rows = []
    for name, entry in manifest.get("external", {}).items():
        counts = entry["counts"]
        absent = [
            label for label, number in zip(manifest["class_names"], counts["per_class"], strict=True) if not number
        ]
        gone = [f"{reason}: {number:,}" for reason, number in counts["rejected"].items()]
        rows.append(
            {"external": name, "read": counts["images_read"], "kept": counts["kept"]}
            | {"left out": "; ".join(gone) or "none", "classes without images": ", ".join(absent) or "none"}
        )
    if rows:
        print_table(rows, tuple(rows[0]))
