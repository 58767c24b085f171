"""What the hub costs, measured beside a direct call and a lean proxy. `python -m benchmarks`; see RESULTS.md."""
