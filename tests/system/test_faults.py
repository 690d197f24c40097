"""Loss of daemons, and of everything, under load: nothing acknowledged is lost, no client sees an error."""

import hashlib
import os
import signal
import threading
import time

import pytest


def body(key, generation):
    """The bytes of one generation of a key: any mixture or loss shows."""
    size = (100, 4096, 40_000, 3_000_000)[hash(key) % 4] if key.startswith("mixed") else 4096
    seed = hashlib.sha256(f"{key}/{generation}".encode()).digest()
    return (seed * (size // 32 + 1))[:size]


class Load:
    """Writers that each own some keys and overwrite, read back and delete them."""

    def __init__(self, cluster, bucket, writers=4):
        self.cluster, self.bucket = cluster, bucket
        self.stopping = threading.Event()
        self.acknowledged = {}  # key → generation, or None for deleted
        self.unsure = {}        # key → what was under way when the cluster went down
        self.errors = []
        self.operations = 0
        self.longest = 0.0
        self.tolerant = False
        self.threads = [threading.Thread(target=self.write, args=(w,)) for w in range(writers)]
        for thread in self.threads:
            thread.start()

    def write(self, writer):
        s3 = self.cluster.s3()
        generation = 0
        while not self.stopping.is_set():
            generation += 1
            key = f"{'mixed' if generation % 10 == 0 else 'small'}/{writer}/{generation % 50}"
            began = time.monotonic()
            try:
                if generation % 17 == 0:
                    self.unsure[key] = None
                    s3.delete_object(Bucket=self.bucket, Key=key)
                    self.acknowledged[key] = None
                else:
                    self.unsure[key] = generation
                    s3.put_object(Bucket=self.bucket, Key=key, Body=body(key, generation))
                    self.acknowledged[key] = generation
                    if generation % 3 == 0:
                        got = s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                        assert got == body(key, generation), f"{key}: read back something else"
                del self.unsure[key]
                self.operations += 1
                self.longest = max(self.longest, time.monotonic() - began)
            except Exception as error:
                if not self.tolerant:
                    self.errors.append(f"{key} #{generation}: {error!r}")
                return

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs"

    def check(self):
        """Every key reads as its last acknowledged write says, or as one that was under way says."""
        s3 = self.cluster.s3()
        wrong = []
        for key in sorted(self.acknowledged.keys() | self.unsure.keys()):
            may = [self.acknowledged.get(key)] + ([self.unsure[key]] if key in self.unsure else [])
            try:
                got = s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                if got not in [body(key, g) for g in may if g is not None]:
                    wrong.append(f"{key}: not generation {may}")
            except s3.exceptions.NoSuchKey:
                if None not in may:
                    wrong.append(f"{key}: gone, should be generation {may}")
        assert not wrong, wrong[:5]
        return len(self.acknowledged)


@pytest.mark.parametrize("victim", ["daemon.0", "daemon.1"])
def test_a_daemon_killed_under_load_and_started_again(make_cluster, victim):
    cluster = make_cluster("--processes").up()
    cluster.s3().create_bucket(Bucket="load")
    load = Load(cluster, "load")
    time.sleep(5)
    cluster.kill(victim)
    time.sleep(8)
    cluster.start_role(victim)
    time.sleep(8)
    load.stop()
    assert not load.errors, load.errors
    assert load.operations > 100
    keys = load.check()
    cluster.store("wait", "health=ok", "--timeout", "60")
    status = cluster.json("status")
    states = status["pgmap"]["pgs_by_state"]
    assert {s["state_name"] for s in states} == {"active+clean"}, states
    print(f"{load.operations} operations on {keys} keys, longest {load.longest:.2f} s")


def test_a_daemon_that_stands_still_under_load(make_cluster):
    """It answers nothing, and its sockets stay open: the worse half of a partition."""
    cluster = make_cluster("--processes").up()
    cluster.s3().create_bucket(Bucket="load")
    load = Load(cluster, "load")
    time.sleep(2)
    still = cluster.pids()["daemon.1"]
    os.kill(still, signal.SIGSTOP)
    time.sleep(15)
    before = load.operations
    time.sleep(5)
    went_on = load.operations - before
    os.kill(still, signal.SIGCONT)
    time.sleep(3)
    load.stop()
    assert not load.errors, load.errors
    assert went_on > 0, "nothing was written while one daemon stood still"
    load.check()
    cluster.store("wait", "health=ok", "--timeout", "60")
    load.check()


def test_every_daemon_killed_in_turn(make_cluster):
    cluster = make_cluster("--processes").up()
    cluster.s3().create_bucket(Bucket="load")
    load = Load(cluster, "load", writers=2)
    for daemon in ("daemon.0", "daemon.1", "daemon.2"):
        time.sleep(1)
        cluster.kill(daemon)
        time.sleep(2)
        cluster.start_role(daemon)
        cluster.store("wait", "health=ok", "--timeout", "90")
    load.stop()
    assert not load.errors, load.errors
    load.check()


def test_everything_killed_under_load_and_started_again(make_cluster):
    cluster = make_cluster("--processes").up()
    cluster.s3().create_bucket(Bucket="load")
    load = Load(cluster, "load")
    time.sleep(5)
    load.tolerant = True
    cluster.kill_all()
    load.stop()
    assert load.operations > 100
    cluster.up()
    cluster.store("wait", "health=ok", "--timeout", "60")
    load.check()
