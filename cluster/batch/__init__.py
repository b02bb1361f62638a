"""Jobs that Ray spreads over windows and recordings."""
