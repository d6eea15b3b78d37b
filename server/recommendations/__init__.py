"""Recommendations: what is known of an experiment, what to recommend, and how people or Samplit accept it."""
