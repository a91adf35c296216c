"""A study as a thing on disk, through Optuna. Begin with settings.py (what it fixes) and records.py (its trials).

definition.py and *.toml are search spaces, proposals.py hyperparameters from elsewhere, samplers.py samplers and
pruners, storage.py the database through Optuna, sqlite_file.py its file, sqlite_reader.py reads it without Optuna,
trials.py a trial on its way, replicates.py trials trained again, tables.py the rows of `status` and `compare`,
files.py and file_locks.py whole files and locks, keys.py misspelt keys.
"""
