"""What a generation costs."""
