"""What the hub tells about itself: logs, metrics, traces, health."""
