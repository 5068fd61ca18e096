"""taille: smaller and faster PyTorch models on CPUs, to a contract you state."""
