"""Where it runs: Ray (Train, Data, Serve), SLURM, KubeRay and capacity planning."""
