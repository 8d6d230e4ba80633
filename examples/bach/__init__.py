"""Parts of examples/bach_gpt.py: scores to tokens and back, the model, and the pictures."""
