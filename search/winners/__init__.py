"""Who wins. Begin with best_trial.py.

ties.py says which differences are real, picked_trial.py and model_budget.py (options: budget_options.py) choose
otherwise, confirmation.py trains the best again on other seeds and folds; finished_trial.py rebuilds a trial's job, for
rerun.py (does it come out again) and refit.py (training and validation images together).
"""
