"""The shares of wrong answers that `predict --abstain` can aim at; apart, so that `--help` need not import trust.py."""

TARGET_ERRORS = (0.005, 0.01, 0.02, 0.05)
"""Allowed shares of wrong answers among the answers given. Each has its own abstention threshold."""
