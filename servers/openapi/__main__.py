"""`python -m servers.openapi`."""

import sys

from servers.openapi.server import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
