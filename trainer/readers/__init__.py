"""Readers of recordings in other formats than WFDB, one module each.

Each offers ``scan`` and ``read`` as :class:`trainer.recordings.Reader` states them, and is found by
:data:`trainer.recordings.READERS`.
"""
