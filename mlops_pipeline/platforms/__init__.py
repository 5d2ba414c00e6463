"""What models are served on: layers, and deployments on top of them."""
