"""The main job on real input: what `make demo` plays."""
