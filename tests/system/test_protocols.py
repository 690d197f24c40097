"""What one protocol writes, the other reads: python-swiftclient and boto3 on the same objects.

Every test goes both ways, and holds the gateway to what `gateway/docs/swift.md` says of the mapping. Large objects and
access have files of their own.
"""

import hashlib
import os
import time

import pytest
from both import MIB, alice, bob, own, s3_body, status_of  # noqa: F401 (fixtures)
from test_lifecycle import gateway, until

# Around what lies in the index (32 KiB), around one data object, and of several.
SIZES = [0, 1, 32 << 10, (32 << 10) + 1, MIB, 5 * MIB + 3]
# A day of the gateway that removes what has ended, and how long that may take.
DAY = "2s"
GONE_SECONDS_MAX = 60


# --- plain objects --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_bytes_tags_and_times_of_every_size(alice, own, size):
    for key in ("swift", "s3"):
        body = os.urandom(size)
        if key == "swift":
            alice.swift.put_object(own, key, body, content_type="text/x")
        else:
            alice.s3.put_object(Bucket=own, Key=key, Body=body, ContentType="text/x")
        tag = hashlib.md5(body).hexdigest()
        headers, over_swift = alice.swift.get_object(own, key)
        over_s3 = alice.s3.get_object(Bucket=own, Key=key)
        assert over_swift == body and over_s3["Body"].read() == body
        assert (headers["etag"], over_s3["ETag"]) == (tag, f'"{tag}"')
        assert headers["content-type"] == over_s3["ContentType"] == "text/x"
        assert int(headers["content-length"]) == over_s3["ContentLength"] == size
        # Swift rounds up to the second, S3 down.
        told = time.mktime(time.strptime(headers["last-modified"], "%a, %d %b %Y %H:%M:%S %Z")) - time.timezone
        assert 0 <= told - over_s3["LastModified"].timestamp() <= 1
        if size > 10:
            ranged = {"Range": f"bytes={size - 5}-"}
            assert alice.swift.get_object(own, key, headers=ranged)[1] == body[-5:]
            assert s3_body(alice, own, key, **ranged) == body[-5:]
        # What is deleted over one is gone over the other.
        if key == "swift":
            alice.s3.delete_object(Bucket=own, Key=key)
        else:
            alice.swift.delete_object(own, key)
        assert status_of(alice.swift.get_object, own, key) == 404
        assert status_of(alice.s3.get_object, Bucket=own, Key=key) == 404


def test_replacing_over_the_other_protocol(cluster, alice, own):
    """Conditions of one protocol are about what the other has written."""
    first = alice.swift.put_object(own, "k", b"swift")
    alice.s3.put_object(Bucket=own, Key="k", Body=b"s3", IfMatch=f'"{first}"')
    assert alice.swift.get_object(own, "k")[1] == b"s3"
    assert status_of(alice.s3.put_object, Bucket=own, Key="k", Body=b"x", IfMatch=f'"{first}"') == 412
    assert status_of(alice.s3.put_object, Bucket=own, Key="k", Body=b"x", IfNoneMatch="*") == 412
    assert status_of(alice.swift.put_object, own, "k", b"x", headers={"If-None-Match": "*"}) == 412
    alice.swift.put_object(own, "k", b"swift again")
    assert s3_body(alice, own, "k") == b"swift again"
    # A checksum is there for both, where the client brings none.
    checksum = lambda key: alice.s3.head_object(Bucket=own, Key=key, ChecksumMode="ENABLED")["ChecksumCRC64NVME"]
    bare = cluster.s3(request_checksum_calculation="when_required")
    bare.put_object(Bucket=own, Key="same", Body=b"swift again")
    assert checksum("same") == checksum("k")


def test_odd_names(alice, own):
    names = ["a b+c%20/ä/日本", "//x//", "a..b", "q?a=b&c#d", "'\"<&>", "\u00a0~"]
    for n, name in enumerate(names):
        body = str(n).encode()
        if n % 2:
            alice.swift.put_object(own, name, body)
        else:
            alice.s3.put_object(Bucket=own, Key=name, Body=body)
        assert alice.swift.get_object(own, name)[1] == s3_body(alice, own, name) == body
    expected = sorted(names, key=str.encode)
    assert [o["name"] for o in alice.swift.get_container(own)[1]] == expected
    assert [o["Key"] for o in alice.s3.list_objects_v2(Bucket=own)["Contents"]] == expected


# --- metadata -------------------------------------------------------------------------------------


HEADERS = {"Content-Disposition": 'attachment; filename="a b.txt"', "Content-Encoding": "x-none",
           "Content-Language": "de, en", "Cache-Control": "max-age=60, private",
           "Expires": "Thu, 01 Jan 2037 00:00:00 GMT"}


def test_metadata_and_headers(alice, own):
    arguments = {name.replace("-", ""): value for name, value in HEADERS.items()}
    alice.swift.put_object(own, "swift", b"1", content_type="text/x; charset=utf-8",
                           headers={**HEADERS, "X-Object-Meta-Color": "red", "X-Object-Meta-Two-Words": "a, b"})
    alice.s3.put_object(Bucket=own, Key="s3", Body=b"1", ContentType="text/x; charset=utf-8",
                        Metadata={"color": "red", "two-words": "a, b"}, **arguments)
    for key in ("swift", "s3"):
        head = alice.s3.head_object(Bucket=own, Key=key)
        assert head["Metadata"] == {"color": "red", "two-words": "a, b"}, key
        assert head["ContentType"] == "text/x; charset=utf-8"
        told = head["ResponseMetadata"]["HTTPHeaders"]
        assert {name: told.get(name.lower()) for name in HEADERS} == HEADERS, key
        told = alice.swift.head_object(own, key)
        assert {name: told.get(name.lower()) for name in HEADERS} == HEADERS, key
        assert (told["x-object-meta-color"], told["x-object-meta-two-words"]) == ("red", "a, b")
        assert told["content-type"] == "text/x; charset=utf-8"


def test_metadata_is_replaced_over_the_other_protocol(alice, own):
    alice.s3.put_object(Bucket=own, Key="s3", Body=b"1", ContentType="text/x", Metadata={"a": "1"},
                        ContentDisposition="inline", Tagging="t=1")
    # A POST replaces all but the content type. Tags are S3's.
    alice.swift.post_object(own, "s3", {"X-Object-Meta-B": "2", "Cache-Control": "no-store"})
    head = alice.s3.head_object(Bucket=own, Key="s3")
    assert head["Metadata"] == {"b": "2"} and head["ContentType"] == "text/x"
    assert head["CacheControl"] == "no-store" and "ContentDisposition" not in head
    assert alice.s3.get_object_tagging(Bucket=own, Key="s3")["TagSet"] == [{"Key": "t", "Value": "1"}]
    alice.swift.put_object(own, "swift", b"1", content_type="text/x", headers={"X-Object-Meta-A": "1"})
    alice.s3.copy_object(Bucket=own, Key="swift", CopySource={"Bucket": own, "Key": "swift"},
                         MetadataDirective="REPLACE", Metadata={"b": "2"}, ContentType="text/y")
    told = alice.swift.head_object(own, "swift")
    assert told["x-object-meta-b"] == "2" and "x-object-meta-a" not in told and told["content-type"] == "text/y"


def test_metadata_of_containers_survives_what_s3_sets(alice, own):
    alice.swift.post_container(own, {"X-Container-Meta-Color": "red"})
    alice.s3.put_bucket_tagging(Bucket=own, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    alice.s3.put_bucket_acl(Bucket=own, ACL="private")
    assert alice.swift.head_container(own)["x-container-meta-color"] == "red"
    alice.swift.post_container(own, {"X-Remove-Container-Meta-Color": "x"})
    assert alice.s3.get_bucket_tagging(Bucket=own)["TagSet"] == [{"Key": "a", "Value": "b"}]


# --- listings -------------------------------------------------------------------------------------


def test_listings_with_delimiters(alice, own):
    keys = ["a", "d/1", "d/2", "d/e/3", "e", "f/", "f/x", "ü"]
    for n, key in enumerate(keys):
        if n % 2:
            alice.swift.put_object(own, key, key.encode(), content_type="text/x")
        else:
            alice.s3.put_object(Bucket=own, Key=key, Body=key.encode(), ContentType="text/x")

    def over_s3(**how):
        page = alice.s3.list_objects_v2(Bucket=own, **how)
        found = [o["Key"] for o in page.get("Contents", [])] + [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        return sorted(found, key=str.encode)

    def over_swift(**how):
        return [o.get("name", o.get("subdir")) for o in alice.swift.get_container(own, **how)[1]]

    assert over_s3() == over_swift() == keys
    for prefix, delimiter in (("", "/"), ("d/", "/"), ("d", "/"), ("", "/e"), ("f/", "/"), ("no", "/")):
        expected = over_s3(Prefix=prefix, Delimiter=delimiter)
        assert over_swift(prefix=prefix, delimiter=delimiter) == expected, (prefix, delimiter)
    assert over_s3(Delimiter="/") == ["a", "d/", "e", "f/", "ü"]
    assert over_s3(StartAfter="d/2") == over_swift(marker="d/2") == keys[3:]
    # Page by page, with names that are rolled up on the edge of a page.
    pages = alice.s3.get_paginator("list_objects_v2").paginate(
        Bucket=own, Delimiter="/", PaginationConfig={"PageSize": 2})
    found = [o["Key"] for page in pages for o in page.get("Contents", [])]
    assert found == ["a", "e", "ü"]
    assert over_swift(delimiter="/", limit=2, full_listing=True) == ["a", "d/", "e", "f/", "ü"]
    lines = {o["name"]: o for o in alice.swift.get_container(own)[1]}
    for o in alice.s3.list_objects_v2(Bucket=own)["Contents"]:
        line = lines[o["Key"]]
        assert (f'"{line["hash"]}"', line["bytes"], line["content_type"]) == (o["ETag"], o["Size"], "text/x")
        assert line["last_modified"][:19] == o["LastModified"].strftime("%Y-%m-%dT%H:%M:%S")
    told = alice.swift.head_container(own)
    assert int(told["x-container-object-count"]) == len(keys)
    assert int(told["x-container-bytes-used"]) == sum(len(key.encode()) for key in keys)


def test_buckets_and_containers(alice, bob, own):
    assert own in [c["name"] for c in alice.swift.get_account()[1]]
    alice.swift.put_container("Capitals and spaces")
    assert "Capitals and spaces" in [b["Name"] for b in alice.s3.list_buckets()["Buckets"]]
    alice.swift.delete_container("Capitals and spaces")
    assert "Capitals and spaces" not in [b["Name"] for b in alice.s3.list_buckets()["Buckets"]]
    # One space of names for buckets, one of each account for containers.
    assert status_of(bob.s3.create_bucket, Bucket=own) == 409
    bob.swift.put_container(own)
    bob.swift.put_object(own, "k", b"of bob")
    assert [o["name"] for o in alice.swift.get_container(own)[1]] == []
    assert f"{bob.id}:{own}" in [b["Name"] for b in bob.s3.list_buckets()["Buckets"]]
    bob.swift.delete_object(own, "k")
    bob.swift.delete_container(own)
    # Neither takes away what the other has filled.
    alice.s3.put_object(Bucket=own, Key="k", Body=b"")
    assert status_of(alice.swift.delete_container, own) == 409
    alice.swift.delete_object(own, "k")
    alice.s3.delete_bucket(Bucket=own)
    assert status_of(alice.swift.head_container, own) == 404


# --- copies ---------------------------------------------------------------------------------------


def test_copies_between_containers(alice, own):
    other = f"{own}-b"
    alice.swift.put_container(other)
    body = os.urandom(MIB + 5)
    alice.s3.put_object(Bucket=own, Key="s3", Body=body, Metadata={"a": "1"}, ContentType="text/x",
                        ContentDisposition="inline")
    alice.swift.copy_object(own, "s3", destination=f"/{other}/copy", headers={"X-Object-Meta-B": "2"})
    head = alice.s3.head_object(Bucket=other, Key="copy")
    assert head["Metadata"] == {"a": "1", "b": "2"} and head["ContentType"] == "text/x"
    assert head["ContentDisposition"] == "inline" and s3_body(alice, other, "copy") == body
    alice.swift.copy_object(own, "s3", destination=f"/{other}/fresh", fresh_metadata=True,
                            headers={"X-Object-Meta-C": "3"})
    assert alice.s3.head_object(Bucket=other, Key="fresh")["Metadata"] == {"c": "3"}
    alice.swift.put_object(other, "swift", body, content_type="text/y", headers={"X-Object-Meta-D": "4"})
    alice.s3.copy_object(Bucket=own, Key="back", CopySource={"Bucket": other, "Key": "swift"})
    told, got = alice.swift.get_object(own, "back")
    assert got == body and told["x-object-meta-d"] == "4" and told["content-type"] == "text/y"


# --- versions -------------------------------------------------------------------------------------


def test_versions_are_the_same_over_both(alice, own):
    alice.s3.put_bucket_versioning(Bucket=own, VersioningConfiguration={"Status": "Enabled"})
    assert alice.swift.head_container(own)["x-versions-enabled"] == "True"
    ids = []
    for n in range(4):
        body = f"body {n}".encode()
        if n % 2:
            ids.append(alice.s3.put_object(Bucket=own, Key="k", Body=body)["VersionId"])
        else:
            said = {}
            alice.swift.put_object(own, "k", body, response_dict=said)
            ids.append(said["headers"]["x-object-version-id"])
    for n, version in enumerate(ids):
        body = f"body {n}".encode()
        assert s3_body(alice, own, "k", VersionId=version) == body
        assert alice.swift.get_object(own, "k", query_string=f"version-id={version}")[1] == body
    # A delete marker of each.
    said = {}
    alice.swift.delete_object(own, "k", response_dict=said)
    marker = said["headers"]["x-object-version-id"]
    assert status_of(alice.s3.get_object, Bucket=own, Key="k") == 404
    assert [m["VersionId"] for m in alice.s3.list_object_versions(Bucket=own)["DeleteMarkers"]] == [marker]
    alice.s3.delete_object(Bucket=own, Key="k", VersionId=marker)
    assert alice.swift.get_object(own, "k")[1] == b"body 3"
    by_s3 = alice.s3.delete_object(Bucket=own, Key="k")
    assert by_s3["DeleteMarker"] and status_of(alice.swift.get_object, own, "k") == 404
    listed = alice.swift.get_container(own, query_string="versions=true")[1]
    assert [o["version_id"] for o in listed] == [by_s3["VersionId"], *reversed(ids)]
    assert [o["is_latest"] for o in listed] == [True] + [False] * 4
    assert listed[0]["content_type"].startswith("application/x-deleted")
    seen = alice.s3.list_object_versions(Bucket=own)
    assert [v["VersionId"] for v in seen["Versions"]] == list(reversed(ids))
    # Bringing back makes a copy, which is the newest, with an id of its own.
    alice.swift.put_object(own, "k", b"", query_string=f"version-id={ids[0]}", headers={"Content-Length": "0"})
    assert s3_body(alice, own, "k") == b"body 0"
    newest = alice.s3.head_object(Bucket=own, Key="k")["VersionId"]
    assert newest not in [*ids, marker, by_s3["VersionId"]]
    # The newest that is removed by its id makes the one before it the newest: here a marker.
    alice.swift.delete_object(own, "k", query_string=f"version-id={newest}")
    assert status_of(alice.s3.get_object, Bucket=own, Key="k") == 404
    alice.swift.delete_object(own, "k", query_string=f"version-id={by_s3['VersionId']}")
    assert s3_body(alice, own, "k") == b"body 3"


def test_versions_switched_off(alice, own):
    alice.s3.put_object(Bucket=own, Key="k", Body=b"before")
    alice.swift.post_container(own, {"X-Versions-Enabled": "true"})
    named = alice.s3.put_object(Bucket=own, Key="k", Body=b"named")["VersionId"]
    assert alice.swift.get_object(own, "k", query_string="version-id=null")[1] == b"before"
    alice.swift.post_container(own, {"X-Versions-Enabled": "false"})
    assert alice.s3.get_bucket_versioning(Bucket=own)["Status"] == "Suspended"
    alice.swift.put_object(own, "k", b"null")
    assert s3_body(alice, own, "k") == s3_body(alice, own, "k", VersionId="null") == b"null"
    assert s3_body(alice, own, "k", VersionId=named) == b"named"
    ids = [v["VersionId"] for v in alice.s3.list_object_versions(Bucket=own)["Versions"]]
    assert ids == ["null", named]
    # A container with older versions is not empty.
    alice.swift.delete_object(own, "k", query_string="version-id=null")
    assert status_of(alice.swift.delete_container, own) == 409
    alice.s3.delete_object(Bucket=own, Key="k", VersionId=named)
    alice.swift.delete_container(own)


def test_old_versions_in_another_container(alice, own):
    """What Swift replaces is kept there, and S3 sees it; S3's own writes keep nothing."""
    old = f"{own}-old"
    alice.swift.put_container(old)
    alice.swift.post_container(own, {"X-Versions-Location": old})
    alice.s3.put_object(Bucket=own, Key="k", Body=b"1", Metadata={"n": "1"})
    alice.swift.put_object(own, "k", b"2")
    kept, = alice.s3.list_objects_v2(Bucket=old)["Contents"]
    assert kept["Key"].startswith("001k/")
    assert s3_body(alice, old, kept["Key"]) == b"1"
    assert alice.s3.head_object(Bucket=old, Key=kept["Key"])["Metadata"] == {"n": "1"}
    alice.s3.put_object(Bucket=own, Key="k", Body=b"3")
    assert alice.s3.list_objects_v2(Bucket=old)["KeyCount"] == 1
    alice.swift.delete_object(own, "k")
    assert s3_body(alice, own, "k") == b"1"
    assert alice.s3.list_objects_v2(Bucket=old)["KeyCount"] == 0


def test_what_is_locked_is_locked_for_swift(alice, own):
    bucket = f"{own}-l"
    alice.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    alice.swift.put_object(bucket, "k", b"held")
    version = alice.s3.head_object(Bucket=bucket, Key="k")["VersionId"]
    alice.s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": "ON"})
    assert status_of(alice.swift.post_object, bucket, "k", {"X-Object-Meta-A": "1"}) == 403
    assert status_of(alice.swift.delete_object, bucket, "k", query_string=f"version-id={version}") == 403
    alice.swift.delete_object(bucket, "k")
    assert s3_body(alice, bucket, "k", VersionId=version) == b"held"
    alice.s3.put_object_legal_hold(Bucket=bucket, Key="k", VersionId=version, LegalHold={"Status": "OFF"})
    alice.swift.delete_object(bucket, "k", query_string=f"version-id={version}")


# --- ends -----------------------------------------------------------------------------------------


def test_expiry_over_both(cluster, alice, own):
    """An end that Swift sets is seen and kept over S3; a rule of S3 removes what Swift wrote."""
    at = int(time.time()) + 15
    alice.swift.put_object(own, "timed", b"body", headers={"X-Delete-At": str(at)})
    alice.swift.put_object(own, "rule/swift", b"body")
    alice.s3.put_object(Bucket=own, Key="rule/s3", Body=b"body")
    alice.swift.put_object(own, "kept", b"body", headers={"X-Delete-After": "86400"})
    told = alice.s3.head_object(Bucket=own, Key="timed")["ResponseMetadata"]["HTTPHeaders"]
    assert told["x-delete-at"] == alice.swift.head_object(own, "timed")["x-delete-at"] == str(at)
    # POST without it takes the end away.
    alice.swift.post_object(own, "kept", {"X-Object-Meta-A": "b"})
    told = alice.s3.head_object(Bucket=own, Key="kept")["ResponseMetadata"]["HTTPHeaders"]
    assert "x-delete-at" not in told and told["x-amz-meta-a"] == "b"
    rule = {"ID": "of s3", "Status": "Enabled", "Filter": {"Prefix": "rule/"}, "Expiration": {"Days": 1}}
    alice.s3.put_bucket_lifecycle_configuration(Bucket=own, LifecycleConfiguration={"Rules": [rule]})
    expiration = lambda key: alice.s3.head_object(Bucket=own, Key=key).get("Expiration")
    assert 'rule-id="of%20s3"' in expiration("rule/swift") or 'rule-id="of s3"' in expiration("rule/swift")
    assert expiration("rule/swift") == expiration("rule/s3") and expiration("kept") is None
    until(lambda: status_of(alice.swift.get_object, own, "timed") == 404, 30)
    with gateway(cluster, "--lifecycle-day", DAY):
        keys = lambda: [o["Key"] for o in alice.s3.list_objects_v2(Bucket=own).get("Contents", [])]
        until(lambda: keys() == ["kept"], GONE_SECONDS_MAX)
    assert status_of(alice.swift.head_object, own, "rule/swift") == 404
    assert [o["name"] for o in alice.swift.get_container(own)[1]] == ["kept"]
