"""What training needs: the network, its data, its options."""
