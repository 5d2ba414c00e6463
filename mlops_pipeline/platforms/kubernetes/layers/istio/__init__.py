"""Istio: its layer, the gateway, HTTPS and what proves that it routes."""
