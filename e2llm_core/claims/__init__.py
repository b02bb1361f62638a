"""What is claimed about EEG: quantities that can be measured, and sentences about them."""
