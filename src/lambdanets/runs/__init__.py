"""What surrounds a run folder: train, load, evaluate, predict, compare, report."""
