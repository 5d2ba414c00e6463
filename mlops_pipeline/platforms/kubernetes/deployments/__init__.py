"""SeldonDeployments: applied, watched until they are routed, and taken away."""
