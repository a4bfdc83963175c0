from costmodel.execution.eager import kernels

DTYPES = ("fp32", "fp16", "int8", "amp-fp16")
__all__ = ["DTYPES", "kernels"]
