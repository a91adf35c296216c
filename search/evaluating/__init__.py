"""An exported model on new images. Begin with exported_model.py and inputs.py.

evaluation.py scores and labelling.py labels images. corrupted_inputs.py and suites.py corrupt the user's images,
known_images.py finds those that the model knows, leaky_split.py shows what splitting after augmenting does.
"""
