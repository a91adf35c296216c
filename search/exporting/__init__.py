"""The winner as a model folder. Begin with export.py; model_card.md is the card's template.

variants.py tries averages and turned images, format_files.py writes further formats, scored_parts.py scores the images
of a split, figure_tables.py and printed_export.py show figures, locked_test.py counts readings of the test set.
"""
