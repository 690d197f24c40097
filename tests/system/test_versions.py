"""Versions, object lock and tags as boto3 uses them."""

import datetime

import pytest
from botocore.exceptions import ClientError

MIB = 1 << 20
FUTURE = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def configure(s3, bucket, status):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status


@pytest.fixture
def locking(cluster, request):
    """A bucket with object lock."""
    name = "lock-" + request.node.name.replace("_", "-").lower()[:50].strip("-")
    cluster.s3().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def test_versions_are_kept_read_and_removed(cluster, bucket):
    s3 = cluster.s3()
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"0")
    configure(s3, bucket, "Enabled")
    bodies = {"null": b"0"}
    for n in range(1, 5):
        body = bytes([48 + n]) * (1 if n % 2 else MIB)
        bodies[s3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"]] = body
    assert len(bodies) == 5
    for version, body in bodies.items():
        got = s3.get_object(Bucket=bucket, Key="k", VersionId=version)
        assert (got["Body"].read(), got["VersionId"]) == (body, version)
    listed = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [v["VersionId"] for v in listed] == list(bodies)[::-1]
    assert [v["IsLatest"] for v in listed] == [True] + [False] * 4
    removed = s3.delete_object(Bucket=bucket, Key="k")
    assert removed["DeleteMarker"]
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k")
    assert code(e) == ("NoSuchKey", 404)
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", VersionId=removed["VersionId"])
    assert code(e) == ("MethodNotAllowed", 405)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    with pytest.raises(ClientError) as e:
        s3.delete_bucket(Bucket=bucket)
    assert code(e) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=bucket, Key="k", VersionId=removed["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == list(bodies.values())[-1]
    for version in list(bodies)[::-1]:
        s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
        with pytest.raises(ClientError) as e:
            s3.get_object(Bucket=bucket, Key="k", VersionId=version)
        assert code(e) == ("NoSuchVersion", 404)
    s3.delete_bucket(Bucket=bucket)


def test_a_suspended_bucket_replaces_its_null_version(cluster, bucket):
    s3 = cluster.s3()
    configure(s3, bucket, "Enabled")
    kept = s3.put_object(Bucket=bucket, Key="k", Body=b"kept")["VersionId"]
    configure(s3, bucket, "Suspended")
    for body in (b"a", b"b"):
        assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"b"
    assert s3.delete_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    listed = s3.list_object_versions(Bucket=bucket)
    assert [m["VersionId"] for m in listed["DeleteMarkers"]] == ["null"]
    assert [v["VersionId"] for v in listed["Versions"]] == [kept]


def test_pages_of_versions(cluster, bucket):
    s3 = cluster.s3()
    configure(s3, bucket, "Enabled")
    made = [(key, s3.put_object(Bucket=bucket, Key=key, Body=b"")["VersionId"])
            for key in ("a", "a b", "d/x", "d/ü") for _ in range(3)]
    for size in (1, 2, 5, 1000):
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
        listed = [(v["Key"], v["VersionId"]) for page in pages for v in page.get("Versions", [])]
        assert sorted(listed) == sorted(made) and len(listed) == len(made)
    rolled = s3.list_object_versions(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in rolled["CommonPrefixes"]] == ["d/"]
    assert len(rolled["Versions"]) == 6


def test_many_versions_are_removed_at_once(cluster, bucket):
    s3 = cluster.s3()
    configure(s3, bucket, "Enabled")
    versions = [s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x")["VersionId"] for n in range(20)]
    markers = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"k{n}"} for n in range(20)]})["Deleted"]
    assert all(m["DeleteMarker"] and m["DeleteMarkerVersionId"] for m in markers)
    objects = [{"Key": f"k{n}", "VersionId": v} for n, v in enumerate(versions)]
    objects += [{"Key": m["Key"], "VersionId": m["DeleteMarkerVersionId"]} for m in markers]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})["Deleted"]) == 40
    listed = s3.list_object_versions(Bucket=bucket)
    assert "Versions" not in listed and "DeleteMarkers" not in listed


def test_an_upload_and_a_copy_make_versions(cluster, bucket):
    s3 = cluster.s3()
    configure(s3, bucket, "Enabled")
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", Tagging="a=b")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"p" * (5 * MIB))
    done = s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == done["VersionId"]
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    copied = s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k", "VersionId": first})
    assert copied["CopySourceVersionId"] == first
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 3


def test_configuration_of_object_lock(cluster, bucket, locking):
    s3 = cluster.s3()
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    with pytest.raises(ClientError) as e:
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=rule)
    assert code(e) == ("InvalidBucketState", 409)
    with pytest.raises(ClientError) as e:
        s3.get_object_lock_configuration(Bucket=bucket)
    assert code(e) == ("ObjectLockConfigurationNotFoundError", 404)
    with pytest.raises(ClientError) as e:
        s3.put_bucket_versioning(Bucket=locking, VersioningConfiguration={"Status": "Suspended"})
    assert code(e) == ("InvalidBucketState", 409)
    s3.put_object_lock_configuration(Bucket=locking, ObjectLockConfiguration=rule)
    assert s3.get_object_lock_configuration(Bucket=locking)["ObjectLockConfiguration"] == rule
    version = s3.put_object(Bucket=locking, Key="k", Body=b"x")["VersionId"]
    assert s3.get_object_retention(Bucket=locking, Key="k")["Retention"]["Mode"] == "GOVERNANCE"
    s3.delete_object(Bucket=locking, Key="k", VersionId=version, BypassGovernanceRetention=True)
    configure(s3, bucket, "Enabled")
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})


def test_retention_and_legal_hold(cluster, locking):
    s3 = cluster.s3()
    version = s3.put_object(Bucket=locking, Key="k", Body=b"x", ObjectLockMode="GOVERNANCE",
                            ObjectLockRetainUntilDate=FUTURE, ObjectLockLegalHoldStatus="ON")["VersionId"]
    head = s3.head_object(Bucket=locking, Key="k")
    assert (head["ObjectLockMode"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "ON")
    assert head["ObjectLockRetainUntilDate"] == FUTURE
    remove = lambda **more: s3.delete_object(Bucket=locking, Key="k", VersionId=version, **more)
    for more in ({}, {"BypassGovernanceRetention": True}):
        with pytest.raises(ClientError) as e:
            remove(**more)
        assert code(e) == ("AccessDenied", 403)
    s3.put_object_legal_hold(Bucket=locking, Key="k", LegalHold={"Status": "OFF"})
    with pytest.raises(ClientError) as e:
        remove()
    assert code(e) == ("AccessDenied", 403)
    errors = s3.delete_objects(Bucket=locking, Delete={"Objects": [{"Key": "k", "VersionId": version}]})["Errors"]
    assert errors[0]["Code"] == "AccessDenied"
    sooner = {"Mode": "GOVERNANCE", "RetainUntilDate": FUTURE - datetime.timedelta(days=100)}
    with pytest.raises(ClientError) as e:
        s3.put_object_retention(Bucket=locking, Key="k", Retention=sooner)
    assert code(e) == ("AccessDenied", 403)
    s3.put_object_retention(Bucket=locking, Key="k", Retention=sooner, BypassGovernanceRetention=True)
    assert s3.get_object_retention(Bucket=locking, Key="k")["Retention"] == sooner
    remove(BypassGovernanceRetention=True)


def test_tags(cluster, bucket):
    s3 = cluster.s3()
    tags = [{"Key": f"k{n}", "Value": "v" * n} for n in range(10)]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 10
    for wrong in (tags + [{"Key": "x", "Value": ""}], [{"Key": "k" * 129, "Value": ""}],
                  [{"Key": "k", "Value": "v" * 257}]):
        with pytest.raises(ClientError) as e:
            s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": wrong})
        assert code(e) == ("InvalidTag", 400)
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
