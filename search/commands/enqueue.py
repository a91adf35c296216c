"""`hpsearch enqueue`."""

from __future__ import annotations

import shlex

import click

from search.workspace import Workspace


@click.command()
@click.argument("words", nargs=-1, metavar="[BACKBONE] KEY=VALUE...")
@click.option("--study", help="Study that gets the trial.  [default: the backbone's latest]")
@click.pass_obj
def enqueue(workspace: Workspace, words: tuple[str, ...], study: str | None) -> None:
    """Add a trial with hyperparameters of your choice. The next run takes it before others.

    \b
    hpsearch enqueue efficientnetv2s learning_rate=0.0001 dropout=0.2
    hpsearch enqueue --study efficientnetv2s-1a2b3c4d-v2 optimizer=sgd momentum=0.9
    hpsearch enqueue my-network.keras dropout=0.3

    BACKBONE is what `run --backbone` takes. The sampler chooses the hyperparameters that you leave out. Names and
    values must lie in the study's search space, which is shown when you give none. A run that is under way takes the
    trial too, if its --trials allow.
    """
    from data_prep.storage.reader import PreparedSet
    from search.planning.stored_studies import study_here
    from search.terminal.output import short
    from studies.definition import definition_of
    from studies.proposals import allowed, read_proposal, tried
    from studies.proposals import enqueue as put_in
    from studies.settings import stored_settings
    from studies.storage import existing_storage
    from studies.trials import count_finished, count_unfinished

    backbones = [word for word in words if "=" not in word]
    if len(backbones) > 1 and study is None:
        raise click.UsageError(f"{backbones[1]} needs a value, as in {backbones[1]}=VALUE")
    if len(backbones) + (study is not None) != 1:
        raise click.UsageError("name one backbone, before KEY=VALUE, or one --study")
    prepared = PreparedSet.open(workspace.prepared)
    storage = existing_storage(workspace.database)
    found = study_here(storage, prepared, study or backbones[0])
    settings = stored_settings(found)
    definition = definition_of(settings.space)
    if settings.resolution is not None:  # by `run --resolution`
        definition = definition.fixed("resolution", settings.resolution)
    texts = [word for word in words if "=" in word]
    if not texts:
        rows = "; ".join(f"{one.name}: {allowed(one)}" for one in definition.parameters if one.value is None)
        raise click.UsageError(f"give hyperparameters as KEY=VALUE. {settings.name} searches {rows}")
    proposal = read_proposal(definition, texts, settings.name)
    if not proposal.values:
        raise click.UsageError(f"{settings.name} searches none of these: it fixes them at the values given")
    with workspace.making_studies():
        before, waiting = tried(found, proposal.values), count_unfinished(found)
        number = put_in(found, proposal)
    values = " ".join(f"{name}={short(value)}" for name, value in proposal.values.items())
    click.echo(f"trial {number} of {settings.name} waits with {values}; the sampler proposes the rest")
    if before is not None:
        click.echo(f"trial {before} has these values too")
    ahead = f", after {waiting} that run or wait already" if waiting else ""
    which = f"--study {settings.name}" if study else f"--backbone {shlex.quote(backbones[0])}"
    click.echo(f"`hpsearch run {which} --trials {count_finished(found) + waiting + 1}` takes it first{ahead}")
