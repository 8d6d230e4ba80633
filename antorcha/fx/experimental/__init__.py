"""torch.fx.experimental: what libraries ask of tracers that are missing here."""
