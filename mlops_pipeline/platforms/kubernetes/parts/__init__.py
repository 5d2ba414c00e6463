"""What each layer is given: the ways to the outside, the settings and the state folder."""
