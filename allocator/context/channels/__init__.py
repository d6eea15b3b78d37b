"""The fields that each channel (web, e-mail, funnel, push) knows about a user, and the dimensions made from them."""
