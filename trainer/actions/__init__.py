"""`pulsecode train ACTION`: one module each, with ``HELP``, ``configure(parser)`` and ``run(args) -> exit status``.

Nothing heavy is imported before ``run``.
"""
