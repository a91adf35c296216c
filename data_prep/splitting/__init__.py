"""Who goes to train, validation and test. Begin with split.py.

grouping.py joins images that belong together, user_groups.py adds what the user knows (patients, slides),
folds.py divides the training side for cross-validation.
"""
