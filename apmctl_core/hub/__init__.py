"""Artifacts on the Hugging Face Hub. Importing this imports neither torch nor the Hub's client."""
