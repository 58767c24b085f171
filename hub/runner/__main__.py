"""`python -m hub.runner`: the runner process."""

from hub.runner.main import main

main()
