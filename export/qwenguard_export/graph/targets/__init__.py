"""What a bundle's graphs are made for."""
