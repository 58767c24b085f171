"""Doubles at the edge: a scripted hub, and sandboxes that are plain processes."""
