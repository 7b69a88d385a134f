"""Networks: their files, what they expect and answer, and the engines that run them."""
