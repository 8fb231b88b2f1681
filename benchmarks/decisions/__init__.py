"""What each rule of promotion decides on real nights, and what that costs."""
