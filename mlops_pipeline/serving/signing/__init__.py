"""Signatures of artifacts, in the format of OpenSSF model-signing (`model.sig`).

Nothing here needs the rest of the project: publishers, delivery and model servers share it.
`cryptography` is imported by the functions that use a key.
"""
