"""What each layer gets: clients of other systems, the settings and the state folder."""
