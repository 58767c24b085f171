"""`python -m hub` is `entrepot`."""

from hub.cli import main

main()
