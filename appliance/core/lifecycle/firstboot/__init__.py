"""The first start: what a file on the card says, made true once, whole or not at all."""
