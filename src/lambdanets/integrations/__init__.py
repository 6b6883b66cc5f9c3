"""Other libraries: what they have and this one does not write again."""
