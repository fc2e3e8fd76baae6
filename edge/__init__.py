"""The on-device runtime: whole hops of samples in, tokens, rhythm and alarms out."""
