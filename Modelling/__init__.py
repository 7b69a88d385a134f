"""The image classifier: data, training, checkpoints, and the engine that serves them.

Start with `train_cnn.py` (makes a checkpoint) and `predict_cnn.py` (uses one). Importing any
module of this package is cheap: TensorFlow is loaded only by the functions that need it.
"""
