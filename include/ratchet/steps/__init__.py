"""The eleven steps of a night, one module each: plain functions over ports and domain."""
