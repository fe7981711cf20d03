"""MNIST as a TFDS dataset that needs neither TensorFlow nor a network; its archives lie beside this file."""
