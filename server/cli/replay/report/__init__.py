"""What a replay showed: rates with intervals, a summary in numbers, and tables for a terminal."""
