"""Lifecycle, quotas, rates and notifications on a cluster of processes.

A second gateway runs beside that of `store up`, with days of a few seconds: what its rules remove is gone for clients
of both, and its space is free again.
"""

import concurrent.futures
import contextlib
import http.server
import json
import socket
import subprocess
import threading
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import BIN

OBJECTS = 10_000
# Above `inline_max`: each has a data object of its own.
SIZE = 40_000
LARGE = 300
DAY = "3s"
GONE_SECONDS_MAX = 240
FREE_SECONDS_MAX = 120


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def gateway(cluster, *flags):
    """One more gateway; a client of it."""
    port, admin, metrics = free_port(), free_port(), free_port()
    log = open(cluster.dir.parent / "second-gateway.log", "wb")
    process = subprocess.Popen(
        [BIN / "store-gateway", "--name", "second", "--monitors", cluster.env["STORE_MONITORS"],
         "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}",
         "--metrics-listen", f"127.0.0.1:{metrics}", *flags],
        stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < deadline, "the gateway does not serve"
            time.sleep(0.05)
        yield boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id=cluster.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=cluster.env["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=32,
                          retries={"total_max_attempts": 3}))
    finally:
        process.terminate()
        process.wait(30)


def stored(cluster, pool):
    found = [p["stats"] for p in cluster.json("df")["pools"] if p["name"] == pool]
    return (found[0]["stored"], found[0]["objects"]) if found else (0, 0)


def until(what, seconds):
    deadline = time.monotonic() + seconds
    while not (done := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
    return done


def count(s3, bucket, prefix=""):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sum(page["KeyCount"] for page in pages)


def code(error):
    return error.value.response["Error"]["Code"]


def test_ten_thousand_objects_expire_and_their_space_comes_back(cluster, bucket):
    s3 = cluster.s3(max_pool_connections=32)
    before = stored(cluster, "s3.data")

    def put(n):
        body = b"x" * (SIZE if n < LARGE else 100)
        s3.put_object(Bucket=bucket, Key=f"old/{n:05}", Body=body)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(OBJECTS)))
    kept = b"kept" * SIZE
    s3.put_object(Bucket=bucket, Key="new/kept", Body=kept)
    assert count(s3, bucket) == OBJECTS + 1
    until(lambda: stored(cluster, "s3.data")[1] >= before[1] + LARGE + 1, 60)
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 1}}
    with gateway(cluster, "--lifecycle-day", DAY, "--garbage-delay", "1s") as second:
        second.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
        began = time.monotonic()
        until(lambda: count(s3, bucket, "old/") == 0, GONE_SECONDS_MAX)
        print(f"{OBJECTS} objects expired in {time.monotonic() - began:.0f} s")
        # The kept object, and nothing else of this test.
        until(lambda: stored(cluster, "s3.data")[1] <= before[1] + 1, FREE_SECONDS_MAX)
    assert stored(cluster, "s3.data")[0] <= before[0] + len(kept)
    assert s3.get_object(Bucket=bucket, Key="new/kept")["Body"].read() == kept
    rows = {row["bucket"]: row for row in cluster.json("object", "lifecycle", "ls")}
    assert rows[bucket]["shards"] > 0
    text = cluster.store("object", "lifecycle", "ls").stdout.decode()
    assert bucket in text


def test_the_real_calendar_is_told(cluster, bucket):
    s3 = cluster.s3()
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 2}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [rule]
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert 'rule-id="r"' in put["Expiration"] and "00:00:00 GMT" in put["Expiration"]
    assert s3.head_object(Bucket=bucket, Key="k")["Expiration"] == put["Expiration"]
    s3.delete_bucket_lifecycle(Bucket=bucket)
    with pytest.raises(ClientError) as e:
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert code(e) == "NoSuchLifecycleConfiguration"


def test_quotas_and_rates_are_set_by_command_and_met_by_clients(cluster, bucket):
    s3 = cluster.s3(retries={"total_max_attempts": 1})
    listed = {row["name"]: row for row in cluster.json("object", "bucket", "list")}
    owner = listed[bucket]["owner"]
    cluster.store("object", "quota", "set", owner, "1MiB", "--objects", "5", "--bucket", bucket)
    shown = cluster.json("object", "quota", "get", owner, "--bucket", bucket)
    assert (shown["quota_enabled"], shown["bytes_max"], shown["objects_max"]) == (True, 1 << 20, 5)
    time.sleep(1.5)
    for n in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x")
    with pytest.raises(ClientError) as e:
        s3.put_object(Bucket=bucket, Key="one-more", Body=b"x")
    assert code(e) == "QuotaExceeded"
    assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    listed = {row["name"]: row for row in cluster.json("object", "bucket", "list", "--owner", owner)}
    assert (listed[bucket]["objects"], listed[bucket]["bytes"]) == (5, 5)
    cluster.store("object", "quota", "unset", owner, "--bucket", bucket)
    time.sleep(1.5)
    s3.put_object(Bucket=bucket, Key="one-more", Body=b"x")

    cluster.store("object", "qos", "set", owner, "--ops", "3", "--bucket", bucket)
    time.sleep(1.5)
    codes = []
    for _ in range(30):
        try:
            s3.head_object(Bucket=bucket, Key="k0")
            codes.append("200")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    # HEAD has no body: the code is the status.
    assert "503" in codes and "200" in codes, codes
    cluster.store("object", "qos", "unset", owner, "--bucket", bucket)
    time.sleep(1.5)
    for _ in range(30):
        s3.head_object(Bucket=bucket, Key="k0")
    assert cluster.store("object", "quota", "get", owner, "--bucket", "none-such", check=False).returncode == 3


def test_events_reach_a_webhook_though_it_was_down(cluster, bucket):
    taken, refused, healthy = [], [], threading.Event()

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            is_well = healthy.is_set()
            (taken if is_well else refused).append(json.loads(body)["Records"][0])
            self.send_response(204 if is_well else 503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with gateway(cluster, "--webhooks", f"hook=http://127.0.0.1:{server.server_port}/") as second:
            second.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={
                "TopicConfigurations": [{
                    "Id": "all", "TopicArn": "arn:aws:sns:us-east-1::hook",
                    "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]})
            # Written through the other gateway, which knows no endpoint: the event is in the cluster.
            s3 = cluster.s3()
            time.sleep(1.5)
            for n in range(20):
                s3.put_object(Bucket=bucket, Key=f"k{n % 4}", Body=bytes([n]))
            second.delete_object(Bucket=bucket, Key="k0")
            # It was tried while the endpoint was down.
            until(lambda: refused, 60)
            healthy.set()
            # Each at least once: what counts is how many there are of different ones.
            told = lambda: {(e["s3"]["object"]["key"], e["s3"]["object"]["sequencer"]) for e in list(taken)}
            until(lambda: len(told()) == 21, 120)
    finally:
        server.shutdown()
    events = [(e["eventName"], e["s3"]["object"]["key"]) for e in taken]
    assert events.count(("ObjectRemoved:Delete", "k0")) >= 1
    for key in ["k0", "k1", "k2", "k3"]:
        order = [e["s3"]["object"]["sequencer"] for e in taken if e["s3"]["object"]["key"] == key]
        first = list(dict.fromkeys(order))
        assert first == sorted(first), key
