"""IAM and STS as boto3 and the AWS CLI use them: members of an account, groups, managed policies, roles, sessions."""

import json
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def policy(*rules):
    """A policy of (effect, action, resource)."""
    statements = [{"Effect": e, "Action": a, "Resource": r} for e, a, r in rules]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def trust(*principals):
    statement = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Signer:
    """Clients of one pair of keys."""

    def __init__(self, cluster, access_key, secret_key, token=None):
        self.cluster = cluster
        self.keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
        self.token = {"aws_session_token": token} if token else {}

    def client(self, service):
        config = Config(s3={"addressing_style": "path"}, signature_version="s3v4") if service == "s3" else None
        return boto3.client(service, endpoint_url=self.cluster.env["AWS_ENDPOINT_URL"],
                            region_name=self.cluster.env["AWS_DEFAULT_REGION"],
                            config=config, **self.keys, **self.token)

    @property
    def s3(self):
        return self.client("s3")

    @property
    def iam(self):
        return self.client("iam")

    @property
    def sts(self):
        return self.client("sts")

    def member(self, name, *rules):
        """A new user of this account with a key and a policy."""
        self.iam.create_user(UserName=name)
        if rules:
            self.iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy(*rules))
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        return Signer(self.cluster, key["AccessKeyId"], key["SecretAccessKey"])

    def session(self, credentials):
        return Signer(self.cluster, credentials["AccessKeyId"], credentials["SecretAccessKey"],
                      credentials["SessionToken"])

    def assume(self, arn, **more):
        given = self.sts.assume_role(RoleArn=arn, RoleSessionName="one", **more)
        return self.session(given["Credentials"])


def denied(call, *wanted, **arguments):
    with pytest.raises(ClientError) as e:
        call(**arguments)
    assert code(e) == (wanted or ("AccessDenied", 403))


@pytest.fixture
def root(cluster, request):
    """The root user of a new account."""
    name = "root-" + request.node.name.replace("_", "-").lower()[-50:].strip("-")
    made = cluster.json("user", "create", name)
    signer = Signer(cluster, made["access_key"], made["secret_key"])
    signer.account = made["user_id"]
    return signer


def bucket_of(root):
    name = ("b-" + root.account)[:60].strip("-")
    root.s3.create_bucket(Bucket=name)
    root.s3.put_object(Bucket=name, Key="k", Body=b"x")
    return name


def test_members_may_what_policies_say(root):
    bucket = bucket_of(root)
    ann = root.member("ann")
    denied(ann.s3.list_buckets)
    denied(ann.s3.get_object, Bucket=bucket, Key="k")
    home = f"arn:aws:s3:::{bucket}/${{aws:username}}/*"
    root.iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=policy(
        ("Allow", ["s3:PutObject", "s3:GetObject"], home), ("Deny", "s3:*", f"arn:aws:s3:::{bucket}/ann/secret")))
    ann.s3.put_object(Bucket=bucket, Key="ann/k", Body=b"y" * 100_000)
    assert ann.s3.get_object(Bucket=bucket, Key="ann/k")["Body"].read() == b"y" * 100_000
    denied(ann.s3.put_object, Bucket=bucket, Key="ann/secret", Body=b"")
    denied(ann.s3.put_object, Bucket=bucket, Key="bob/k", Body=b"")
    assert root.s3.get_object_acl(Bucket=bucket, Key="ann/k")["Owner"]["ID"] == root.account
    got = root.iam.get_user_policy(UserName="ann", PolicyName="p")["PolicyDocument"]
    assert got["Statement"][0]["Resource"] == home
    assert root.iam.list_user_policies(UserName="ann")["PolicyNames"] == ["p"]


def test_groups_and_managed_policies(root):
    bucket = bucket_of(root)
    ann = root.member("ann")
    root.iam.create_group(GroupName="readers", Path="/staff/")
    made = root.iam.create_policy(PolicyName="read", PolicyDocument=policy(("Allow", "s3:GetObject", "*")))
    arn = made["Policy"]["Arn"]
    root.iam.attach_group_policy(GroupName="readers", PolicyArn=arn)
    root.iam.add_user_to_group(GroupName="readers", UserName="ann")
    ann.s3.get_object(Bucket=bucket, Key="k")
    assert [u["UserName"] for u in root.iam.get_group(GroupName="readers")["Users"]] == ["ann"]
    assert root.iam.list_groups_for_user(UserName="ann")["Groups"][0]["Path"] == "/staff/"
    assert root.iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    denied(root.iam.delete_policy, "DeleteConflict", 409, PolicyArn=arn)
    root.iam.detach_group_policy(GroupName="readers", PolicyArn=arn)
    denied(ann.s3.get_object, Bucket=bucket, Key="k")
    root.iam.delete_policy(PolicyArn=arn)
    root.iam.attach_user_policy(UserName="ann", PolicyArn="arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")
    ann.s3.get_object(Bucket=bucket, Key="k")
    denied(ann.s3.delete_object, Bucket=bucket, Key="k")


def test_keys_are_switched_off_and_removed(root):
    ann = root.member("ann", ("Allow", "s3:ListAllMyBuckets", "*"))
    ann.s3.list_buckets()
    key = {"UserName": "ann", "AccessKeyId": ann.keys["aws_access_key_id"]}
    root.iam.update_access_key(Status="Inactive", **key)
    assert root.iam.list_access_keys(UserName="ann")["AccessKeyMetadata"][0]["Status"] == "Inactive"
    denied(ann.s3.list_buckets, "InvalidAccessKeyId", 403)
    root.iam.update_access_key(Status="Active", **key)
    ann.s3.list_buckets()
    denied(root.iam.delete_user, "DeleteConflict", 409, UserName="ann")
    root.iam.delete_access_key(**key)
    denied(ann.s3.list_buckets, "InvalidAccessKeyId", 403)
    root.iam.delete_user_policy(UserName="ann", PolicyName="p")
    root.iam.delete_user(UserName="ann")
    denied(root.iam.get_user, "NoSuchEntity", 404, UserName="ann")


def test_roles_and_sessions(cluster, root):
    bucket = bucket_of(root)
    ann, bob = root.member("ann"), root.member("bob")
    arn = root.iam.create_role(RoleName="reader", MaxSessionDuration=7200, AssumeRolePolicyDocument=trust(
        f"arn:aws:iam::{root.account}:user/ann"))["Role"]["Arn"]
    root.iam.put_role_policy(RoleName="reader", PolicyName="p", PolicyDocument=policy(("Allow", "s3:*", "*")))
    denied(bob.sts.assume_role, RoleArn=arn, RoleSessionName="one")
    session = ann.assume(arn, DurationSeconds=7200)
    who = session.sts.get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{root.account}:assumed-role/reader/one"
    session.s3.put_object(Bucket=bucket, Key="k", Body=b"from a role")
    # In the query as well as in the header.
    url = session.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"from a role"
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(url.replace("X-Amz-Security-Token=A", "X-Amz-Security-Token=B"))
    assert e.value.code in (400, 403)
    narrowed = ann.assume(arn, Policy=policy(("Allow", "s3:GetObject", f"arn:aws:s3:::{bucket}/*")))
    narrowed.s3.get_object(Bucket=bucket, Key="k")
    denied(narrowed.s3.put_object, Bucket=bucket, Key="k", Body=b"")
    denied(ann.sts.assume_role, "ValidationError", 400, RoleArn=arn, RoleSessionName="one", DurationSeconds=7201)
    root.iam.delete_role_policy(RoleName="reader", PolicyName="p")
    denied(session.s3.get_object, Bucket=bucket, Key="k")
    root.iam.delete_role(RoleName="reader")
    denied(session.s3.get_object, "InvalidToken", 400, Bucket=bucket, Key="k")


def test_a_token_of_ones_own(root):
    ann = root.member("ann", ("Allow", "*", "*"))
    session = ann.session(ann.sts.get_session_token()["Credentials"])
    session.s3.list_buckets()
    denied(session.iam.list_users)
    root.iam.delete_access_key(UserName="ann", AccessKeyId=ann.keys["aws_access_key_id"])
    denied(session.s3.list_buckets, "InvalidToken", 400)


def test_another_account_needs_both_sides(cluster, root):
    bucket = bucket_of(root)
    made = cluster.json("user", "create", root.account[:50] + "-other")
    other = Signer(cluster, made["access_key"], made["secret_key"])
    ann = other.member("ann", ("Allow", "s3:GetObject", "*"))
    denied(ann.s3.get_object, Bucket=bucket, Key="k")
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*",
                 "Principal": {"AWS": f"arn:aws:iam::{made['user_id']}:user/ann"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    root.s3.put_bucket_policy(Bucket=bucket, Policy=document)
    ann.s3.get_object(Bucket=bucket, Key="k")
    denied(ann.s3.put_object, Bucket=bucket, Key="k", Body=b"")
    denied(other.member("bob", ("Allow", "*", "*")).s3.get_object, Bucket=bucket, Key="k")


def test_administrators_limit_root_users(cluster, root):
    bucket = bucket_of(root)
    admin = Signer(cluster, cluster.env["AWS_ACCESS_KEY_ID"], cluster.env["AWS_SECRET_ACCESS_KEY"])
    admin.iam.put_user_policy(UserName=root.account, PolicyName="p", PolicyDocument=policy(
        ("Deny", "s3:PutObject", "*")))
    denied(root.s3.put_object, Bucket=bucket, Key="k", Body=b"")
    denied(root.iam.delete_user_policy, UserName=root.account, PolicyName="p")
    admin.iam.delete_user_policy(UserName=root.account, PolicyName="p")
    root.s3.put_object(Bucket=bucket, Key="k", Body=b"")


def test_listings_come_in_pages(root):
    names = [f"user{n:02}" for n in range(12)]
    for name in reversed(names):
        root.iam.create_user(UserName=name, Path="/many/")
    root.iam.create_user(UserName="another")
    pages = root.iam.get_paginator("list_users").paginate(PathPrefix="/many/", PaginationConfig={"PageSize": 5})
    assert [[u["UserName"] for u in page["Users"]] for page in pages] == [names[:5], names[5:10], names[10:]]
    assert root.iam.get_account_summary()["SummaryMap"]["Users"] == 13


def test_the_command_line_of_aws(cluster, root):
    keys = {"AWS_ACCESS_KEY_ID": root.keys["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": root.keys["aws_secret_access_key"]}

    def aws(*words):
        return json.loads(cluster.run("aws", "--output", "json", *words, env=keys) or "null")

    assert aws("sts", "get-caller-identity")["Arn"] == f"arn:aws:iam::{root.account}:root"
    assert aws("iam", "create-user", "--user-name", "cli")["User"]["UserName"] == "cli"
    assert aws("iam", "create-access-key", "--user-name", "cli")["AccessKey"]["Status"] == "Active"
    aws("iam", "attach-user-policy", "--user-name", "cli",
        "--policy-arn", "arn:aws:iam::aws:policy/AdministratorAccess")
    assert [u["UserName"] for u in aws("iam", "list-users")["Users"]] == ["cli"]
