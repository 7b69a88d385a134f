"""How files are found and opened, and how their bytes reach the disk."""
