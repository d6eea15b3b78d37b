"""What each channel (web, e-mail, funnel, push) knows of a user, and the dimensions that follow from it."""
