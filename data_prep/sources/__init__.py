"""Every kind of input, read into LabelledImages.

Begin with registry.py: a row a kind (kinds.py has them in words), and where to add one. *_source.py, medmnist.py and
demo_set.py read one kind each. picture_files.py opens and decodes picture formats, listing.py holds pictures that were
found; npz_labels.py, pixel_values.py and table_rows.py read labels, values and tables; download.py fetches.
"""
