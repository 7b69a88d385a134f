"""Servers behind the queue and the DB, as tests start them."""
