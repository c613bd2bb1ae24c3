"""Checks of arguments, and their conversion to one form."""
