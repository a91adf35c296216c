"""Which images are left out, and which belong together. Begin with steps.py: the cleaning steps in their order.

hashing.py gives perceptual hashes, copies.py decides by pixels what is a copy,
user_anomalies.py reads the pictures that the user calls anomalies.
versions.py finds versions of one picture: version_names.py by names, near_copies.py by pixels
(pictures.py, keypoints.py, neighbours.py suggest pairs, alignment.py proves them, representatives.py groups them).
recheck.py finds them by another way, for `check`.
"""
