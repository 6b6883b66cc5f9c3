"""Images and labels: what to train on and test with."""
