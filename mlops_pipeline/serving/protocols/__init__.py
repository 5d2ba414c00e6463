"""The protocols, each as pure functions from a request's bytes to an answer's bytes."""
