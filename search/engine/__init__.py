"""One process asks, others train. Begin with loop.py, then job.py: what crosses between them.

worker.py is the search process's side of a training process, worker_process.py the process itself, keras_trainer.py and
trial_data.py its work; claims.py tells who has which trial, retention.py what stays on disk, stop_request.py when to
leave; per_gpu.py starts a run for each GPU, keras_import.py imports Keras quietly, own_python.py is how child processes
are started.
"""
