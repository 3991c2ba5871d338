"""Views: what is made of results."""
