"""Updates of the whole image: two slots, one on trial, and the way back."""
