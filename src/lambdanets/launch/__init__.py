"""Looking before a run starts: dry run, doctor, SLURM script."""
