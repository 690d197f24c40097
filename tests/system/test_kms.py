"""Named keys (SSE-KMS): made and changed by the command line and the admin port, used by boto3."""

import json
import os
import time
import urllib.error
import urllib.request
import uuid

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from test_encryption import on_disk

MIB = 1 << 20

# Gateways believe what they know of a key for so long.
BELIEVED_SECONDS = 5


def refused(expected, call, **arguments):
    with pytest.raises(ClientError) as e:
        call(**arguments)
    assert e.value.response["Error"]["Code"] == expected, e.value.response


def becomes(expected, look, seconds=BELIEVED_SECONDS * 3):
    """Waits until all threads of the gateway have heard of a change."""
    until = time.monotonic() + seconds
    same = 0
    while same < 20:
        same = same + 1 if look() == expected else 0
        assert time.monotonic() < until, look()
        time.sleep(0.02)


def code_of(call, **arguments):
    try:
        call(**arguments)
        return None
    except ClientError as error:
        return error.response["Error"]["Code"]


def kms(key, **more):
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key, **more}


@pytest.fixture
def key(cluster):
    name = f"key-{uuid.uuid4()}"
    made = cluster.json("kms", "key", "create", name, "--description", "of a test")
    assert (made["id"], made["state"], made["version"], made["versions"]) == (name, "enabled", 1, [])
    return name


@pytest.mark.parametrize("size", [0, 100, 100_000, 9 * MIB + 5])
def test_objects_under_a_named_key(cluster, bucket, key, size, tmp_path):
    s3 = cluster.s3()
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, **kms(key, BucketKeyEnabled=True))
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"], put["BucketKeyEnabled"]) == ("aws:kms", key, True)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["SSEKMSKeyId"]) == (body, key)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k", **kms("alias/aws/s3"))
    got = s3.get_object(Bucket=bucket, Key="copy")
    assert (got["Body"].read(), got["SSEKMSKeyId"]) == (body, "aws/s3")
    (tmp_path / "file").write_bytes(body)
    s3.upload_file(str(tmp_path / "file"), bucket, "file", ExtraArgs=kms(key))
    s3.download_file(bucket, "file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == body
    assert s3.head_object(Bucket=bucket, Key="file")["SSEKMSKeyId"] == key
    assert cluster.json("kms", "key", "show", key)["versions"][0]["version"] == 1


def test_the_life_of_a_key(cluster, bucket, key):
    s3 = cluster.s3()

    def read():
        return code_of(s3.get_object, Bucket=bucket, Key="old")

    s3.put_object(Bucket=bucket, Key="old", Body=b"old", **kms(key))
    assert cluster.json("kms", "key", "rotate", key)["version"] == 2
    time.sleep(BELIEVED_SECONDS + 0.5)
    s3.put_object(Bucket=bucket, Key="new", Body=b"new", **kms(key))
    shown = cluster.json("kms", "key", "show", key)
    assert [version["version"] for version in shown["versions"]] == [1, 2]
    assert s3.get_object(Bucket=bucket, Key="old")["Body"].read() == b"old"
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"new"

    assert cluster.json("kms", "key", "disable", key)["state"] == "disabled"
    becomes("KMS.DisabledException", read)
    refused("KMS.DisabledException", s3.put_object, Bucket=bucket, Key="no", Body=b"", **kms(key))
    assert s3.head_object(Bucket=bucket, Key="old")["SSEKMSKeyId"] == key
    assert cluster.store("kms", "key", "rotate", key, check=False).returncode == 1
    cluster.store("kms", "key", "enable", key)
    becomes(None, read)

    assert cluster.store("kms", "key", "delete", key, "--days", "7", check=False).returncode == 4
    assert cluster.store("kms", "key", "delete", key, "--days", "6", check=False).returncode == 2
    leaving = cluster.json("kms", "key", "delete", key, "--days", "7", "--yes-i-really-mean-it")
    assert leaving["state"] == "pending-deletion"
    assert abs(leaving["delete_at"] - time.time() - 7 * 86_400) < 60
    becomes("KMS.KMSInvalidStateException", read)
    assert cluster.json("kms", "key", "undelete", key)["state"] == "disabled"
    cluster.store("kms", "key", "enable", key)
    becomes(None, read)


def test_words_of_the_command_line(cluster, key):
    unnamed = cluster.json("kms", "key", "create")["id"]
    assert uuid.UUID(unnamed).version == 4
    listed = {row["id"]: row["state"] for row in cluster.json("kms", "key", "ls")}
    assert listed[key] == listed[unnamed] == "enabled"
    assert key in cluster.store("kms", "key", "ls").stdout.decode()
    assert cluster.store("kms", "key", "create", key, check=False).returncode == 1
    assert cluster.store("kms", "key", "create", "a b", check=False).returncode == 2
    for verb in ("show", "enable", "rotate"):
        assert cluster.store("kms", "key", verb, "none", check=False).returncode == 3


def test_defaults_of_buckets_and_their_rotation(cluster, bucket, key):
    s3 = cluster.s3()
    assert cluster.store("kms", "rotate", bucket, check=False).returncode == 1
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    time.sleep(1.5)
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x")["SSEKMSKeyId"] == key
    rotated = cluster.json("kms", "rotate", bucket)
    assert (rotated["id"], rotated["version"]) == (key, 2)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    refused("KMS.NotFoundException", s3.put_object, Bucket=bucket, Key="k", Body=b"", **kms("none"))
    refused("NotImplemented", s3.put_object, Bucket=bucket, Key="k", Body=b"", ServerSideEncryption="aws:kms:dsse")


def admin(cluster, method, path, document=None, bearer=None):
    """A call of the admin port, signed as administrators sign."""
    body = json.dumps(document).encode() if document is not None else b""
    request = AWSRequest(method, cluster.env["STORE_ADMIN_ENDPOINT"] + path, data=body)
    if bearer:
        request.headers["Authorization"] = f"Bearer {bearer}"
    else:
        keys = Credentials(cluster.env["AWS_ACCESS_KEY_ID"], cluster.env["AWS_SECRET_ACCESS_KEY"])
        S3SigV4Auth(keys, "s3", cluster.env["AWS_DEFAULT_REGION"]).add_auth(request)
    prepared = request.prepare()
    call = urllib.request.Request(prepared.url, body or None, dict(prepared.headers.items()), method=method)
    try:
        with urllib.request.urlopen(call, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_admin_port(cluster, bucket):
    s3 = cluster.s3()
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="AES256")
    before = admin(cluster, "GET", "/encryption/keys")[1]["output"]
    status, rotated = admin(cluster, "POST", "/encryption/rotate")
    assert status == 200
    assert [key["version"] for key in rotated["output"]] == [*(key["version"] for key in before), len(before) + 1]
    assert cluster.json("kms", "ls")["version"] == len(before) + 1
    # The command line asks for one, and the gateway makes it when it looks.
    assert cluster.json("kms", "rotate")["version"] == len(before) + 2
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"

    name = f"admin-{uuid.uuid4()}"
    status, made = admin(cluster, "POST", "/kms/keys", {"action": "create", "id": name})
    assert (status, made["output"]["state"]) == (200, "enabled")
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x", **kms(name))["SSEKMSKeyId"] == name
    assert admin(cluster, "POST", "/kms/keys", {"action": "create", "id": name})[0] == 409
    assert admin(cluster, "POST", "/kms/keys", {"action": "disable", "id": name})[1]["output"]["state"] == "disabled"
    assert admin(cluster, "GET", f"/kms/keys?id={name}")[1]["output"] == cluster.json("kms", "key", "show", name)
    assert name in [key["id"] for key in admin(cluster, "GET", "/kms/keys")[1]["output"]]
    assert admin(cluster, "GET", "/kms/keys?id=none")[0] == 404
    assert admin(cluster, "POST", "/kms/keys", {"action": "burn", "id": name})[0] == 400
    assert admin(cluster, "DELETE", "/kms/keys")[0] == 405
    assert admin(cluster, "GET", "/kms/keys", bearer="a.20260101.b")[0] == 403


def test_keys_outlive_a_restart_and_disks_tell_none(make_cluster):
    cluster = make_cluster().up()
    cluster.store("kms", "key", "create", "testkey-1")
    s3 = cluster.s3()
    s3.create_bucket(Bucket="sealed")
    mark = os.urandom(16).hex().encode() * 2
    s3.put_object(Bucket="sealed", Key="k", Body=mark * 1000, **kms("testkey-1"))
    assert cluster.stop() == 0
    assert not on_disk(cluster, mark)
    s3 = cluster.up().s3()
    assert s3.get_object(Bucket="sealed", Key="k")["Body"].read() == mark * 1000
    assert cluster.json("kms", "key", "show", "testkey-1")["state"] == "enabled"
