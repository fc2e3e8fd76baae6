"""One module for each action of `pulsecode evaluate`: ``HELP``, ``configure(parser)``, ``run(args)``."""
