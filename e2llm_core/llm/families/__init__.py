"""Language model families: chat format, rationale and tensors on disk, one file per family. Light to import."""
