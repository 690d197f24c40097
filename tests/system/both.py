"""Users of both protocols, and what their clients answer: for the tests of what one writes and the other reads."""

import urllib.error
import urllib.parse
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from swiftclient.client import Connection
from swiftclient.exceptions import ClientException

MIB = 1 << 20


class User:
    """Somebody over both protocols."""

    def __init__(self, cluster, access_key, secret_key):
        self.s3 = boto3.client(
            "s3", endpoint_url=cluster.env["AWS_ENDPOINT_URL"], region_name=cluster.env["AWS_DEFAULT_REGION"],
            aws_access_key_id=access_key, aws_secret_access_key=secret_key,
            config=Config(s3={"addressing_style": "path"}))
        self.swift = Connection(authurl=cluster.env["ST_AUTH"], user=access_key, key=secret_key,
                                auth_version="1", retries=1)
        self.account = urllib.parse.urlsplit(self.swift.get_auth()[0]).path

    @property
    def id(self):
        return self.account.split("AUTH_")[1]

    def of(self, owner):
        """A connection to somebody else's account, as this user."""
        url, token = self.swift.get_auth()
        return Connection(preauthurl=url.replace(self.account, owner.account), preauthtoken=token, retries=0)


@pytest.fixture(scope="module")
def alice(cluster):
    return made(cluster, "alice")


@pytest.fixture(scope="module")
def bob(cluster):
    return made(cluster, "bob")


def made(cluster, name):
    """A user who is no administrator."""
    keys = cluster.json("user", "create", name)["keys"][0]
    return User(cluster, keys["access_key"], keys["secret_key"])


@pytest.fixture
def own(alice, request):
    """A bucket of alice, made over S3."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "").lower()[:60].strip("-.")
    alice.s3.create_bucket(Bucket=name)
    return name


def status_of(call, *words, **named):
    """The status with which a client of either protocol fails; 200 if it does not."""
    try:
        call(*words, **named)
    except ClientException as error:
        return error.http_status
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    return 200


def as_nobody(cluster, path, method="GET"):
    """Status and body of a request without token and signature."""
    request = urllib.request.Request(cluster.env["AWS_ENDPOINT_URL"] + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def s3_body(user, bucket, key, **more):
    return user.s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def parts_over_s3(user, bucket, key, bodies, **more):
    """Uploads an object in parts."""
    upload = user.s3.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"]
    done = []
    for number, body in enumerate(bodies, 1):
        tag = user.s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)["ETag"]
        done.append({"PartNumber": number, "ETag": tag})
    return user.s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload,
                                             MultipartUpload={"Parts": done})["ETag"]
