"""Tests of the bundled servers, through the official client."""
