"""The night in order: runs one step, or all of them."""
