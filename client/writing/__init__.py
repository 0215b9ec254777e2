"""Writing: small puts one by one or together, large ones in chunks; none is ever left in doubt."""
