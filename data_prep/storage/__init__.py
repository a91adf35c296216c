"""The prepared set on disk. Begin with reader.py: PreparedSet is what everything else works on.

writer.py writes a set whole or not at all, images_csv.py is its table of decisions,
spilled_arrays.py holds images that are too many for memory, machine.py knows free memory and processors.
"""
