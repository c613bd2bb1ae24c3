"""Files, the terminal and imports. These modules import nothing but Python's own."""
