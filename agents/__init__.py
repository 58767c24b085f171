"""Agents: declared or coded, run in a sandbox against routed models with the hub's tools."""
