"""The exported model. Begin with registry.py: a row a format, and where to add one.

keras_file.py joins trials' weights into the .keras file, conversion.py writes and proves the other formats,
portable.py makes the file open with older versions of Keras, codabench_model.py goes into a challenge's submission.
"""
