"""Tables and texts that commands print. Names and other texts of users are printed as they are, never as markup."""
