"""The cluster that kind makes: its layer, whose it is, and what of this machine it needs."""
