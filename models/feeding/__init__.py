"""What a training step is given. Begin with batches.py.

batch_changes.py changes a batch at random, epoch_size.py reckons with batches and steps, prefix_cache.py keeps what
frozen layers compute, cache_cost.py measures whether that pays, reading_ahead.py asks the disk early,
training_data.py is the record of all that a trial sees.
"""
