"""A density in the units of the data: what it is made of, and what it is called with."""
