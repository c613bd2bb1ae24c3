"""Programs that measure time and memory; README.md has the figures.

With this file the programs are those of one checkout, even in a process that puts the library of
another checkout first on its path.
"""
