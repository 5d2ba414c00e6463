"""Dagster resources: typed fields that build what is below."""
