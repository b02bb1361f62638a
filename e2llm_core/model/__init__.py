"""The composite model: configuration, processor, folder, export."""
