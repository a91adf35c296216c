"""Output in encodings that lack letters: spelled, never an error; and text files are UTF-8 in any locale."""

from __future__ import annotations

import subprocess
import sys

import pytest
from real_command import environment

from search.terminal.streams import spelled

PRINT = """
import click
from search.terminal.output import console, print_json, print_table
from search.terminal.streams import make_output_last
make_output_last()
print_table([{"class": "细胞 🦠", "f1": 0.5}], ("class", "f1"))
console(stderr=True).print("细胞 ± 1 \\udcff", soft_wrap=True)
click.echo("Ω → – naïve")
print("Grün 🦠")
print_json({"class": "细胞"})
"""


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("5 ± 1 → 6 – 7", "ascii", "5 +- 1 -> 6 - 7"),
        ("5 ± 1 → 6 – 7", "cp1252", "5 ± 1 -> 6 – 7"),
        ("5 ± 1 → 6 – 7", "utf-8", "5 ± 1 → 6 – 7"),
        ("Grün", "latin-1", "Grün"),
        ("Grün", "ascii", r"Gr\xfcn"),
        ("细", "cp437", r"\u7ec6"),
        ("bad \udcff", "utf-8", r"bad \udcff"),
    ],
)
def test_what_an_encoding_lacks_is_spelled(text: str, encoding: str, expected: str) -> None:
    assert spelled(text, encoding) == expected


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "ascii:strict", "utf-8", "koi8-r"])
def test_nothing_fails_for_want_of_a_letter(encoding: str) -> None:
    env = environment(PYTHONIOENCODING=encoding)
    done = subprocess.run([sys.executable, "-c", PRINT], env=env, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding.partition(":")[0])  # Click's lines and rich's are in one encoding
    assert ("细胞" in text) == (encoding == "utf-8")
    assert (r"\u7ec6" in text) == (encoding != "utf-8")
    assert ("─" in text) == (encoding == "utf-8")
    assert b"Traceback" not in done.stderr


def test_the_c_locale_reads_file_names_as_utf_8_and_prints_ascii() -> None:
    code = (
        "import sys; from search.terminal.streams import *; restart_in_utf8(); make_output_last(); print(sys.argv[1])"
    )
    env = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = subprocess.run([sys.executable, "-c", code, "细胞"], env=env, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, rb"\u7ec6\u80de" + b"\n"), done.stderr
