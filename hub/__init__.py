"""Entrepot's hub: the service catalog of a company's AI tools, and the one endpoint in front of them."""

__version__ = "0.1.0"
