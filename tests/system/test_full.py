"""A cluster filled to the brim through S3: what was acknowledged stays, deletes go, and room comes back by itself.

Afterwards the offline check finds nothing wrong in any daemon's directory, and its list of what the copies hold
agrees with what clients have.
"""

import hashlib
import json
import random
import subprocess
import threading
import time

import botocore.exceptions
from conftest import BIN

CAPACITY = "96MiB"
WRITERS = 4
# So many refusals one after the other are the hard stop.
REFUSALS = 5
FILL_SECONDS_MAX = 45
WRITABLE_SECONDS_MAX = 60
SIZES = (2_000, 30_000, 200_000, 900_000)


def client(cluster):
    return cluster.s3(retries={"total_max_attempts": 1}, read_timeout=30)


def put(s3, key, body):
    """None: acknowledged. Else the status and code of the refusal."""
    try:
        s3.put_object(Bucket="full", Key=key, Body=body)
        return None
    except botocore.exceptions.ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def fill(cluster, seed):
    """Writes until nothing goes any more; what was acknowledged, and every refusal."""
    kept, refused, errors = {}, set(), []
    deadline = time.monotonic() + FILL_SECONDS_MAX

    def write(writer):
        try:
            s3, chance, row, number = client(cluster), random.Random(f"{seed} {writer}"), 0, 0
            while row < REFUSALS:
                assert time.monotonic() < deadline, "the cluster does not become full"
                number += 1
                key, body = f"{seed}/{writer}/{number}", chance.randbytes(chance.choice(SIZES))
                refusal = put(s3, key, body)
                if refusal is None:
                    kept[key], row = body, 0
                else:
                    refused.add(refusal)
                    row += 1
                    time.sleep(0.2)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return kept, refused


def verify(s3, kept):
    for key, body in kept.items():
        got = s3.get_object(Bucket="full", Key=key)["Body"].read()
        assert got == body, f"{key} came back wrong"


def fsck(directory, *flags):
    done = subprocess.run([BIN / "store-daemon", "fsck", "--json", *flags, directory],
                          capture_output=True, timeout=120)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def test_a_full_cluster_deletes_and_is_writable_again(make_cluster):
    cluster = make_cluster("--processes", "--capacity", CAPACITY).up()
    pids = cluster.pids()
    s3 = client(cluster)
    s3.create_bucket(Bucket="full")
    kept, refused = fill(cluster, "first")
    stored = sum(map(len, kept.values()))
    assert refused == {(507, "InsufficientStorage")}, refused
    assert stored > 40 << 20, f"only {stored} bytes fitted"
    verify(s3, kept)

    gone = sorted(kept)[::3]
    deleted = 0
    for key in gone:
        s3.delete_object(Bucket="full", Key=key)
        deleted += len(kept.pop(key))
    # Writable means: as much as half of what was deleted.
    began, chance, fresh, number = time.monotonic(), random.Random(7), 0, 0
    first = None
    while fresh < deleted // 2:
        passed = time.monotonic() - began
        assert passed < WRITABLE_SECONDS_MAX, f"{fresh} of {deleted // 2} bytes after {passed:.0f} s"
        number += 1
        key, body = f"again/{number}", chance.randbytes(chance.choice(SIZES))
        if put(s3, key, body) is None:
            first = first or passed
            kept[key] = body
            fresh += len(body)
        else:
            time.sleep(0.2)
    print(f"{stored} bytes fitted, {deleted} deleted; writable after {first:.1f} s, "
          f"{fresh} bytes more after {time.monotonic() - began:.1f} s")
    verify(s3, kept)
    assert cluster.pids() == pids, "nothing was restarted"

    assert cluster.stop() == 0
    held = set()
    for number in range(3):
        status, found = fsck(cluster.dir / f"daemon.{number}", "--list", "--staged")
        assert (status, found["findings"]) == (0, []), found["findings"]
        held |= {one["data"] for one in found["objects"]}
    # Whole objects of their own, neither in an index nor cut in pieces, are in every copy as they are.
    whole = [body for body in kept.values() if 100_000 < len(body)]
    assert whole and all(hashlib.sha256(body).hexdigest() in held for body in whole)
