"""Saved models: loaded, asked about pictures and exported."""
