"""A study as a thing on disk, through Optuna. Begin with settings.py (what it fixes) and records.py (its trials).

definition.py and *.toml are search spaces, proposals.py hyperparameters from elsewhere, samplers.py (with
per_trial_sampler.py) and pruners.py (with fine_tuning_only.py) tables; storage.py is the database through Optuna,
sqlite_file.py its file, sqlite_reader.py reads it without Optuna; trials.py is a trial on its way, replicates.py trials
trained again, trial_tables.py the rows of `status` and `compare`; files.py and file_locks.py keep files whole and
processes apart, shared_files.py lets a group write them, keys.py finds misspelt keys.
"""
