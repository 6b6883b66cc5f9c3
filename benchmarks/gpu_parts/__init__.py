"""The parts of `gpu.py`, one file each."""
