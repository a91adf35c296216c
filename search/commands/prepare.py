"""`hpsearch prepare`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from data_prep.errors import DataError
from data_prep.settings import DEFAULT_SPLIT, SPLITS, STRENGTHS, VALUE_RANGES, PrepareSettings
from search.terminal.output import console, print_table
from search.terminal.progress_bars import Stages
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
    """Names with commas between them, or the word for none."""
    return () if value == NONE else tuple(part.strip() for part in str(value).split(","))


def _class_names(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:
    """Names with commas between them, or the lines of a file."""
    if value is None:
        return ()
    path = Path(str(value))
    if "," in str(value) and not path.is_file():
        return tuple(part.strip() for part in str(value).split(","))
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").strip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value!r} must be names with commas between them, or a file of lines") from error


class _NamingSources(click.Command):
    """Its help ends with the kinds of source there are, which need not be imported for anything else."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from data_prep.sources.registry import SOURCES

        with formatter.section("SOURCE"):
            formatter.write_dl([(row.kind, row.describe) for row in SOURCES])


@click.command(cls=_NamingSources, context_settings={"show_default": True})
@click.argument("source", required=False)
@click.option("--image-size", type=int, default=_DEFAULTS.image_size, help="Side in pixels; for pictures, not arrays.")
@click.option("--anomaly", "anomalies", multiple=True, help="Picture whose copies are to go; may be repeated.")
@click.option(
    "--recurrence-limit", type=int, default=_DEFAULTS.recurrence_limit, help="A picture with more copies is an anomaly."
)
@click.option(
    "--levels",
    callback=_levels,
    default=",".join(_DEFAULTS.levels),
    metavar="NAME[*COPIES],...",
    help=f"Of augmentation: {', '.join(STRENGTHS)}; strong*4 asks for 4 copies of that one, none for no views.",
)
@click.option(
    "--copies",
    type=int,
    default=_DEFAULTS.copies,
    help="Augmented views per training image and level, where it does not say.",
)
@click.option(
    "--corrupted-views",
    type=int,
    default=_DEFAULTS.corrupted_views,
    help="Corrupted views per validation and test image, by which trials are scored; 0 for none.",
)
@click.option(
    "--split",
    callback=_percentages,
    metavar="A/B/C",
    show_default=f"the source's own split, else {'/'.join(map(str, DEFAULT_SPLIT))}",
    help="Percentages of train, validation and test; given, also a source with a split of its own is split anew.",
)
@click.option("--size", type=int, help="Side in pixels of the set to fetch: MedMNIST has 28, 64, 128 and 224.")
@click.option(
    "--value-range",
    type=click.Choice(VALUE_RANGES),
    help="Of images in an .npz file that are not uint8, where their values do not tell.",
)
@click.option(
    "--class-names",
    callback=_class_names,
    metavar="A,B,...|FILE",
    help="Names of classes that the source numbers, by number; or a file with one a line.",
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, help="Of the split, the augmentation and the corruptions.")
@click.option("--limit", type=int, help="Take a stratified part of the images that cleaning keeps, for trying things.")
@click.option("--groups", metavar="FILE", help="CSV with columns image and group (patient, slide) to keep together.")
@click.option(
    "--external",
    multiple=True,
    metavar="NAME=PATH",
    help="Further set, of another scanner or hospital, to score trials on; never trained on. May be repeated.",
)
@click.option("--force", is_flag=True, help="Replace a prepared set that is there.")
@click.pass_obj
def prepare(workspace: Workspace, /, source: str | None, force: bool, **options: Any) -> None:
    """Clean, split and augment a set of labelled images, once; everything else works on the result.

    \b
    hpsearch prepare training_set.npz
    hpsearch prepare pictures/ --image-size 128 --anomaly shrek.png
    hpsearch prepare labels.csv --groups patients.csv
    hpsearch prepare bloodmnist --size 128
    hpsearch prepare demo --seed 1
    hpsearch prepare training_set.npz --external ward-b=ward_b.npz

    SOURCE is one of the kinds listed below; `demo` is taken when it is left out, and a folder that is called like a set
    is written as ./bloodmnist. Groups of near copies, and those in the table named by --groups, stay together in the
    split, and only training images are augmented. Where SOURCE brings its own split, that is kept, and images of an
    earlier side whose group reaches into a later one (train, validation, test) are left out; a side that it lacks is
    taken from its training images. What was left out, and why, is shown in prepared/report.html. Downloads go to
    $HPSEARCH_DATA, or ~/.cache/hpsearch.

    Pictures are cropped to the central square and resized. 16 bits a channel become 8 (65535 becomes 255; where no
    value of a picture goes beyond 4095, which is 12 bits, that becomes 255), and transparency is dropped.
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

    with workspace.exclusive(), Stages() as stages:
        outcome = make(settings, workspace.prepared, force=force, progress=stages)
        if outcome.created:
            shutil.rmtree(workspace.features, ignore_errors=True)  # of the images of before
            shutil.rmtree(workspace.refits, ignore_errors=True)
        return outcome


def show_outcome(outcome: Outcome, workspace: Workspace) -> None:
    """What was prepared, as tables; warnings; where the report is."""
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
    classes.append({"class": "all", **{split: sum(per_split[split]) for split in SPLITS}})
    for row in classes:
        row["total"] = sum(row[split] for split in SPLITS)
    print_table(classes, ("class", *SPLITS, "total"))
    _show_external(manifest)
    for warning in outcome.warnings:
        out.print(Text.assemble(("Warning: ", "yellow"), warning), soft_wrap=True)
    if outcome.created:
        levels = ", ".join(manifest["settings"]["levels"]) or NONE
        click.echo(f"Prepared {manifest['source']} in {workspace.prepared} (fingerprint {mark}; views: {levels}).")
    click.echo(f"What was left out, and why: {workspace.prepared / 'report.html'}")


def _show_external(manifest: Mapping[str, Any]) -> None:
    """A row per external set: images read, left out and kept."""
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
