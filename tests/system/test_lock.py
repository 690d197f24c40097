"""Object lock below the gateway: no call of a gateway and no command of `store` takes away what is locked.

Not tried, because nothing forbids it: a program that calls the class methods of a split by itself, and lies in them
(gateway/docs/s3.md, "Below the gateway")."""

import datetime
import os
import time

import pytest
from botocore.exceptions import ClientError
from swiftclient.client import Connection
from swiftclient.exceptions import ClientException

MIB = 1 << 20
POOLS = ["s3.data", "s3.index", "s3.meta"]


def until(seconds):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)


def names(cluster, pool):
    return [row["name"] for row in cluster.json("object", "ls", pool)]


def test_no_call_removes_what_is_locked(make_cluster):
    cluster = make_cluster().up()
    s3 = cluster.s3()
    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    bodies, versions = {}, {}
    for mode in ["GOVERNANCE", "COMPLIANCE"]:
        for size in [1000, 9 * MIB]:
            key = f"{mode}/{size}"
            bodies[key] = os.urandom(size)
            versions[key] = s3.put_object(
                Bucket="locked", Key=key, Body=bodies[key],
                ObjectLockMode=mode, ObjectLockRetainUntilDate=until(3600),
            )["VersionId"]

    def all_there():
        for key, body in bodies.items():
            assert s3.get_object(Bucket="locked", Key=key, VersionId=versions[key])["Body"].read() == body

    # S3: neither a removal nor a shorter retention.
    for key, version in versions.items():
        with pytest.raises(ClientError):
            s3.delete_object(Bucket="locked", Key=key, VersionId=version)
        with pytest.raises(ClientError):
            s3.put_object_retention(
                Bucket="locked", Key=key, VersionId=version,
                Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until(60)},
            )
        if key.startswith("COMPLIANCE"):
            with pytest.raises(ClientError):
                s3.delete_object(Bucket="locked", Key=key, VersionId=version, BypassGovernanceRetention=True)
    with pytest.raises(ClientError):
        s3.delete_bucket(Bucket="locked")
    # Swift: a delete hides, as S3's without a version.
    swift = Connection(authurl=cluster.env["ST_AUTH"], user=cluster.env["ST_USER"],
                       key=cluster.env["ST_KEY"], auth_version="1", retries=0)
    swift.delete_object("locked", f"COMPLIANCE/{9 * MIB}")
    with pytest.raises(ClientException):
        swift.delete_container("locked")
    all_there()

    # Raw calls of whoever holds the administrator's key.
    tried = 0
    for pool in POOLS:
        for name in names(cluster, pool):
            for words in [
                ["object", "rm", pool, name],
                ["object", "put", pool, name, "-"],
                ["object", "xattr", "set", pool, name, "shard", "x"],
                ["object", "omap", "set", pool, name, "e/x", "x"],
            ]:
                done = cluster.store(*words, check=False, input=b"x")
                assert done.returncode != 0, (words, done.stdout)
                tried += 1
        removed = cluster.store("pool", "rm", pool, "--yes-i-really-mean-it", check=False)
        assert removed.returncode != 0 and b"nodelete" in removed.stderr, removed
    assert tried > 40
    all_there()

    # With the documented leave a governance version goes, and its space with it.
    before = len(names(cluster, "s3.data"))
    key = f"GOVERNANCE/{9 * MIB}"
    s3.delete_object(Bucket="locked", Key=key, VersionId=versions.pop(key), BypassGovernanceRetention=True)
    bodies.pop(key)
    limit = time.time() + 180
    while len(names(cluster, "s3.data")) > before - 3:
        assert time.time() < limit, names(cluster, "s3.data")
        time.sleep(1)
    all_there()
