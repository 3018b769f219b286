"""Reading maps: one pulse rate per window, and the pulse of every place."""
