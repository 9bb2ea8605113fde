"""Two code optimisations: a distance formula that runs at memory bandwidth, and lossless in-memory table compression.

`distance.py` and `memory.py` are library functions that two assets use. README.md has decisions and measurements.
"""
