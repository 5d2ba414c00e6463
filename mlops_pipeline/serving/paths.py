"""Paths with information about the server itself, with or without a model."""

READY = ("/ready", "/health/status", "/api/v1.0/health/status", "/api/v1.0/status")
LIVE = ("/live", "/health/ping", "/api/v1.0/health/ping")
V2_READY = "/v2/health/ready"
V2_LIVE = "/v2/health/live"
METRICS = ("/metrics", "/prometheus")
