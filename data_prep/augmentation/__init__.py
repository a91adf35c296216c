"""Augmented views of training images. Begin with levels.py: the levels, and where to add one.

strong_views.py is the strongest of them, bank.py writes them to disk, validation_views.py makes those of a refit,
quiet_import.py imports TensorFlow and keras-cv without their greetings.
"""
