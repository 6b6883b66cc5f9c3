"""Pseudo-labels as jobs: a teacher gives them, a student trains on them, and teaches in its turn."""
