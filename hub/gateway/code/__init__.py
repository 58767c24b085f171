"""Code mode: `run_code` runs a short Python program over the caller's tools, where there is nothing else."""
