"""Makes the buckets, with versioning, so that nothing that was once read can be overwritten for good."""

from __future__ import annotations

import os
import sys

BUCKETS = {"lake": True, "ratchet": True, "mlflow": False}  # name: versioned


def main(endpoint: str) -> None:
    """Create what is missing and switch versioning on."""
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name=os.environ.get("AWS_REGION"))
    there = {b["Name"] for b in client.list_buckets().get("Buckets", [])}
    for name, versioned in BUCKETS.items():
        if name not in there:
            client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    sys.stdout.write(f"buckets: {', '.join(BUCKETS)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
