"""Every kind of input, read into LabelledImages. Begin with registry.py: a row a kind, and where to add one.

*_source.py, medmnist.py, demo_set.py read one kind each; listing.py and picture_files.py read pictures,
npz_labels.py, pixel_values.py and table_rows.py labels, values and tables; download.py fetches.
"""
