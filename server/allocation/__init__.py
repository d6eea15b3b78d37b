"""The data plane: allocate users, record conversions."""
