"""What is wrong with recordings: measured, summed up over a store, shown as a page."""
