"""What is run by hand or by set-up."""
