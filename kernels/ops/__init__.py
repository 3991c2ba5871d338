"""The kernels' Python interface: checks arguments, allocates outputs, launches. Imports torch and triton when used."""
