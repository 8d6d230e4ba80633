"""Names of the torch namespace that belong to other engines: the classes of TorchScript's compiler, and the routines of vendors' libraries
and of PyTorch's server-side quantization. None can exist here; each raises an error that says what to use, and nothing is an instance."""

from __future__ import annotations

from .unavailable import unavailable_class, unavailable_function

_SCRIPT = ("TorchScript's language is not compiled in antorcha: functions are recorded as they run and compiled without being asked. "
           "Call the function itself, or torch.compile it.")
_VENDOR = "antorcha generates its own kernels and does not call {}. Use {}."

CLASSES = frozenset(
    "AliasDb AnyType Argument ArgumentSpec AwaitType Block BoolType BufferDict CallStack Capsule ClassType Code CompilationUnit "
    "CompleteArgumentSpec ComplexType ConcreteModuleType ConcreteModuleTypeBuilder DeepCopyMemoTable DeserializationStorageContext "
    "DeviceObjType DictType EnumType ErrorReport ExecutionPlan FloatType FunctionSchema FutureType Gradient Graph GraphExecutorState "
    "IODescriptor InferredType IntType InterfaceType ListType LiteScriptModule LockingLogger ModuleDict Node NoneType NoopLogger "
    "NumberType OperatorInfo OptionalType ParameterDict PyObjectType RRefType ScriptClass ScriptClassFunction ScriptDict "
    "ScriptDictIterator ScriptDictKeyIterator ScriptList ScriptListIterator ScriptMethod ScriptModuleSerializer ScriptObject "
    "ScriptObjectProperty SerializationStorageContext StaticModule StreamObjType StringType SymBoolType SymIntType TensorType "
    "TracingState TupleType Type UnionType Use Value".split())
FUNCTIONS = frozenset("import_ir_module import_ir_module_from_buffer merge_type_from_type_comment parse_ir parse_type_comment "
                      "unify_type_list".split())
LIBRARIES = {   # prefix: (library, what to use)
    "cudnn_": ("cuDNN", "the function of torch.nn.functional, which runs on GPUs too"),
    "miopen_": ("MIOpen", "the function of torch.nn.functional"),
    "mkldnn_": ("oneDNN", "the function of torch.nn.functional"),
    "fbgemm_": ("FBGEMM", "torch.ao.quantization.quantize_dynamic"),
    "batch_norm_": ("the kernels of synchronised batch normalisation", "nn.SyncBatchNorm or torch.nn.functional.batch_norm"),
}
ROUTINES = frozenset(
    "batch_norm_backward_elemt batch_norm_backward_reduce batch_norm_elemt batch_norm_gather_stats batch_norm_gather_stats_with_counts "
    "batch_norm_stats batch_norm_update_stats cudnn_affine_grid_generator cudnn_batch_norm cudnn_convolution cudnn_convolution_add_relu "
    "cudnn_convolution_relu cudnn_convolution_transpose cudnn_grid_sampler fbgemm_linear_fp16_weight "
    "fbgemm_linear_fp16_weight_fp32_activation fbgemm_linear_int8_weight fbgemm_linear_int8_weight_fp32_activation "
    "fbgemm_linear_quantize_weight fbgemm_pack_gemm_matrix_fp16 fbgemm_pack_quantized_matrix miopen_batch_norm miopen_convolution "
    "miopen_convolution_add_relu miopen_convolution_relu miopen_convolution_transpose miopen_ctc_loss miopen_depthwise_convolution "
    "miopen_rnn mkldnn_adaptive_avg_pool2d mkldnn_convolution mkldnn_linear_backward_weights mkldnn_max_pool2d mkldnn_max_pool3d "
    "mkldnn_rnn_layer".split())


def find(name: str):
    """What stands for torch.<name>; None for a name that is none of these."""
    if name in CLASSES:
        return unavailable_class(f"torch.{name}", _SCRIPT)
    if name in FUNCTIONS:
        return unavailable_function(f"torch.{name}", _SCRIPT)
    if name in ROUTINES:
        library = next(words for prefix, words in LIBRARIES.items() if name.startswith(prefix))
        return unavailable_function(f"torch.{name}", _VENDOR.format(*library))
    return None
