"""The command line; the only package that imports the other three. Begin with cli.py and commands/.

commands/   one file a command              terminal/    tables, progress bars, the config file
engine/     the loop, workers, their jobs   planning/    from options to a study; dry run
winners/    who wins; confirm, rerun, refit exporting/   the model folder
evaluating/ an exported model on new images
run_studies.py is one call of `run`, workspace.py the folder that all commands share, interrupts.py what Ctrl-C does.
"""
