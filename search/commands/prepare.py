"""`hpsearch prepare`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from data_prep.errors import DataError
from data_prep.settings import SPLITS, STRENGTHS, PrepareSettings
from search.output import console, print_table
from search.stages import Stages
from search.workspace import Workspace

if TYPE_CHECKING:
    from data_prep.prepare import Outcome

_DEFAULTS = PrepareSettings("demo")


def _percentages(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[int, ...]:
    """70/15/15 as three numbers; a list from the config file is taken as it is."""
    try:
        return tuple(int(part) for part in (value.split("/") if isinstance(value, str) else value))
    except (ValueError, TypeError) as error:
        raise click.BadParameter(f"{value!r} must be three percentages, such as 70/15/15") from error


def _names(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(part.strip() for part in str(value).split(","))


@click.command(context_settings={"show_default": True})
@click.argument("source", required=False)
@click.option("--image-size", type=int, default=_DEFAULTS.image_size, help="Side in pixels; for pictures, not arrays.")
@click.option("--anomaly", "anomalies", multiple=True, help="Picture whose copies are to go; may be repeated.")
@click.option(
    "--recurrence-limit", type=int, default=_DEFAULTS.recurrence_limit, help="A picture with more copies is an anomaly."
)
@click.option(
    "--levels",
    callback=_names,
    default=",".join(_DEFAULTS.levels),
    metavar="NAME[*COPIES],...",
    help=f"Of augmentation: {', '.join(STRENGTHS)}; strong*4 asks for 4 copies of that one.",
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
    default="/".join(map(str, _DEFAULTS.split)),
    metavar="A/B/C",
    help="Percentages of train, validation and test.",
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, help="Of the split, the augmentation and the corruptions.")
@click.option("--limit", type=int, help="Take a stratified part of the images that cleaning keeps, for trying things.")
@click.option("--groups", metavar="FILE", help="CSV with columns image and group (patient, slide) to keep together.")
@click.option("--force", is_flag=True, help="Replace a prepared set that is there.")
@click.pass_obj
def prepare(workspace: Workspace, /, source: str | None, force: bool, **options: Any) -> None:
    """Clean, split and augment a set of labelled images, once; everything else works on the result.

    \b
    hpsearch prepare training_set.npz
    hpsearch prepare pictures/ --image-size 128 --anomaly shrek.png
    hpsearch prepare labels.csv --groups patients.csv
    hpsearch prepare demo --seed 1

    SOURCE is an .npz file with `images` (n, h, w, 3) uint8 and `labels` (n,), a folder with a folder of JPEG, PNG, BMP,
    TIFF or WebP pictures per class, a CSV of paths and labels (and split and group, if known), or `demo`, the built-in
    drawn set, which is taken when SOURCE is left out. A folder may have train/, validation/ and test/ with the classes
    inside, or a metadata.csv with file_name and label. Groups of near copies, and those in the CSV named by --groups,
    stay together in the split, and only training images are augmented. What was left out, and why, is shown in
    prepared/report.html.

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
    for warning in outcome.warnings:
        out.print(Text.assemble(("Warning: ", "yellow"), warning), soft_wrap=True)
    if outcome.created:
        levels = ", ".join(manifest["settings"]["levels"])
        click.echo(f"Prepared {manifest['source']} in {workspace.prepared} (fingerprint {mark}; views: {levels}).")
    click.echo(f"What was left out, and why: {workspace.prepared / 'report.html'}")
