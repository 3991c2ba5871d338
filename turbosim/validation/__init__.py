"""Predictions beside measurements: data sets, rows, predictions of their times, errors and their limits."""
