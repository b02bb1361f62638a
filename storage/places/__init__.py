"""Folders and buckets: files in them, locks on them, working copies of them."""
