"""Programs that measure time and memory; README.md has the figures.

A package with this file stays that of one checkout when a process puts another one's library first
on the path.
"""
