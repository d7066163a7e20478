"""What follows a failure, and where requests go."""
