"""Dagster resources: typed fields that build objects of the packages below."""
