"""The cluster that kind makes: its layer, configuration, owner and nodes."""
