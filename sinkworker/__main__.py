"""`python -m sinkworker`: the command line without an installed script, as the demo starts its roles."""

from sinkworker.cli import main

main()
