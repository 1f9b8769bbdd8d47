"""The words both sides share."""
