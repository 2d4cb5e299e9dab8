"""Published weights: files to arrays by name, and names to networks, one module for each format."""
