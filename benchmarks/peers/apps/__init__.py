"""What runs as processes of their own: the peers' programs, and what feeds and reads them."""
