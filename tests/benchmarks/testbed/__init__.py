"""What figures run on: installations, references and rounds of load."""
