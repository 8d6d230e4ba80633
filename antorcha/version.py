"""The version of antorcha, and the version of PyTorch whose API it follows."""

__version__ = "0.1.0"
torch_version = "2.13.0+antorcha"  # torch.__version__, and what importlib.metadata answers for "torch" under the alias
