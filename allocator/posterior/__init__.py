"""Posteriors: from counts to the Beta tables that decide. Knows no experiment's history but its counts."""
