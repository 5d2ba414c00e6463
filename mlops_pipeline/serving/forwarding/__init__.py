"""The unit's container before one that loads the model: a thin way through, without a framework.

Seldon's operator makes two containers of TENSORFLOW_SERVER under Seldon's protocol: `tfserving`
loads the model and is told nothing but its name, the unit's own is told everything and has no
model. It hands each request on, with what it is told (see `telling`), and the answer back.
"""
