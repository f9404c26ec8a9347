"""LiGO: learning to grow a trained Transformer into a larger one."""
