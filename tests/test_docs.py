"""The documentation: its commands run, its tables are those of the code, and README keeps to its length."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from doc_pages import PAGES, ROOT, Block, blocks, commands, write_inputs

from search.cli import COMMANDS, main

TEXT = {page: path.read_text(encoding="utf-8") for page, path in PAGES.items()}
MAKE = {"demo", "test", "test-all", "lint", "docs"}
"""Targets of make that pages name; .ci/run and people run them."""
QUICK_PAGES = ("README.md", "docs/how-to/colab-and-kaggle.md")
CONFIG = """[prepare]
image-size = 32
[run]
epochs = 1
"""
"""Settings of the pages' commands, beside a network that trains in seconds and needs no download."""
REPLACED = {"mobilenetv2_035": "small_cnn", "learning_rate=0.0005": "learning_rate=0.005"}
"""Text of a command -> what the test runs: the network, and a learning rate in its search space."""
# What a page supposes that another page made.
BEFORE = (
    "hpsearch prepare cells.npz\nhpsearch run --backbone small_cnn --trials 2\nhpsearch export-best --out my-model\n"
)
NEEDS_MODEL = ("docs/how-to/predicting.md", "docs/concepts/score.md")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runnable(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("sh", "python") and not block.mark.startswith("not")]


def replaced(text: str) -> str:
    for old, new in REPLACED.items():
        text = text.replace(old, new)
    return text


def run_page(page: str, folder: Path) -> None:
    """Run a page's blocks in order, as a shell would, in a folder with the files that it names."""
    write_inputs(folder)
    (folder / "hpsearch.toml").write_text(CONFIG)
    script = ["set -e", BEFORE if page in NEEDS_MODEL else ""]
    for block in blocks(page):
        if block.mark.startswith("file: "):
            name = block.mark.removeprefix("file: ")
            (folder / name).write_text(replaced(block.text))
            script += [f"python {name}"] if name.startswith("make_") else []
        elif block.mark.startswith("not run"):
            continue
        elif block.language == "python":
            script.append(f"python <<'END'\n{block.text}END")
        elif block.language == "sh":
            script += [replaced(line) for line in commands(block) if not line.startswith("make ")]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        ["bash", "-x", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", [page for page in PAGES if page in QUICK_PAGES])
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page not in QUICK_PAGES and runnable(page)])
def test_the_commands_of_the_other_pages_run(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists_and_has_the_options_that_a_page_gives_it(page: str) -> None:
    for line in (line for block in blocks(page) if block.language == "sh" for line in commands(block)):
        words = shlex.split(line)
        while "=" in words[0]:  # settings of the environment
            words = words[1:]
        if words[0] == "make":
            assert words[1] in MAKE or "TRAINING_SET" in line or words[1] == "bench-demo", line
        if Path(words[0]).name != "hpsearch" or words[-1] == "--version":
            continue
        with click.Context(main) as ctx:
            rest = words[3:] if words[1] == "-w" else words[1:]
            command = main.get_command(ctx, rest[0])
            assert command is not None, line
            flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
            given = {word.partition("=")[0] for word in rest[1:] if re.match(r"--?[a-z]", word)}
            assert given <= flags | {"--help"}, (line, given - flags)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_why(page: str) -> None:
    for block in blocks(page):
        if block.mark.startswith("not run"):
            assert re.fullmatch(r"not run: \w.{4,}", block.mark), block
    assert "    $ " not in TEXT[page], "commands stand in fenced blocks, or nobody runs them"


def test_the_reference_is_that_of_the_code(generator: ModuleType) -> None:
    for name, page in generator.PAGES.items():
        assert (generator.FOLDER / name).read_text(encoding="utf-8") == generator.NOTE + page(), (
            "run `python docs/generate_reference.py`"
        )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_used_on_a_page(name: str) -> None:
    written = [text for page, text in TEXT.items() if "reference/" not in page]
    assert any(re.search(rf"hpsearch (-w \S+ )?{name}\b", text) for text in written)


def test_readme_is_short() -> None:
    assert len(TEXT["README.md"].splitlines()) <= 150
    assert len(TEXT["README.md"].split()) <= 900


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    with click.Context(main) as ctx:
        command = main.get_command(ctx, name)
    assert command is not None
    assert all(option.help for option in command.params if isinstance(option, click.Option))
