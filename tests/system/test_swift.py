"""Swift as python-swiftclient uses it, beside S3."""

import hashlib
import io
import json
import os
import tarfile
import time

import pytest
from swiftclient.client import Connection
from swiftclient.exceptions import ClientException
from swiftclient.utils import generate_temp_url

MIB = 1 << 20


@pytest.fixture
def swift(cluster):
    """A connection of the user whose key store.env has."""
    return Connection(authurl=cluster.env["ST_AUTH"], user=cluster.env["ST_USER"],
                      key=cluster.env["ST_KEY"], auth_version="1", retries=1)


@pytest.fixture
def container(swift, request):
    """A container of the test's own."""
    name = request.node.name.replace("[", "-").replace("]", "")
    swift.put_container(name)
    return name


def status(error):
    return error.value.http_status


def test_capabilities_and_wrong_keys(cluster, swift):
    assert swift.get_capabilities()["swift"]["container_listing_limit"] == 10000
    wrong = Connection(authurl=cluster.env["AWS_ENDPOINT_URL"] + "/auth/v1.0", retries=0,
                       user=cluster.env["AWS_ACCESS_KEY_ID"], key="wrong", auth_version="1")
    with pytest.raises(ClientException):
        wrong.get_account()


def test_account_and_container_metadata(swift, container):
    swift.post_account({"X-Account-Meta-Color": "red"})
    assert swift.head_account()["x-account-meta-color"] == "red"
    swift.post_account({"X-Remove-Account-Meta-Color": "x"})
    assert "x-account-meta-color" not in swift.head_account()
    swift.post_container(container, {"X-Container-Meta-Size": "3"})
    head = swift.head_container(container)
    assert head["x-container-meta-size"] == "3"
    assert head["x-container-object-count"] == "0"
    assert container in [c["name"] for c in swift.get_account(full_listing=True)[1]]


def test_members_share_an_account(cluster):
    def member(name, *words):
        made = cluster.json("user", "create", name, "--account", "team", "--swift", *words)
        assert made["st_user"] == f"team:{name}" and made["account"] == "team"
        return Connection(authurl=cluster.env["ST_AUTH"], user=made["st_user"], key=made["st_key"],
                          auth_version="1", retries=1)

    ann, ben = member("ann"), member("ben")
    guest = member("guest", "--access", "none")
    ann.put_container("plans")
    ann.put_object("plans", "a", b"of ann")
    assert ben.get_object("plans", "a")[1] == b"of ann"
    with pytest.raises(ClientException) as e:
        guest.get_object("plans", "a")
    assert status(e) == 403
    ben.post_container("plans", {"X-Container-Read": "team:guest"})
    assert guest.get_object("plans", "a")[1] == b"of ann"
    with pytest.raises(ClientException) as e:
        guest.put_object("plans", "b", b"")
    assert status(e) == 403
    for name in ("ann", "ben", "guest"):
        cluster.store("user", "rm", f"team:{name}", "--yes-i-really-mean-it", check=False)


@pytest.mark.parametrize("size", [0, 1, 32 << 10, (32 << 10) + 1, MIB, 5 * MIB + 3])
def test_put_and_get_of_every_size(swift, container, size):
    body = os.urandom(size)
    etag = swift.put_object(container, "k", body, content_type="text/x", headers={"X-Object-Meta-A": "b"})
    assert etag == hashlib.md5(body).hexdigest()
    headers, got = swift.get_object(container, "k")
    assert got == body
    assert (headers["content-type"], headers["x-object-meta-a"]) == ("text/x", "b")
    # Without a length the client sends chunks.
    pieces = iter([body[at:at + 100_000] for at in range(0, size, 100_000)] or [b""])
    assert swift.put_object(container, "l", pieces) == etag
    assert swift.get_object(container, "l")[1] == body
    if size > 10:
        assert swift.get_object(container, "k", headers={"Range": "bytes=3-9"})[1] == body[3:10]


def test_listings(swift, container):
    for key in ("a", "d/1", "d/2", "d/e/3", "z"):
        swift.put_object(container, key, key)
    names = lambda **how: [o.get("name", o.get("subdir")) for o in swift.get_container(container, **how)[1]]
    assert names() == ["a", "d/1", "d/2", "d/e/3", "z"]
    assert names(delimiter="/") == ["a", "d/", "z"]
    assert names(prefix="d/", delimiter="/") == ["d/1", "d/2", "d/e/"]
    assert names(path="d") == ["d/1", "d/2"]
    assert names(marker="d/1", end_marker="z") == ["d/2", "d/e/3"]
    assert names(limit=2, full_listing=True) == ["a", "d/1", "d/2", "d/e/3", "z"]
    with pytest.raises(ClientException) as e:
        swift.delete_container(container)
    assert status(e) == 409


def test_post_copy_and_delete(swift, container):
    swift.put_object(container, "k", b"body", headers={"X-Object-Meta-A": "1"})
    swift.post_object(container, "k", {"X-Object-Meta-B": "2"})
    head = swift.head_object(container, "k")
    assert head["x-object-meta-b"] == "2" and "x-object-meta-a" not in head
    swift.copy_object(container, "k", destination=f"/{container}/copy")
    headers, body = swift.get_object(container, "copy")
    assert body == b"body" and headers["x-object-meta-b"] == "2"
    swift.delete_object(container, "k")
    with pytest.raises(ClientException) as e:
        swift.head_object(container, "k")
    assert status(e) == 404
    with pytest.raises(ClientException) as e:
        swift.put_object(container, "k", b"body", etag="0" * 32)
    assert status(e) == 422


def test_both_protocols_see_the_same(cluster, swift, bucket):
    s3 = cluster.s3()
    s3.put_object(Bucket=bucket, Key="s3", Body=b"over s3", Metadata={"color": "red"})
    headers, body = swift.get_object(bucket, "s3")
    assert body == b"over s3" and headers["x-object-meta-color"] == "red"
    swift.put_object(bucket, "swift", b"over swift", headers={"X-Object-Meta-Color": "blue"})
    got = s3.get_object(Bucket=bucket, Key="swift")
    assert got["Body"].read() == b"over swift" and got["Metadata"] == {"color": "blue"}
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["s3", "swift"]


def http(cluster, method, path, headers=None, body=None):
    """One request without a token."""
    import http.client
    import urllib.parse
    at = urllib.parse.urlsplit(cluster.env["AWS_ENDPOINT_URL"])
    connection = http.client.HTTPConnection(at.hostname, at.port)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


def account_path(swift):
    """`/v1/AUTH_…`"""
    import urllib.parse
    return urllib.parse.urlsplit(swift.get_auth()[0]).path


def test_static_large_objects_over_both(cluster, swift, bucket):
    s3 = cluster.s3()
    parts = {f"seg/{n}": os.urandom(size) for n, size in enumerate((MIB, 10, 5 * MIB + 7))}
    for key, body in parts.items():
        swift.put_object(bucket, key, body)
    whole = b"".join(parts.values())
    manifest = json.dumps([{"path": f"/{bucket}/{key}"} for key in parts])
    swift.put_object(bucket, "large", manifest, query_string="multipart-manifest=put")
    headers, got = swift.get_object(bucket, "large")
    assert got == whole and headers["x-static-large-object"] == "True"
    assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == whole
    for first, last in ((0, 0), (MIB - 3, MIB + 20), (MIB + 5, len(whole) - 1)):
        asked = f"bytes={first}-{last}"
        assert swift.get_object(bucket, "large", headers={"Range": asked})[1] == whole[first:last + 1]
        got = s3.get_object(Bucket=bucket, Key="large", Range=asked)["Body"].read()
        assert got == whole[first:last + 1]
    listed = {o["name"]: o for o in swift.get_container(bucket)[1]}
    assert listed["large"]["bytes"] == len(whole) and "slo_etag" in listed["large"]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "large"})
    assert "x-static-large-object" not in swift.head_object(bucket, "copy")
    assert swift.get_object(bucket, "copy")[1] == whole
    swift.delete_object(bucket, "large", query_string="multipart-manifest=delete")
    assert [o["name"] for o in swift.get_container(bucket)[1]] == ["copy"]


def test_dynamic_large_objects_and_links(cluster, swift, container):
    for name in ("p/1", "p/2"):
        swift.put_object(container, name, name)
    swift.put_object(container, "d", b"", headers={"X-Object-Manifest": f"{container}/p/"})
    assert swift.get_object(container, "d")[1] == b"p/1p/2"
    swift.put_object(container, "link", b"", headers={"X-Symlink-Target": f"{container}/d"})
    assert swift.get_object(container, "link")[1] == b"p/1p/2"
    assert swift.head_object(container, "link", query_string="symlink=get")["content-length"] == "0"


def test_parts_of_s3_are_plain_bytes_to_swift(cluster, swift, bucket):
    s3 = cluster.s3()
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ContentType="text/x")["UploadId"]
    bodies = [os.urandom(5 * MIB), os.urandom(100)]
    done = []
    for number, body in enumerate(bodies, 1):
        tag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        done.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": done})
    headers, got = swift.get_object(bucket, "k")
    assert got == b"".join(bodies) and headers["content-type"] == "text/x"
    assert swift.get_container(bucket)[1][0]["content_type"] == "text/x"


def test_versions_over_both(cluster, swift, bucket):
    s3 = cluster.s3()
    swift.post_container(bucket, {"X-Versions-Enabled": "true"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first = {}
    swift.put_object(bucket, "k", b"first", response_dict=first)
    first = first["headers"]["x-object-version-id"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"second")["VersionId"]
    for version, body in ((first, b"first"), (second, b"second")):
        assert swift.get_object(bucket, "k", query_string=f"version-id={version}")[1] == body
        assert s3.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read() == body
    swift.delete_object(bucket, "k")
    listed = swift.get_container(bucket, query_string="versions=true")[1]
    assert [o["version_id"] for o in listed][1:] == [second, first]
    assert listed[0]["content_type"].startswith("application/x-deleted")


def test_acls_over_both(cluster, swift, bucket):
    s3 = cluster.s3()
    path = f"{account_path(swift)}/{bucket}/k"
    swift.put_object(bucket, "k", b"body")
    assert http(cluster, "GET", path)[0] == 401
    assert http(cluster, "GET", f"/{bucket}/k")[0] == 403
    swift.post_container(bucket, {"X-Container-Read": ".r:*"})
    assert http(cluster, "GET", path)[:2] == (200, b"body")
    assert http(cluster, "GET", f"/{bucket}/k")[:2] == (200, b"body")
    assert http(cluster, "GET", f"/{bucket}")[0] == 403
    swift.post_container(bucket, {"X-Container-Read": ""})
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="public-read")
    assert http(cluster, "GET", path)[:2] == (200, b"body")


def test_signed_urls(cluster, swift, container):
    swift.put_object(container, "k", b"body")
    swift.post_account({"X-Account-Meta-Temp-URL-Key": "secret"})
    path = f"{account_path(swift)}/{container}/k"
    url = generate_temp_url(path, 60, "secret", "GET")
    status, body, headers = http(cluster, "GET", url)
    assert (status, body) == (200, b"body") and "attachment" in headers["content-disposition"]
    assert http(cluster, "PUT", url, body=b"x")[0] == 401
    url = generate_temp_url(path, 60, "secret", "PUT")
    assert http(cluster, "PUT", url, body=b"other")[0] == 201
    assert swift.get_object(container, "k")[1] == b"other"
    swift.post_account({"X-Remove-Account-Meta-Temp-URL-Key": "x"})
    assert http(cluster, "PUT", url, body=b"late")[0] == 401


def test_metadata_and_expiry_over_both(cluster, swift, bucket):
    s3 = cluster.s3()
    swift.put_object(bucket, "k", b"body", content_type="text/x",
                     headers={"X-Object-Meta-Color": "red", "X-Delete-After": "2"})
    got = s3.head_object(Bucket=bucket, Key="k")
    assert got["Metadata"] == {"color": "red"} and got["ContentType"] == "text/x"
    time.sleep(3)
    with pytest.raises(ClientException) as e:
        swift.get_object(bucket, "k")
    assert status(e) == 404


def test_bulk_and_archives(swift, container):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a.txt", "n" * 120 + "/b"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    swift.put_object(container, "", buffer.getvalue(), query_string="extract-archive=tar")
    names = [o["name"] for o in swift.get_container(container)[1]]
    assert names == ["a.txt", "n" * 120 + "/b"]
    assert swift.get_object(container, names[1])[1] == names[1].encode()
    lines = "".join(f"/{container}/{name}\n" for name in names)
    swift.post_account({}, query_string="bulk-delete", data=lines.encode())
    assert swift.get_container(container)[1] == []
