"""`python -m servers.databases`."""

import sys

from servers.databases.server import run

if __name__ == "__main__":
    sys.exit(run())
