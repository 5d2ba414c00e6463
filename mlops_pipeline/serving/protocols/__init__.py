"""The protocols, each as pure functions from the bytes of a request to those of an answer."""
