"""S3 as boto3 uses it: every call of the first issue, with its errors."""

import base64
import hashlib
import os
import urllib.error
import urllib.request
import zlib

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1 << 20


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_buckets(cluster):
    s3 = cluster.s3()
    s3.create_bucket(Bucket="made")
    assert "made" in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    s3.head_bucket(Bucket="made")
    assert s3.get_bucket_location(Bucket="made")["LocationConstraint"] in (None, "", cluster.env["AWS_DEFAULT_REGION"])
    s3.put_object(Bucket="made", Key="x", Body=b"")
    with pytest.raises(ClientError) as e:
        s3.delete_bucket(Bucket="made")
    assert code(e) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="made", Key="x")
    s3.delete_bucket(Bucket="made")
    with pytest.raises(ClientError) as e:
        s3.list_objects_v2(Bucket="made")
    assert code(e) == ("NoSuchBucket", 404)
    for name in ("UPPER", "a..b", "192.168.1.1"):
        with pytest.raises(Exception):
            s3.create_bucket(Bucket=name)


@pytest.mark.parametrize("size", [0, 1, 4096, 32 << 10, (32 << 10) + 1, 64 << 10, MIB, 5 * MIB + 3])
def test_put_and_get_of_every_size(cluster, bucket, size):
    s3 = cluster.s3()
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, Metadata={"a": "b"}, ContentType="text/x",
                        CacheControl="no-store", ContentDisposition="inline", ContentEncoding="x",
                        ContentLanguage="de")
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="k")
    for answer in (got, head):
        assert answer["ContentLength"] == size
        assert answer["Metadata"] == {"a": "b"}
        assert (answer["ContentType"], answer["CacheControl"], answer["ContentDisposition"],
                answer["ContentEncoding"], answer["ContentLanguage"]) == ("text/x", "no-store", "inline", "x", "de")
    if size > 10:
        ranged = lambda r: s3.get_object(Bucket=bucket, Key="k", Range=r)["Body"].read()
        assert ranged("bytes=3-9") == body[3:10]
        assert ranged("bytes=-7") == body[-7:]
        assert ranged(f"bytes={size - 2}-") == body[-2:]
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={size}-{size + 5}")
    assert code(e) == ("InvalidRange", 416)


def test_conditions(cluster, bucket):
    s3 = cluster.s3()
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert code(e)[1] == 304
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", IfMatch='"0"')
    assert code(e) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert code(e) == ("PreconditionFailed", 412)
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=etag)
    assert code(e) == ("PreconditionFailed", 412)
    s3.put_object(Bucket=bucket, Key="new", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="absent")
    assert code(e) == ("NoSuchKey", 404)


def test_odd_keys_come_back_as_they_are(cluster, bucket):
    s3 = cluster.s3()
    keys = sorted(["a b", "a+b", "ä/ö", "a//b", "a/./b", "a/../b", "/x", "x/", "%41", "q?x=y", "h#f", "😀",
                   "a" * 1024, "t\tb", "<&>\"'", "~", "..", "."])
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    listed = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(keys, key=lambda k: k.encode())
    for key in keys:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="a" * 1025, Body=b"")
    assert code(e)[0] == "KeyTooLongError"


def test_listings(cluster, bucket):
    s3 = cluster.s3()
    keys = sorted(f"{d}/{i:03}" for d in ("a", "b", "b/c", "d") for i in range(30)) + ["top"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    for version in ("list_objects", "list_objects_v2"):
        for page_size in (1000, 7, 1):
            if page_size == 1 and version == "list_objects":
                continue
            pages = s3.get_paginator(version).paginate(Bucket=bucket, PaginationConfig={"PageSize": page_size})
            assert [o["Key"] for p in pages for o in p.get("Contents", [])] == sorted(keys)
        for page_size in (1000, 1):
            pages = list(s3.get_paginator(version).paginate(
                Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": page_size}))
            assert [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])] == ["a/", "b/", "d/"]
            assert [o["Key"] for p in pages for o in p.get("Contents", [])] == ["top"]
    got = s3.list_objects_v2(Bucket=bucket, Prefix="b/", Delimiter="/")
    assert [c["Prefix"] for c in got["CommonPrefixes"]] == ["b/c/"]
    assert got["KeyCount"] == 31 and not got["IsTruncated"]
    got = s3.list_objects_v2(Bucket=bucket, StartAfter="d/028")
    assert [o["Key"] for o in got["Contents"]] == ["d/029", "top"]
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0
    with pytest.raises(ClientError) as e:
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="garbage!")
    assert code(e) == ("InvalidArgument", 400)


def test_delete_one_and_many(cluster, bucket):
    s3 = cluster.s3()
    for i in range(20):
        s3.put_object(Bucket=bucket, Key=f"k{i}", Body=b"x" * (i * 10_000))
    s3.delete_object(Bucket=bucket, Key="k0")
    s3.delete_object(Bucket=bucket, Key="absent")
    gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"k{i}"} for i in range(1, 20)]})
    assert len(gone["Deleted"]) == 19 and not gone.get("Errors")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_copy(cluster, bucket):
    s3 = cluster.s3()
    for size in (100, 9 * MIB):
        body = os.urandom(size)
        s3.put_object(Bucket=bucket, Key="from ä", Body=body, Metadata={"a": "b"}, ContentType="text/x")
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from ä"})
        got = s3.get_object(Bucket=bucket, Key="to")
        assert got["Body"].read() == body and got["Metadata"] == {"a": "b"} and got["ContentType"] == "text/x"
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from ä"},
                       MetadataDirective="REPLACE", Metadata={"c": "d"})
        assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"c": "d"}
        s3.delete_object(Bucket=bucket, Key="from ä")
        assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == body
    with pytest.raises(ClientError) as e:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "to"})
    assert code(e) == ("InvalidRequest", 400)
    with pytest.raises(ClientError) as e:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "absent"})
    assert code(e) == ("NoSuchKey", 404)


def test_multipart(cluster, bucket):
    s3 = cluster.s3()
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m", Metadata={"a": "b"}, ContentType="text/x")["UploadId"]
    parts = [os.urandom(5 * MIB), os.urandom(6 * MIB + 1), os.urandom(10)]
    done = []
    for number, body in enumerate(parts, 1):
        etag = s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        done.append({"PartNumber": number, "ETag": etag})
    assert [p["Size"] for p in s3.list_parts(Bucket=bucket, Key="m", UploadId=upload)["Parts"]] == [len(p) for p in parts]
    assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["m"]
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="m")
    assert code(e)[0] == "NoSuchKey"
    finish = lambda parts: s3.complete_multipart_upload(
        Bucket=bucket, Key="m", UploadId=upload, MultipartUpload={"Parts": parts})
    with pytest.raises(ClientError) as e:
        finish([done[1], done[0]])
    assert code(e) == ("InvalidPartOrder", 400)
    with pytest.raises(ClientError) as e:
        finish([{"PartNumber": 9, "ETag": done[0]["ETag"]}])
    assert code(e) == ("InvalidPart", 400)
    with pytest.raises(ClientError) as e:
        finish([done[2], ] if False else [{**done[0]}, {"PartNumber": 2, "ETag": '"' + "0" * 32 + '"'}])
    assert code(e) == ("InvalidPart", 400)
    digest = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()
    assert finish(done)["ETag"] == f'"{digest}-3"'
    got = s3.get_object(Bucket=bucket, Key="m")
    assert got["Body"].read() == b"".join(parts) and got["Metadata"] == {"a": "b"}
    whole = b"".join(parts)
    at = 5 * MIB - 3
    assert s3.get_object(Bucket=bucket, Key="m", Range=f"bytes={at}-{at + 9}")["Body"].read() == whole[at:at + 10]
    with pytest.raises(ClientError) as e:
        s3.upload_part(Bucket=bucket, Key="m", UploadId="unknown", PartNumber=1, Body=b"x")
    assert code(e) == ("NoSuchUpload", 404)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="n")["UploadId"]
    copied = s3.upload_part_copy(Bucket=bucket, Key="n", UploadId=upload, PartNumber=1,
                                 CopySource={"Bucket": bucket, "Key": "m"}, CopySourceRange=f"bytes=1-{6 * MIB}")
    s3.complete_multipart_upload(Bucket=bucket, Key="n", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]})
    assert s3.get_object(Bucket=bucket, Key="n")["Body"].read() == whole[1:6 * MIB + 1]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="o")["UploadId"]
    small = [{"PartNumber": i, "ETag": s3.upload_part(Bucket=bucket, Key="o", UploadId=upload, PartNumber=i,
                                                      Body=b"x")["ETag"]} for i in (1, 2)]
    with pytest.raises(ClientError) as e:
        s3.complete_multipart_upload(Bucket=bucket, Key="o", UploadId=upload, MultipartUpload={"Parts": small})
    assert code(e) == ("EntityTooSmall", 400)
    s3.abort_multipart_upload(Bucket=bucket, Key="o", UploadId=upload)
    assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads")


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums(cluster, bucket, algorithm):
    s3 = cluster.s3()
    body = os.urandom(100_000)
    s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    value = {"CRC32": zlib.crc32(body).to_bytes(4, "big"), "SHA1": hashlib.sha1(body).digest(),
             "SHA256": hashlib.sha256(body).digest()}[algorithm]
    assert got[f"Checksum{algorithm}"] == base64.b64encode(value).decode()
    assert got["Body"].read() == body
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="k", Body=body, ContentMD5=base64.b64encode(b"0" * 16).decode())
    assert code(e) == ("BadDigest", 400)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_presigned_urls(cluster, bucket):
    s3 = cluster.s3(signature_version="s3v4")
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "p q"}, ExpiresIn=60)
    urllib.request.urlopen(urllib.request.Request(url, data=b"body", method="PUT"))
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "p q"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"body"
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(url[:-4] + "0000")
    assert e.value.code == 403 and b"SignatureDoesNotMatch" in e.value.read()


def test_wrong_keys_are_refused(cluster, bucket):
    def client(key, secret):
        return boto3.client("s3", endpoint_url=cluster.env["AWS_ENDPOINT_URL"], region_name="us-east-1",
                            aws_access_key_id=key, aws_secret_access_key=secret, config=Config())
    with pytest.raises(ClientError) as e:
        client("UNKNOWNKEY", "x").list_buckets()
    assert code(e) == ("InvalidAccessKeyId", 403)
    with pytest.raises(ClientError) as e:
        client(cluster.env["AWS_ACCESS_KEY_ID"], "wrong").list_buckets()
    assert code(e) == ("SignatureDoesNotMatch", 403)
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(f"{cluster.env['AWS_ENDPOINT_URL']}/{bucket}/k")
    assert e.value.code == 403 and b"AccessDenied" in e.value.read()


def test_another_users_bucket_is_closed(cluster, bucket):
    made = cluster.json("user", "create", "guest")
    keys = made["keys"][0]
    guest = boto3.client("s3", endpoint_url=cluster.env["AWS_ENDPOINT_URL"], region_name="us-east-1",
                         aws_access_key_id=keys["access_key"], aws_secret_access_key=keys["secret_key"])
    for call in (lambda: guest.list_objects_v2(Bucket=bucket),
                 lambda: guest.put_object(Bucket=bucket, Key="x", Body=b""),
                 lambda: guest.delete_bucket(Bucket=bucket)):
        with pytest.raises(ClientError) as e:
            call()
        assert code(e) == ("AccessDenied", 403)
    guest.create_bucket(Bucket="of-guest")
    assert [b["Name"] for b in guest.list_buckets()["Buckets"]] == ["of-guest"]
    cluster.store("user", "rm", "guest", "--yes-i-really-mean-it", check=False)


def test_hostile_requests_get_an_answer(cluster):
    import socket
    host, port = cluster.env["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    for raw in (b"GET / HTTP/1.1\r\n\r\n", b"\0\1\2\3\r\n\r\n", b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
                b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 \xff=\r\n\r\n",
                b"GET /?list-type=2&x=%00 HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as s:
            s.sendall(raw)
            s.shutdown(socket.SHUT_WR)
            answer = s.recv(65536)
            # The last one is only long: nobody asks for the list of nobody's buckets, which is empty.
            allowed = (b"HTTP/1.1 4", b"HTTP/1.1 200") if b"list-type" in raw else (b"HTTP/1.1 4",)
            assert answer == b"" or answer.startswith(allowed), (raw, answer)
    assert cluster.json("status")["health"]["status"] == "HEALTH_OK"
