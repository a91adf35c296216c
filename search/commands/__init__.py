"""One file a command, called as the command is; search/cli.py lists them."""
