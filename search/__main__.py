"""`python -m search`: the command line, for child processes that are started by module."""

from search.cli import main

main(prog_name="hpsearch")
