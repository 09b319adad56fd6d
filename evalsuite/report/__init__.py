"""Reports read finished runs and show them."""
