"""Reading maps: one pulse rate per window, and what every place carries."""
