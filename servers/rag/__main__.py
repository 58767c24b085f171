"""`python -m servers.rag`."""

import sys

from servers.rag.server import run

if __name__ == "__main__":
    sys.exit(run())
