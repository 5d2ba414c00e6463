"""A Dagster project for the whole life of served models."""
