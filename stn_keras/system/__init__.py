"""The commands' surroundings: files, the terminal, imports. It imports nothing but Python."""
