"""torch.distributed.checkpoint: see hf_storage. Save whole tensors with torch.save."""
