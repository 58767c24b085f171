"""`python -m servers.scaling`."""

import sys

from servers.scaling.server import run

if __name__ == "__main__":
    sys.exit(run())
