"""Istio: its layer, the gateway, HTTPS, and the check that it routes."""
