"""The pretrained networks. Begin with registry.py: a row each, and where to add one.

user_rows.py makes rows of a user's own networks (other_files.py says how to convert what is no .keras file),
user_networks.py builds those: own_model.py opens a file, heads.py finds its head, own_code.py hashes a function's code.
preprocessing.py scales the pixels, cut_points.py says where a network can be cut, inference_cost.py what it costs;
small_cnn.py is the baseline.
"""
