"""The model face: an OpenAI-compatible endpoint in front of registered models."""
