"""How good answers are. Begin with metrics.py; objectives.py is what a study can maximize.

trial_scores.py scores a trial on clean and corrupted images, external_scores.py on sets of another origin.
intervals.py and resampled_f1.py resample images, rank_correlation.py compares rankings.
trust.py (with calibration.py, optimal_transport.py) says how far answers can be relied on;
export_figures.py is everything that an export tells.
"""
