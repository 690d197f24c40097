"""Writes and checks objects over S3 in the compose stack: `smoke.py write|check NAME...`."""

import hashlib
import os
import sys

import boto3
from botocore.config import Config

s3 = boto3.client(
    "s3", endpoint_url=f"http://127.0.0.1:{os.environ['STORE_S3_PORT']}", region_name="us-east-1",
    aws_access_key_id=os.environ["STORE_ACCESS_KEY"], aws_secret_access_key=os.environ["STORE_SECRET_KEY"],
    config=Config(s3={"addressing_style": "path"}))


def body(name, i):
    size = (10, 4096, 70_000, 9_000_000)[i % 4]
    seed = hashlib.sha256(f"{name}/{i}".encode()).digest()
    return (seed * (size // 32 + 1))[:size]


verb, *names = sys.argv[1:]
if verb == "write":
    for name in names:
        s3.create_bucket(Bucket=name)
        for i in range(40):
            s3.put_object(Bucket=name, Key=f"k/{i}", Body=body(name, i))
for name in names:
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=name)["Contents"]]
    assert sorted(keys) == sorted(f"k/{i}" for i in range(40)), keys
    for i in range(40):
        assert s3.get_object(Bucket=name, Key=f"k/{i}")["Body"].read() == body(name, i), (name, i)
print(verb, *names, "ok")
