"""Latency, cost and accuracy, measured beside what people would use instead."""
