"""How an encoder is made smaller and faster: every method in :mod:`quantize.methods.table`, one concept a file."""
