"""Heads: small trained modules that read stored features or replace the text side; NumPy and ONNX Runtime, never torch."""
