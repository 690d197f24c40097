"""Encryption, uploads by forms, websites and access logs, as boto3, browsers and curl use them."""

import base64
import hashlib
import http.client
import json
import os
import time
import urllib.parse
import uuid

import pytest
from botocore.exceptions import ClientError

MIB = 1 << 20
KEY = bytes(range(32))
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
OTHER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY[::-1]}


def refused(expected, call, **arguments):
    with pytest.raises(ClientError) as e:
        call(**arguments)
    error = e.value.response
    assert expected in (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]), error


def ask(cluster, method, path, host=None, body=b"", headers=None):
    """A request without a signature, as it is."""
    where = urllib.parse.urlsplit(cluster.env["AWS_ENDPOINT_URL"])
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    connection.request(method, path, body, {**({"Host": host} if host else {}), **(headers or {})})
    answer = connection.getresponse()
    return answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), answer.read()


def encrypt_by_default(s3, bucket):
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})


def on_disk(cluster, wanted):
    """Whether these bytes lie in any file of the cluster."""
    for path in cluster.dir.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                tail = b""
                while piece := file.read(8 * MIB):
                    if wanted in tail + piece:
                        return True
                    tail = piece[-len(wanted):]
    return False


@pytest.mark.parametrize("size", [0, 1, 30_000, 100_000, 9 * MIB + 5])
def test_bodies_under_either_key(cluster, bucket, size):
    s3 = cluster.s3()
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="s3", Body=body, ServerSideEncryption="AES256")
    assert put["ServerSideEncryption"] == "AES256"
    assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    put = s3.put_object(Bucket=bucket, Key="c", Body=body, **CUSTOMER)
    assert put["ETag"].strip('"') != hashlib.md5(body).hexdigest()
    for key, extra in [("s3", {}), ("c", CUSTOMER)]:
        assert s3.get_object(Bucket=bucket, Key=key, **extra)["Body"].read() == body
        assert s3.head_object(Bucket=bucket, Key=key, **extra)["ContentLength"] == size
        if size > 10:
            span = f"bytes={size // 3}-{size - 3}"
            part = s3.get_object(Bucket=bucket, Key=key, Range=span, **extra)
            assert part["Body"].read() == body[size // 3:size - 2]
    assert [o["Size"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [size, size]
    for extra in ({}, OTHER):
        refused(400, s3.get_object, Bucket=bucket, Key="c", **extra)
        refused(400, s3.head_object, Bucket=bucket, Key="c", **extra)
    source = {f"CopySource{name}": value for name, value in CUSTOMER.items()}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/c", **source, **OTHER)
    assert s3.get_object(Bucket=bucket, Key="copy", **OTHER)["Body"].read() == body
    refused(400, s3.copy_object, Bucket=bucket, Key="no", CopySource=f"{bucket}/c")


def test_large_uploads_in_parts(cluster, bucket, tmp_path):
    s3 = cluster.s3()
    encrypt_by_default(s3, bucket)
    body = os.urandom(21 * MIB + 7)
    (tmp_path / "file").write_bytes(body)
    for key, extra in [("s3", {}), ("c", CUSTOMER)]:
        s3.upload_file(str(tmp_path / "file"), bucket, key, ExtraArgs=extra)
        assert "-" in s3.head_object(Bucket=bucket, Key=key, **extra)["ETag"]
        s3.download_file(bucket, key, str(tmp_path / "back"), ExtraArgs=extra)
        assert (tmp_path / "back").read_bytes() == body
    assert s3.head_object(Bucket=bucket, Key="s3")["ServerSideEncryption"] == "AES256"


def test_disks_tell_nothing_and_restarts_lose_no_key(make_cluster):
    cluster = make_cluster().up()
    s3 = cluster.s3()
    s3.create_bucket(Bucket="open")
    s3.create_bucket(Bucket="sealed")
    encrypt_by_default(s3, "sealed")
    marks = {}
    for bucket in ("open", "sealed"):
        for size in (200, 2 * MIB):
            mark = os.urandom(16).hex().encode() * 2
            marks[bucket, size] = mark
            s3.put_object(Bucket=bucket, Key=str(size), Body=mark * (size // len(mark)))
    assert cluster.stop() == 0
    for (bucket, size), mark in marks.items():
        assert on_disk(cluster, mark) == (bucket == "open"), (bucket, size)
    s3 = cluster.up().s3()
    for (bucket, size), mark in marks.items():
        got = s3.get_object(Bucket=bucket, Key=str(size))["Body"].read()
        assert got == mark * (size // len(mark))


def test_defaults_of_buckets_and_what_is_not_there(cluster, bucket):
    s3 = cluster.s3()
    refused("ServerSideEncryptionConfigurationNotFoundError", s3.get_bucket_encryption, Bucket=bucket)
    encrypt_by_default(s3, bucket)
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ServerSideEncryption"] == "AES256"
    s3.delete_bucket_encryption(Bucket=bucket)
    assert "ServerSideEncryption" not in s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    two_layers = "aws:kms:dsse"
    refused("NotImplemented", s3.put_object, Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption=two_layers)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": two_layers}}
    refused("NotImplemented", s3.put_bucket_encryption, Bucket=bucket,
            ServerSideEncryptionConfiguration={"Rules": [rule]})


def post(cluster, form, body):
    """A form as a browser sends it."""
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
             for name, value in form["fields"].items()]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
                 f'Content-Type: application/octet-stream\r\n\r\n'.encode() + body + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    path = urllib.parse.urlsplit(form["url"]).path
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return ask(cluster, "POST", path, body=b"".join(parts), headers=kind)


def test_forms_that_boto3_signs(cluster, bucket):
    s3 = cluster.s3(signature_version="s3v4")
    body = os.urandom(3 * MIB)
    digest = base64.b64encode(hashlib.md5(KEY).digest()).decode()
    extra = {"Content-Type": "text/x-test", "x-amz-meta-a": "1", "success_action_status": "201",
             "x-amz-server-side-encryption-customer-algorithm": "AES256",
             "x-amz-server-side-encryption-customer-key": base64.b64encode(KEY).decode(),
             "x-amz-server-side-encryption-customer-key-MD5": digest}
    form = s3.generate_presigned_post(
        bucket, "up/${filename}", Fields=extra,
        Conditions=[{name: value} for name, value in extra.items()] + [["content-length-range", 1, len(body)]])
    status, headers, text = post(cluster, form, body)
    assert status == 201 and b"<Key>up/f.bin</Key>" in text, text
    got = s3.get_object(Bucket=bucket, Key="up/f.bin", **CUSTOMER)
    assert got["Body"].read() == body and got["ContentType"] == "text/x-test" and got["Metadata"] == {"a": "1"}
    status, _, text = post(cluster, form, body + b"x")
    assert status == 400 and b"EntityTooLarge" in text
    form["fields"]["x-amz-meta-a"] = "2"
    status, _, text = post(cluster, form, body)
    assert status == 403 and b"AccessDenied" in text


def test_a_website(cluster, bucket):
    s3 = cluster.s3()
    site = f"{bucket}.web.localhost"
    assert ask(cluster, "GET", "/", site)[0] == 404
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration={
        "IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"},
        "RoutingRules": [{"Condition": {"KeyPrefixEquals": "old/"},
                          "Redirect": {"ReplaceKeyPrefixWith": "docs/"}}]})
    for key in ("index.html", "docs/index.html", "error.html"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), ContentType="text/html", ACL="public-read")
    s3.put_object(Bucket=bucket, Key="secret", Body=b"secret")
    for path, status, body in [("/", 200, b"index.html"), ("/docs/", 200, b"docs/index.html"),
                               ("/none", 403, b"error.html"), ("/secret", 403, b"error.html")]:
        answer = ask(cluster, "GET", path, site)
        assert (answer[0], answer[2]) == (status, body), path
    assert ask(cluster, "GET", "/docs", site)[1]["location"] == "/docs/"
    status, headers, _ = ask(cluster, "GET", "/old/x", site)
    assert (status, headers["location"]) == (301, f"http://{site}/docs/x")
    assert ask(cluster, "PUT", "/x", site, b"x")[0] == 405
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert ask(cluster, "GET", "/none", site)[0] == 404


def test_access_logs_are_delivered(make_cluster):
    cluster = make_cluster().up()
    s3 = cluster.s3()
    for bucket in ("source", "logs"):
        s3.create_bucket(Bucket=bucket)
    owner = s3.get_bucket_acl(Bucket="source")["Owner"]["ID"]
    target = {"LoggingEnabled": {"TargetBucket": "logs", "TargetPrefix": "of-source/"}}
    refused("AccessDenied", s3.put_bucket_logging, Bucket="source", BucketLoggingStatus=target)
    s3.put_bucket_policy(Bucket="logs", Policy=json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::logs/of-source/*",
        "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::source"},
                      "StringEquals": {"aws:SourceAccount": owner}}}]}))
    s3.put_bucket_logging(Bucket="source", BucketLoggingStatus=target)
    # Another thread of the gateway hears of it within a second.
    time.sleep(1.5)
    for n in range(20):
        s3.put_object(Bucket="source", Key=f"k{n}", Body=b"hello")
    assert ask(cluster, "GET", "/source/k0")[0] == 403
    # An ordered end delivers what is collected.
    assert cluster.stop() == 0
    s3 = cluster.up().s3()
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket="logs", Prefix="of-source/")["Contents"]]
    lines = [line for key in keys
             for line in s3.get_object(Bucket="logs", Key=key)["Body"].read().decode().splitlines()]
    for n in range(20):
        assert sum(f" REST.PUT.OBJECT k{n} " in line for line in lines) == 1, lines
    denied = [line for line in lines if " 403 AccessDenied " in line]
    assert len(denied) == 1 and " - " in denied[0], lines
