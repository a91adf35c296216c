"""One trial. Begin with trial.py, then trained_phase.py: a phase under way.

recipe.py is what a study's trials share and the phases it leads to; plan.py what decides a trial and what it ends with;
optimizers.py and schedules.py are tables; trial_scorer.py, trial_progress.py and checkpoint.py score, count and
store it; trial_timing.py times short trials, and trial_rates.py says what whole ones will take.
"""
