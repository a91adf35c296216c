"""`hpsearch.toml` in the current folder: defaults of the options, a table per command, under the flags' own names.

workspace = "cells"
[run]
trials = 50
head-epochs = 2
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from search.errors import SearchError
from studies.keys import check_keys

CONFIG_FILE = "hpsearch.toml"


def read_config(path: Path, commands: Iterable[str]) -> dict[str, Any]:
    """The file's content, empty without one. SearchError when it is no TOML or names an unknown command."""
    if not path.is_file():
        return {}
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SearchError(f"{path} cannot be read as TOML: {error}") from error
    check_keys(config, {*commands, "workspace"}, str(path))
    for name, table in config.items():
        if name != "workspace" and not isinstance(table, dict):
            raise SearchError(f"{path}: `{name}` must be a table of options, as in [{name}], but is {table!r}")
    return {
        name: {key.replace("-", "_"): value for key, value in table.items()} if isinstance(table, dict) else table
        for name, table in config.items()
    }
