"""The objectives of stage 1, one file each."""
