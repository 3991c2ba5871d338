"""Kernels that are not attention, with launch descriptions: what ``turbosim lift`` takes from users."""
