"""Bits that flip on a medium while nobody looks: reads stay right, a deep scrub finds and repairs every one, and
health says so until the repair was looked at again."""

import json
import pathlib
import random
import subprocess
import time

import pytest
from conftest import BIN

# Bodies that lie with the index, and that have extents of their own.
SIZES = [500, 3_000, 9_000, 40_000, 70_000, 300_000, 1_500_000, 5_000_000]
OBJECTS = 80
# Objects of a pool without a gateway: packed into the log with others.
RAW_SIZES = [60, 500, 3_000, 9_000]
RAW_OBJECTS = 40
FLIPS = 20
SCRUB_SECONDS_MAX = 120


def fsck(directory, *flags):
    """The offline check: its status and what it says."""
    words = [BIN / "store-daemon", "fsck", "--json", *flags, directory]
    done = subprocess.run(words, capture_output=True, timeout=300)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def bytes_places(listing):
    """Where bytes of objects lie in the file: offset, length, whether packed in the log."""
    places = []
    for thing in listing["objects"]:
        for place in thing["places"]:
            if place["file"] is not None and place["length"] > 0:
                places.append((place["file"], place["length"], place["in"] == "log"))
    return places


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x04]))


def until(what, holds, seconds=SCRUB_SECONDS_MAX):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def well(cluster):
    return cluster.json("health")["status"] == "HEALTH_OK"


@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_a_deep_scrub_finds_and_repairs_flipped_bits(make_cluster, ending):
    cluster = make_cluster("--processes", "--daemons", "4").up()
    s3 = cluster.s3()
    s3.create_bucket(Bucket="rot")
    chance = random.Random(7)
    bodies = {f"object-{n}": chance.randbytes(SIZES[n % len(SIZES)]) for n in range(OBJECTS)}
    for key, body in bodies.items():
        s3.put_object(Bucket="rot", Key=key, Body=body)
    cluster.store("pool", "create", "raw", "--pg-num", "8")
    raw = {f"raw-{n}": chance.randbytes(RAW_SIZES[n % len(RAW_SIZES)]) for n in range(RAW_OBJECTS)}
    for name, body in raw.items():
        cluster.store("object", "put", "raw", name, "-", input=body)
    until("the cluster is not well to begin with", lambda: well(cluster))

    if ending == "stopped":
        # Leaves everything in its place, and nothing to be replayed from the log.
        cluster.store("role", "stop", "daemon", "1", "--dir", str(cluster.dir))
    else:
        # What is only in the log is harmed there.
        cluster.kill("daemon.1")
    until("the daemon does not end", lambda: "daemon.1" not in alive(cluster), 30)
    directory = cluster.dir / "daemon.1"
    status, listing = fsck(directory, "--list")
    assert status == 0, listing["findings"]
    places = bytes_places(listing)
    packed = [place for place in places if place[2]]
    apart = [place for place in places if not place[2]]
    half = min(FLIPS // 2, len(packed))
    assert ending == "stopped" or packed, "nothing is in the log"
    assert len(apart) >= FLIPS - half, f"{len(packed)} places in the log, {len(apart)} in extents"
    chosen = chance.sample(packed, half) + chance.sample(apart, min(FLIPS - half, len(apart)))
    for offset, length, _ in chosen:
        flip(directory / "data", offset + chance.randrange(length))
    status, listing = fsck(directory)
    assert status == 4, "the offline check does not see what was flipped"
    damaged = sum(pg["damaged"] for pg in listing["pgs"])
    assert damaged > 0

    cluster.start_role("daemon.1")
    until("the daemon does not come back", lambda: well(cluster))
    for key, body in bodies.items():
        assert s3.get_object(Bucket="rot", Key=key)["Body"].read() == body, f"{key} came back wrong"
    for name, body in raw.items():
        assert cluster.store("object", "get", "raw", name).stdout == body, f"{name} came back wrong"
    time.sleep(3)

    cluster.store("scrub", "start", "--deep")
    seen, ended = set(), False
    deadline = time.monotonic() + SCRUB_SECONDS_MAX
    while not ended:
        assert time.monotonic() < deadline, cluster.json("scrub", "status")
        seen.add(cluster.json("health")["status"])
        status = cluster.json("scrub", "status")
        ended = not status["orders"] and status["state"] == "idle"
        time.sleep(0.1)
    errors = cluster.json("scrub", "status")["errors"]
    read = cluster.json("health", "detail")["checks"].get("OSD_DAMAGED")
    print(f"flipped {len(chosen)}, damaged objects {damaged}, scrub {errors}, reads {read}")
    assert errors["unrepaired"] == 0 and errors["lost"] == 0
    assert errors["found"] == errors["repaired"]
    # What reads of clients found first is repaired by them; the scrub has the rest.
    assert errors["found"] > 0 and seen - {"HEALTH_OK"}, (errors, seen)
    cluster.store("wait", "health=ok", timeout=120)
    audit = cluster.json("audit", "redundancy")
    assert audit["all_full_and_verified"], audit

    cluster.store("role", "stop", "daemon", "1", "--dir", str(cluster.dir))
    until("the daemon does not end", lambda: "daemon.1" not in alive(cluster), 30)
    status, listing = fsck(directory)
    assert status == 0, listing["findings"]


def alive(cluster):
    return {role for role, pid in cluster.pids().items() if pathlib.Path(f"/proc/{pid}").exists()}
