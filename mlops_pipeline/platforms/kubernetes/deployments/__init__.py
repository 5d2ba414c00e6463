"""SeldonDeployments: apply them, wait until requests are routed to them, delete them."""
