"""Releases: a new version beside the stable one, compared on measured answers, then decided.

`state` is what a release is and where it is written, `evidence` what was counted, `statistics` and
`machine` what follows from that (pure functions), `driver` applies it, `records` keeps it for good.
"""
