"""Workloads: shapes and model presets."""

from turbosim.workload.presets import MODELS, Model, attention_of, get_model
from turbosim.workload.shape import Attention, CopyBytes, Gemm, Phase, Workload

__all__ = ["MODELS", "Attention", "CopyBytes", "Gemm", "Model", "Phase", "Workload", "attention_of", "get_model"]
