"""Reading: from keys to places, and from places to verified bytes."""
