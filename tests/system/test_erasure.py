"""Buckets on an erasure-coded pool: a daemon that is killed costs no read and no write, what it missed is made
anew, and a deep scrub rebuilds shards with flipped bits."""

import random
import time

from test_scrub import alive, bytes_places, flip, fsck, until, well

# Below and above what the gateway keeps with the index; parts of stripes, and several objects each.
SIZES = [500, 70_000, 150_001, 1_000_000, 5_000_000, 9_500_123]
OBJECTS = 36
FLIPS = 12
SCRUB_SECONDS_MAX = 120


def make(make_cluster, daemons, k, m):
    cluster = make_cluster("--processes", "--daemons", str(daemons)).up()
    cluster.store("pool", "create", "shards", "--type", "erasure", "--ec-data-chunks", str(k),
                  "--ec-coding-chunks", str(m), "--pg-num", "8")
    cluster.store("s3", "placement", "set", "ec", "--data-pool", "shards")
    until("the pool is not whole", lambda: well(cluster))
    s3 = cluster.s3()
    s3.create_bucket(Bucket="coded", CreateBucketConfiguration={"LocationConstraint": ":ec"})
    return cluster, s3


def fill(s3, chance, generation):
    bodies = {}
    for n in range(OBJECTS):
        key = f"{generation}/object-{n}"
        bodies[key] = chance.randbytes(SIZES[n % len(SIZES)])
        s3.put_object(Bucket="coded", Key=key, Body=bodies[key])
    return bodies


def check(s3, bodies):
    for key, body in bodies.items():
        assert s3.get_object(Bucket="coded", Key=key)["Body"].read() == body, f"{key} came back wrong"


def pool_bytes(cluster, name):
    return next(p for p in cluster.json("df")["pools"] if p["name"] == name)["stats"]


def test_a_daemon_killed_under_a_coded_bucket(make_cluster):
    cluster, s3 = make(make_cluster, 5, 3, 2)
    chance = random.Random(11)
    bodies = fill(s3, chance, "before")
    check(s3, bodies)
    cluster.kill("daemon.1")
    # At once, while nobody knows yet, and when all do.
    check(s3, dict(list(bodies.items())[:6]))
    time.sleep(6)
    check(s3, bodies)
    bodies |= fill(s3, chance, "without")
    check(s3, bodies)
    cluster.start_role("daemon.1")
    cluster.store("wait", "health=ok", "--timeout", "120")
    # What was rebuilt carries its part: two others may go.
    cluster.kill("daemon.0")
    cluster.kill("daemon.3")
    time.sleep(6)
    check(s3, bodies)
    for daemon in ("daemon.0", "daemon.3"):
        cluster.start_role(daemon)
    cluster.store("wait", "health=ok", "--timeout", "120")
    check(s3, bodies)
    stats = pool_bytes(cluster, "shards")
    assert stats["stored"] > 0
    assert stats["bytes_used"] == stats["stored"] * 5 // 3, stats


def test_a_deep_scrub_rebuilds_shards(make_cluster):
    cluster, s3 = make(make_cluster, 4, 2, 1)
    chance = random.Random(13)
    bodies = fill(s3, chance, "rot")
    until("the cluster is not well to begin with", lambda: well(cluster))
    cluster.store("role", "stop", "daemon", "1", "--dir", str(cluster.dir))
    until("the daemon does not end", lambda: "daemon.1" not in alive(cluster), 30)
    directory = cluster.dir / "daemon.1"
    status, listing = fsck(directory, "--list")
    assert status == 0, listing["findings"]
    pool = next(p for p in cluster.json("pool", "ls", "--detail") if p["pool_name"] == "shards")
    coded = [o for o in listing["objects"] if str(o["pg"]).startswith(f"{pool['pool_id']}.")]
    places = [place for place in bytes_places({"objects": coded}) if not place[2]]
    assert len(places) >= FLIPS, f"{len(places)} places of shards"
    for offset, length, _ in chance.sample(places, FLIPS):
        flip(directory / "data", offset + chance.randrange(length))
    status, _ = fsck(directory)
    assert status == 4, "the offline check does not see what was flipped"
    cluster.start_role("daemon.1")
    until("the daemon does not come back", lambda: well(cluster))
    check(s3, bodies)
    # The warning of what these reads found ends with a scrub that begins later, by the second.
    time.sleep(3)
    cluster.store("scrub", "start", "--deep")
    deadline = time.monotonic() + SCRUB_SECONDS_MAX
    while True:
        status = cluster.json("scrub", "status")
        if not status["orders"] and status["state"] == "idle":
            break
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    errors = status["errors"]
    assert errors["unrepaired"] == 0 and errors["lost"] == 0, errors
    assert errors["found"] == errors["repaired"], errors
    print(f"scrub {errors}, health {cluster.json('health', 'detail')['checks']}")
    until("not well after the scrub", lambda: well(cluster))
    check(s3, bodies)
    cluster.store("role", "stop", "daemon", "1", "--dir", str(cluster.dir))
    until("the daemon does not end", lambda: "daemon.1" not in alive(cluster), 30)
    status, listing = fsck(directory)
    assert status == 0, listing["findings"]
