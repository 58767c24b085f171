"""`python -m hub.limits --socket PATH --ledger PATH --workers N`: the coordinator of several workers."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from hub.limits.coordinator import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="hub.limits")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve(told.socket, told.ledger, told.workers))
