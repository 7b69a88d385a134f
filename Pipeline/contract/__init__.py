"""What other programs may rely on: the fields, and the documents that are made of them."""
