"""Starting processes, and looking before one starts: dry run, doctor, SLURM."""
