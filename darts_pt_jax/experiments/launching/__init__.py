"""Carries out the runs of a sweep: here, as jobs of Slurm, or as tasks of Ray."""
