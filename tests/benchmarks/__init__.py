"""The numbers that the project claims: one command measures each figure again. The load generator is here too."""
