"""Seldon Core: its layer, chart and webhook."""
