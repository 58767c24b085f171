"""Tests of the agents part."""
