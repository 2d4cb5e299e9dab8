"""What trained models make of rows: log-densities, comparisons, what the theory says of them."""
