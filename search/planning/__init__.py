"""From options to a study. Begin with run_options.py, then planned_study.py.

study_match.py compares with a stored study, study_versions.py takes over its trials, open_study.py makes or opens it
and its jobs, stored_studies.py finds one by name, space_checks.py checks spaces, warm_start.py brings hints,
arithmetic_choice.py decides precision and cache; dry_run.py and estimate.py say what a search will take.
"""
