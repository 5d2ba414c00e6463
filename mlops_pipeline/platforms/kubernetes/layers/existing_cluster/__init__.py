"""A cluster that is there already: its layer, and what is looked at before anything is changed."""
