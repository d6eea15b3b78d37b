"""What commands print: tables and texts. Texts of users are never taken as markup."""
