"""Turns files into a clean, split, augmented image set on disk. Begin with prepare.py.

sources/       every kind of input: arrays, folders, tables, sets by name, the demo set
cleaning/      which images are left out: hashes, copies, anomalies, the cleaning steps
splitting/     groups that stay together, the split, folds
augmentation/  views of training images        corruption/  corrupted views of held-out images
storage/       the prepared set on disk        report/      the page that shows what was done
check.py verifies a set again, external_sets.py adds sets of another origin, fingerprint.py tells sets apart.
"""
