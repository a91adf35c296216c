"""Corrupted views that score trials and the winner. Begin with operations.py: the table, where each row says whether it
scores trials or the test images alone, and where to add one.

views.py draws and stores them, medmnist_c.py is a published list, transforms.py applies one operation.
"""
