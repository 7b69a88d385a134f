"""Pictures of any kind, made into what a network was trained on."""
