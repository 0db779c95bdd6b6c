"""The entry of pytest: registers goldspawn's plugin and its stages, and nothing else."""

pytest_plugins = ["pipeline.plugin", "stages"]
