"""The encoder for a microcontroller: C11 that needs neither floating point, nor a heap, nor a library."""
