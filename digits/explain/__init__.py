"""What a trained network does with images that are unlike its training, and what its layers know: pure measurements."""
