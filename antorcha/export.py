"""torch.export: programs captured ahead of time are missing here. The names are there, so that programs that ask for them are told what to
use instead."""

from __future__ import annotations

from .unavailable import unavailable_class, unavailable_function

_INSTEAD = ("there is no capture ahead of time in antorcha. Save the state_dict and the code (torch.save), trace with "
            "torch.fx.symbolic_trace, or call torch.compile, which replays what it has seen; export files with PyTorch, whose "
            "state_dict is the same.")

for _name in "export load save draft_export unflatten default_decompositions dims register_dataclass".split():
    globals()[_name] = unavailable_function(f"torch.export.{_name}", _INSTEAD)
for _name in ("AdditionalInputs Constraint CustomDecompTable Dim ExportBackwardSignature ExportGraphSignature ExportedProgram "
              "FlatArgsAdapter ModuleCallEntry ModuleCallSignature ShapesCollection UnflattenedModule").split():
    globals()[_name] = unavailable_class(f"torch.export.{_name}", _INSTEAD)
