"""Tables on the terminal: a line a row where all fits, folded cells where not."""

from __future__ import annotations

import pytest

from search.terminal.output import MIN_WIDTH_WITHOUT_TERMINAL, print_table

ROWS = [{"name": f"study-{number}", "trial": number, "macro_f1": number / 7, "reason": None} for number in range(1, 12)]
COLUMNS = ("name", "trial", "macro_f1", "reason")


def test_a_table_that_fits_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(ROWS, COLUMNS)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line.split() for line in lines[2:]] == [
        [row["name"], str(row["trial"]), f"{row['macro_f1']:.4f}", "-"] for row in ROWS
    ]
    assert len({len(line) for line in lines}) == 1
    assert all(line.index(".") == lines[2].index(".") for line in lines[2:])  # numbers stand under one another


@pytest.mark.parametrize("reason", ["a word " * MIN_WIDTH_WITHOUT_TERMINAL, "two\nlines"])
def test_a_cell_that_does_not_fit_is_folded_in_its_own_row(capsys: pytest.CaptureFixture[str], reason: str) -> None:
    print_table([ROWS[0] | {"reason": reason}, ROWS[1]], COLUMNS)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert max(map(len, lines)) <= MIN_WIDTH_WITHOUT_TERMINAL
    assert lines[2].split()[:2] == ["study-1", "1"] and lines[-1].split() == ["study-2", "2", "0.2857", "-"]
    assert len(lines) > 4


def test_no_rows_are_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([], COLUMNS)
    assert "macro f1" in capsys.readouterr().out


@pytest.mark.parametrize("length", range(100, 150, 3))
def test_every_value_stands_in_its_own_row_at_any_width(capsys: pytest.CaptureFixture[str], length: int) -> None:
    rows = [{"name": name, "trial": trial, "reason": f"{'x' * length} of-{name}"} for trial, name in enumerate("abc")]
    print_table(rows, ("name", "trial", "reason", *[f"c{number}" for number in range(5)]))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()][2:]
    starts = [number for number, line in enumerate(lines) if line.split()[0] in "abc"]
    assert len(starts) == 3
    for name, first, last in zip("abc", starts, [*starts[1:], len(lines)], strict=True):
        assert f"of-{name}" in "".join("".join(line.split()) for line in lines[first:last])
