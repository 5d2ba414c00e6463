"""Runs in the unit's container in front of the one that loads the model. Needs no framework.

For TENSORFLOW_SERVER under Seldon's protocol, the operator creates two containers: `tfserving`
loads the model and gets only its name; the unit's own gets the full configuration but has no model.
It forwards each request with its configuration (see `unit_header`), and returns the answer.
"""
