"""One trial's worth of Keras, on any backend. Begin with training/trial.py.

backbones/  pretrained networks: their table, the user's own, preprocessing, cut points
networks/   backbone and head as one network, kept from trial to trial, with compiled steps
feeding/    batches, their random changes, the prefix cache
training/   phases, optimizers, schedules, checkpoints, timing
scoring/    metrics, objectives, intervals, calibration, abstaining
formats/    the exported model: .keras and further formats
hyperparameters.py is what one trial varies, keras_config.py what Keras takes from the user's machine,
keras_versions.py who wrote a .keras file, out_of_memory.py what such errors say.
"""
