"""Which images are left out, and why. Begin with steps.py: the cleaning steps in their order.

hashing.py gives perceptual hashes, copies.py decides by pixels what is the same picture,
user_anomalies.py reads the pictures that the user calls anomalies.
"""
