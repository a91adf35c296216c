"""Backbone and head as one network. Begin with classifier.py.

kept_networks.py keeps networks from trial to trial and cuts them into frozen and trained parts, norm_folding.py makes
them quicker, compiled_steps.py compiles by backend, arithmetic.py is the precision of training steps,
step_timing.py times them, predicting.py answers for many images.
"""
