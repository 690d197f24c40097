"""Who may do what, as boto3 asks: ACLs, policies, public access blocks, ownership, CORS."""

import json
import urllib.error
import urllib.request

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def refused(expected, call, **arguments):
    with pytest.raises(ClientError) as e:
        call(**arguments)
    assert code(e)[0] in (expected, str(code(e)[1])), code(e)


def denied(call, **arguments):
    with pytest.raises(ClientError) as e:
        call(**arguments)
    assert code(e)[1] == 403, code(e)


def client(cluster, keys=None):
    """A client with these keys, or without any."""
    signed = {"aws_access_key_id": keys["access_key"], "aws_secret_access_key": keys["secret_key"]} if keys else {}
    config = Config(s3={"addressing_style": "path"}, **({} if keys else {"signature_version": UNSIGNED}))
    return boto3.client("s3", endpoint_url=cluster.env["AWS_ENDPOINT_URL"],
                        region_name=cluster.env["AWS_DEFAULT_REGION"], config=config, **signed)


@pytest.fixture
def users(cluster):
    """Two users who are no administrators, and nobody."""
    made = {name: cluster.json("user", "create", name)["keys"][0] for name in ("alice", "bob")}
    yield client(cluster, made["alice"]), client(cluster, made["bob"]), client(cluster)
    for name in made:
        cluster.store("user", "rm", name, "--yes-i-really-mean-it", check=False)


@pytest.fixture
def own(users):
    """A bucket of alice with one private object."""
    alice, bob, _ = users
    alice.create_bucket(Bucket="of-alice")
    alice.put_object(Bucket="of-alice", Key="k", Body=b"secret")
    yield "of-alice"
    # What a test shut is opened for the tidying.
    alice.delete_bucket_policy(Bucket="of-alice")
    alice.put_bucket_ownership_controls(
        Bucket="of-alice", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    alice.put_bucket_acl(Bucket="of-alice", ACL="private")
    for item in alice.list_objects_v2(Bucket="of-alice").get("Contents", []):
        alice.delete_object(Bucket="of-alice", Key=item["Key"])
    alice.delete_bucket(Bucket="of-alice")


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def statement(bucket, action, principal="*", effect="Allow", **more):
    return {"Effect": effect, "Principal": principal, "Action": action,
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"], **more}


def test_strangers_are_denied(users, own):
    _, bob, nobody = users
    for s3 in (bob, nobody):
        denied(s3.list_objects_v2, Bucket=own)
        denied(s3.head_bucket, Bucket=own)
        denied(s3.get_object, Bucket=own, Key="k")
        denied(s3.get_object, Bucket=own, Key="absent")
        denied(s3.put_object, Bucket=own, Key="k", Body=b"")
        denied(s3.delete_object, Bucket=own, Key="k")
        denied(s3.delete_objects, Bucket=own, Delete={"Objects": [{"Key": "k"}]})
        denied(s3.get_bucket_acl, Bucket=own)
        denied(s3.put_bucket_acl, Bucket=own, ACL="public-read")
        denied(s3.put_object_acl, Bucket=own, Key="k", ACL="public-read")
        denied(s3.get_bucket_policy, Bucket=own)
        denied(s3.put_bucket_policy, Bucket=own, Policy=policy(statement(own, "s3:*")))
        denied(s3.create_multipart_upload, Bucket=own, Key="k")


def test_canned_acls(users, own):
    alice, bob, nobody = users
    alice.put_object_acl(Bucket=own, Key="k", ACL="public-read")
    assert nobody.get_object(Bucket=own, Key="k")["Body"].read() == b"secret"
    denied(nobody.list_objects_v2, Bucket=own)
    alice.put_object_acl(Bucket=own, Key="k", ACL="authenticated-read")
    denied(nobody.get_object, Bucket=own, Key="k")
    assert bob.get_object(Bucket=own, Key="k")["Body"].read() == b"secret"
    alice.put_bucket_acl(Bucket=own, ACL="public-read")
    assert [o["Key"] for o in nobody.list_objects_v2(Bucket=own)["Contents"]] == ["k"]
    refused("NoSuchKey", nobody.get_object, Bucket=own, Key="absent")
    denied(bob.put_object, Bucket=own, Key="new", Body=b"")
    alice.put_bucket_acl(Bucket=own, ACL="public-read-write")
    bob.put_object(Bucket=own, Key="of-bob", Body=b"b")
    assert bob.get_object_acl(Bucket=own, Key="of-bob")["Owner"]["ID"] == "bob"
    denied(alice.get_object, Bucket=own, Key="of-bob")
    refused("InvalidArgument", alice.put_bucket_acl, Bucket=own, ACL="open")


def test_grants(users, own):
    alice, bob, _ = users
    shown = alice.get_bucket_acl(Bucket=own)
    assert [(g["Grantee"]["ID"], g["Permission"]) for g in shown["Grants"]] == [("alice", "FULL_CONTROL")]
    grant = {"Grantee": {"Type": "CanonicalUser", "ID": "bob"}, "Permission": "READ"}
    wanted = {"Owner": shown["Owner"], "Grants": shown["Grants"] + [grant]}
    alice.put_bucket_acl(Bucket=own, AccessControlPolicy=wanted)
    assert bob.list_objects_v2(Bucket=own)["KeyCount"] == 1
    denied(bob.put_object, Bucket=own, Key="x", Body=b"")
    alice.put_object(Bucket=own, Key="k", Body=b"x", GrantFullControl="id=alice", GrantRead="id=bob")
    assert bob.get_object(Bucket=own, Key="k")["Body"].read() == b"x"
    grant["Grantee"]["ID"] = "nobody-of-this-name"
    refused("InvalidArgument", alice.put_bucket_acl, Bucket=own,
            AccessControlPolicy={"Owner": shown["Owner"], "Grants": [grant]})
    grant["Grantee"] = {"Type": "AmazonCustomerByEmail", "EmailAddress": "bob@example.com"}
    refused("UnresolvableGrantByEmailAddress", alice.put_bucket_acl, Bucket=own,
            AccessControlPolicy={"Owner": shown["Owner"], "Grants": [grant]})


def test_policies(users, own):
    alice, bob, nobody = users
    refused("NoSuchBucketPolicy", alice.get_bucket_policy, Bucket=own)
    refused("MalformedPolicy", alice.put_bucket_policy, Bucket=own, Policy="{}")
    refused("MalformedPolicy", alice.put_bucket_policy, Bucket=own,
            Policy=policy(statement(own, "s3:GetObjekt")))
    text = policy(statement(own, ["s3:ListBucket", "s3:GetObject"], {"AWS": "arn:aws:iam:::user/bob"}))
    alice.put_bucket_policy(Bucket=own, Policy=text)
    assert alice.get_bucket_policy(Bucket=own)["Policy"] == text
    assert alice.get_bucket_policy_status(Bucket=own)["PolicyStatus"]["IsPublic"] is False
    assert bob.get_object(Bucket=own, Key="k")["Body"].read() == b"secret"
    denied(nobody.get_object, Bucket=own, Key="k")
    denied(bob.put_object, Bucket=own, Key="k", Body=b"")
    alice.put_bucket_policy(Bucket=own, Policy=policy(
        statement(own, "s3:*"),
        statement(own, "s3:PutObject", effect="Deny", Condition={"StringLike": {"s3:x-amz-acl": "public*"}}),
        statement(own, "s3:DeleteObject", effect="Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})))
    assert alice.get_bucket_policy_status(Bucket=own)["PolicyStatus"]["IsPublic"] is True
    nobody.put_object(Bucket=own, Key="new", Body=b"")
    denied(nobody.put_object, Bucket=own, Key="new", Body=b"", ACL="public-read")
    denied(alice.delete_object, Bucket=own, Key="new")
    alice.put_bucket_policy(Bucket=own, Policy=policy(statement(own, "s3:*", effect="Deny")))
    denied(alice.get_object, Bucket=own, Key="k")
    alice.delete_bucket_policy(Bucket=own)
    assert alice.get_object(Bucket=own, Key="k")["Body"].read() == b"secret"


def test_public_access_block(users, own):
    alice, bob, nobody = users
    refused("NoSuchPublicAccessBlockConfiguration", alice.get_public_access_block, Bucket=own)
    block = lambda **flags: alice.put_public_access_block(Bucket=own, PublicAccessBlockConfiguration=flags)
    alice.put_object_acl(Bucket=own, Key="k", ACL="public-read")
    block(BlockPublicAcls=True)
    denied(alice.put_object_acl, Bucket=own, Key="k", ACL="public-read")
    denied(alice.put_object, Bucket=own, Key="x", Body=b"", ACL="public-read")
    denied(alice.put_bucket_acl, Bucket=own, ACL="public-read-write")
    assert nobody.get_object(Bucket=own, Key="k")["Body"].read() == b"secret"
    block(IgnorePublicAcls=True)
    denied(nobody.get_object, Bucket=own, Key="k")
    block(BlockPublicPolicy=True)
    denied(alice.put_bucket_policy, Bucket=own, Policy=policy(statement(own, "s3:GetObject")))
    alice.delete_public_access_block(Bucket=own)
    alice.put_bucket_policy(Bucket=own, Policy=policy(statement(own, "s3:ListBucket")))
    assert nobody.list_objects_v2(Bucket=own)["KeyCount"] == 1
    block(RestrictPublicBuckets=True)
    flags = alice.get_public_access_block(Bucket=own)["PublicAccessBlockConfiguration"]
    assert flags == {"BlockPublicAcls": False, "IgnorePublicAcls": False, "BlockPublicPolicy": False,
                     "RestrictPublicBuckets": True}
    denied(nobody.list_objects_v2, Bucket=own)
    denied(bob.list_objects_v2, Bucket=own)
    assert alice.list_objects_v2(Bucket=own)["KeyCount"] == 1


def test_ownership(users, own):
    alice, bob, nobody = users
    refused("OwnershipControlsNotFoundError", alice.get_bucket_ownership_controls, Bucket=own)
    alice.put_bucket_policy(Bucket=own, Policy=policy(statement(own, "s3:PutObject", {"AWS": "bob"})))
    control = lambda how: alice.put_bucket_ownership_controls(
        Bucket=own, OwnershipControls={"Rules": [{"ObjectOwnership": how}]})
    control("BucketOwnerPreferred")
    bob.put_object(Bucket=own, Key="given", Body=b"g", ACL="bucket-owner-full-control")
    assert alice.get_object_acl(Bucket=own, Key="given")["Owner"]["ID"] == "alice"
    control("BucketOwnerEnforced")
    bob.put_object(Bucket=own, Key="enforced", Body=b"e")
    assert alice.get_object(Bucket=own, Key="enforced")["Body"].read() == b"e"
    refused("AccessControlListNotSupported", alice.put_bucket_acl, Bucket=own, ACL="public-read")
    refused("AccessControlListNotSupported", alice.put_object, Bucket=own, Key="x", Body=b"", ACL="public-read")
    rules = alice.get_bucket_ownership_controls(Bucket=own)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    alice.delete_bucket_ownership_controls(Bucket=own)


def test_cors(cluster, users, own):
    alice, _, _ = users
    alice.put_object_acl(Bucket=own, Key="k", ACL="public-read")
    alice.put_bucket_cors(Bucket=own, CORSConfiguration={"CORSRules": [
        {"AllowedMethods": ["GET"], "AllowedOrigins": ["*.example"], "ExposeHeaders": ["ETag"]}]})
    assert alice.get_bucket_cors(Bucket=own)["CORSRules"][0]["AllowedOrigins"] == ["*.example"]
    url = f"{cluster.env['AWS_ENDPOINT_URL']}/{own}/k"
    ask = lambda **more: urllib.request.urlopen(urllib.request.Request(url, **more))
    origin = {"Origin": "http://a.example"}
    with ask(headers=origin) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "http://a.example"
        assert answer.headers["Access-Control-Expose-Headers"] == "ETag"
    with ask(method="OPTIONS", headers={**origin, "Access-Control-Request-Method": "GET"}) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Methods"]) == (200, "GET")
    with pytest.raises(urllib.error.HTTPError) as e:
        ask(method="OPTIONS", headers={**origin, "Access-Control-Request-Method": "PUT"})
    assert e.value.code == 403
    alice.delete_bucket_cors(Bucket=own)
    refused("NoSuchCORSConfiguration", alice.get_bucket_cors, Bucket=own)


def test_other_documents(users, own):
    alice, _, _ = users
    refused("NoSuchTagSet", alice.get_bucket_tagging, Bucket=own)
    tags = [{"Key": "a", "Value": "b"}]
    alice.put_bucket_tagging(Bucket=own, Tagging={"TagSet": tags})
    assert alice.get_bucket_tagging(Bucket=own)["TagSet"] == tags
    alice.delete_bucket_tagging(Bucket=own)
    refused("NoSuchTagSet", alice.get_bucket_tagging, Bucket=own)
    alice.put_bucket_website(Bucket=own, WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
    assert alice.get_bucket_website(Bucket=own)["IndexDocument"] == {"Suffix": "index.html"}
    assert alice.get_bucket_request_payment(Bucket=own)["Payer"] == "BucketOwner"
    alice.put_bucket_request_payment(Bucket=own, RequestPaymentConfiguration={"Payer": "BucketOwner"})
