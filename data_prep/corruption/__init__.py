"""Corrupted views that score trials and the winner. Begin with operations.py: the table, and where to add one.

views.py draws and stores them, medmnist_c.py is a published list, transforms.py applies one operation.
"""
