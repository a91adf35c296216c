"""Read `hpsearch.toml` in the current folder: defaults of options, one table per command, by the flags' names.

workspace = "cells"
[run]
trials = 50
head-epochs = 2
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from search.errors import SearchError
from studies.keys import check_keys
from studies.toml_file import read_toml

CONFIG_FILE = "hpsearch.toml"


def read_config(path: Path, commands: Iterable[str]) -> dict[str, Any]:
    """Return the content of the config file; empty if there is no file.

    Raises:
        SearchError: A value has the wrong type.
        StudyError: The file is not valid TOML, or names an unknown command.
    """
    if not path.is_file():
        return {}
    config = read_toml(path, str(path))
    check_keys(config, {*commands, "workspace"}, str(path))
    for name, table in config.items():
        if name != "workspace" and not isinstance(table, dict):
            raise SearchError(f"{path}: `{name}` must be a table of options, as in [{name}], but is {table!r}")
    if not isinstance(config.get("workspace", ""), str):
        raise SearchError(f"{path}: `workspace` must be the path of a folder, but is {config['workspace']!r}")
    return config


def defaults_of(command: click.Command, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the defaults in a command's table, by the names of the command's parameters.

    Args:
        command: The command.
        table: Name of a flag without its dashes, or of an argument -> value.
        where: Name of the table in error messages.

    Raises:
        StudyError: The command has no such flag or argument.
        SearchError: A value has the wrong type, or is a list where only one value is allowed.
    """
    parameters = {_own_name(parameter): parameter for parameter in command.params}
    check_keys(table, set(parameters) - {"debug", "workspace"}, where)
    result = {}
    for key, value in table.items():
        parameter = parameters[key]
        many = isinstance(parameter, click.Option) and parameter.multiple
        values = value if isinstance(value, list) else [value]
        are_scalars = all(isinstance(one, str | int | float | bool) for one in values)
        if not are_scalars or (isinstance(value, list) and not many):
            raise SearchError(f"{where}: `{key}` must be {'a list of values' if many else 'a value'}, but is {value!r}")
        # As text, so that Click checks it like the value of a flag and refuses 3.7 as a number of trials.
        texts = [one if isinstance(one, bool) else str(one) for one in values]
        result[parameter.name or key] = texts if many else texts[0]
    return result


def config_file_note(ctx: click.Context, message: str, parameter: click.Parameter | None = None) -> str:
    """Return a note for an error message about values from the config file; empty if it is about none.

    Args:
        ctx: Context of the command.
        message: The error message. It is about an option if it names the option, except in backquotes, which mark
            proposed commands, or if it repeats the option's value.
        parameter: Parameter that the error is about; None if the error does not say.
    """
    read = [
        one for one in ctx.command.params if ctx.get_parameter_source(one.name or "") == ParameterSource.DEFAULT_MAP
    ]
    said = re.sub(r"`[^`]*`", "", message)
    about = [one for one in read if one is parameter or (parameter is None and _is_named(ctx, one, said))]
    return set_in_file_note([_own_name(one) for one in about], ctx.info_name or "")


def set_in_file_note(names: Sequence[str], command: str) -> str:
    """Return a note, in brackets, that these options are set in the config file; empty without any.

    Args:
        names: Flags without their dashes.
        command: Command whose table has them.
    """
    listed = " and ".join(f"`{name}`" for name in names)
    return f" ({listed} {'are' if len(names) > 1 else 'is'} set in {CONFIG_FILE} [{command}])" if names else ""


def _is_named(ctx: click.Context, parameter: click.Parameter, message: str) -> bool:
    given = ctx.lookup_default(parameter.name or "")
    texts = [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str)]
    words = [one for one in parameter.opts if one.startswith("--")]
    # A number or a single word, such as `none`, may be in a message for other reasons, so it proves nothing.
    words += [one for one in texts if not re.fullmatch(r"[\d.e+-]*|[^\W\d]+", one)]
    if message.startswith(f"{_own_name(parameter).replace('-', ' ')} must "):  # data_prep starts its messages this way
        return True
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", message) for word in words)


def _own_name(parameter: click.Parameter) -> str:
    """Return the long flag of an option without its dashes, or the name of an argument."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len).lstrip("-")
    return parameter.name or ""
