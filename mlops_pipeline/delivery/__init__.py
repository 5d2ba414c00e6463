"""Artifacts, deployments and their proof. Knows nothing of Dagster."""
