"""The scaling server: see and change how many replicas run."""
