"""Reference numerics on the CPU: the definition of correct for the Triton kernels. Needs torch and nothing else.

TurboAttention (MLSys 2025): FlashQ quantisation, SAS softmax, its KV cache, prefill and decode; KIVI, GEAR-L and exact
attention as baselines. Everything is written for clarity, over whole tiles, in float32 unless a type is named.
"""
