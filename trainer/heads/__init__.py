"""The small models the device judges with, fitted on exactly what it sees: one file a head."""
