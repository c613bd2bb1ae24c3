"""Checks of what users pass, brought to one form."""
