"""`python -m servers.logs`."""

import sys

from servers.logs.server import run

if __name__ == "__main__":
    sys.exit(run())
