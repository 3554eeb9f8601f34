"""The models on disk and on the hub: which there are, whether they are whole, and how they get here."""
