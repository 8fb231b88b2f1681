"""The ten steps of a night, one module each: plain functions over ports and domain."""
