"""The command `hpsearch`. To add a command: a module in search/commands/ and a row in COMMANDS.

Commands are imported when they are called, so that `hpsearch --help` stays fast. The second column is what the list of
commands shows.
"""

from __future__ import annotations

from search.interrupts import INTERRUPTED, LINE, LeavingAtOnce, came, handle_with, interrupt, leave

with LeavingAtOnce():
    import importlib
    import os
    from collections.abc import Iterator
    from contextlib import contextmanager
    from pathlib import Path
    from typing import Any

    import click

    from models.keras_config import set_aside
    from search.errors import USER_ERRORS, outside_cause
    from search.terminal.config_file import CONFIG_FILE, config_file_note, defaults_of, read_config
    from search.terminal.streams import make_output_last, restart_in_utf8
    from search.workspace import Workspace, default_folder
    from studies.shared_files import share_with_group

COMMANDS = {
    "prepare": "Clean, split and augment a set of labelled images, once.",
    "check": "Verify the prepared set from its files.",
    "run": "Search for the best hyperparameters, one study per backbone. The same command resumes.",
    "enqueue": "Add a trial with hyperparameters of your choice.",
    "rerun": "Train a finished trial again, and compare its figures.",
    "status": "Show the studies: trials by state, time, best value.",
    "backup": "Copy the studies to one file, even while trials run.",
    "compare": "Compare the best trial of each study.",
    "dashboard": "Browse the studies in optuna-dashboard.",
    "export-best": "Export the best trial as a verified model folder.",
    "evaluate": "Score an exported model on images, or estimate its accuracy without labels.",
    "predict": "Label new images with an exported model.",
    "backbones": "List the backbones.",
    "demo": "Run the whole workflow on a built-in set, in minutes.",
}


_COMMAND = "search.cli.command"
"""Key in Click's `ctx.meta`: the context of the command that is called, for errors that it raises."""


class Commands(click.Group):
    """Group that imports commands when they are called, adds `-w` and `--debug`, and shows errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"search.commands.{name.replace('-', '_')}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        own = {option.name for option in command.params}
        command.params += [option for option in (workspace_option(name), debug_option()) if option.name not in own]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Run a command. Without `args`, this process is the command's own: set up its signals and its output."""
        if args is not None:
            return super().main(args, *rest, **options)
        handle_with(interrupt)
        restart_in_utf8()
        make_output_last()
        try:
            return super().main(args, *rest, **options)
        finally:
            handle_with(leave)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _interrupts_in_one_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _interrupts_in_one_line():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except USER_ERRORS as error:
            for line in getattr(error, "details", ()):
                click.echo(f"  {line}", err=True)
            if ctx.meta.get("debug"):
                raise
            where = config_file_note(ctx.meta[_COMMAND], str(error)) if _COMMAND in ctx.meta else ""
            raise click.ClickException(f"{error}{where}") from error
        except click.UsageError as error:
            message = error.format_message()
            parameter = error.param if isinstance(error, click.BadParameter) else None
            if error.ctx and (where := config_file_note(error.ctx, message, parameter)):
                raise click.UsageError(f"{message}{where}", error.ctx) from error
            raise
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise  # Click ends quietly when the reader of a pipe is gone
        except Exception as error:
            if ctx.meta.get("debug"):
                raise
            if outside := outside_cause(error):
                raise click.ClickException(outside) from error
            message = " ".join(f"{type(error).__name__}: {error}".split())
            raise click.ClickException(f"{message} (a bug in hpsearch? --debug shows where)") from error


@contextmanager
def _interrupts_in_one_line() -> Iterator[None]:
    """Turn an interrupt, and any error that follows one, into a line and its exit code."""
    try:
        yield
    except click.exceptions.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not came and not isinstance(error, KeyboardInterrupt):
            raise
        if came:
            handle_with(leave)  # a further signal comes while the process ends
        click.echo(LINE, err=True)
        raise click.exceptions.Exit(INTERRUPTED) from error


def _workspace(folder: str) -> Workspace:
    """Return the workspace; what is written from now on is the group's too if the folder is."""
    share_with_group(Path(folder))
    return Workspace(Path(folder))


def _set_workspace(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.obj = _workspace(value)


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_COMMAND] = ctx
    if value:
        ctx.meta["debug"] = True


def workspace_option(command: str) -> click.Option:
    return click.Option(
        ["-w", "--workspace"],
        callback=_set_workspace,
        expose_value=False,
        help=f"Workspace folder.  [env: HPSEARCH_WORKSPACE; default: {default_folder(command)}]",
    )


def debug_option() -> click.Option:
    return click.Option(
        ["--debug"], is_flag=True, callback=_set_debug, expose_value=False, help="Show the traceback of an error."
    )


@click.command(cls=Commands, params=[debug_option()], context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-w", "--workspace", envvar="HPSEARCH_WORKSPACE", help="Workspace folder.", show_envvar=True)
@click.version_option(package_name="hpsearch", prog_name="hpsearch")
@click.pass_context
def main(ctx: click.Context, workspace: str | None) -> None:
    """Find the best fine-tuned image classifier for a set of labelled images, and a score for it that holds up.

    \b
    hpsearch prepare cells.npz
    hpsearch run --backbone efficientnetv2s --trials 50
    hpsearch export-best

    Options come from flags, then from hpsearch.toml in the current folder, then from the defaults that
    `hpsearch COMMAND --help` shows.
    """
    # Otherwise TensorFlow logs processors and drivers in each process. Its errors are exceptions anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.path.expanduser("~") == "~":  # neither HOME nor an account: some libraries then do not import
        import tempfile

        os.environ["HOME"] = tempfile.gettempdir()
    if ignored := set_aside():
        click.echo(f"ignored: {', '.join(ignored)}. hpsearch needs Keras 3, without limits", err=True)
    config = read_config(Path(CONFIG_FILE), COMMANDS)
    command = main.get_command(ctx, ctx.invoked_subcommand or "")
    if command and command.name in config:
        where = f"{CONFIG_FILE} [{command.name}]"
        ctx.default_map = {command.name: defaults_of(command, config[command.name], where)}
    folder = workspace or config.get("workspace") or default_folder(ctx.invoked_subcommand or "")
    ctx.obj = _workspace(folder)
