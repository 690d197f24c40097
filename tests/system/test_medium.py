"""What a medium does to bytes behind the daemon's back, and what long streams do to memory."""

import hashlib
import mmap
import os
import random
import threading
import time

import boto3.s3.transfer

OBJECTS = 24
REPORT_SECONDS_MAX = 30
STREAM_BYTES = 1 << 30
# The whole cluster's, with one stream in and one out; `gateway/README.md` and `daemon/README.md` state the parts.
RESIDENT_BYTES_MAX = 1 << 30


def flip_a_bit(path, piece):
    """Turns one bit in the first place of the file where `piece` stands. False: it stands nowhere."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as medium:
        at = medium.find(piece)
        if at < 0:
            return False
        medium[at + len(piece) // 2] ^= 0x10
        medium.flush()
        os.fsync(file.fileno())
        return True


def test_flipped_bits_are_served_from_another_replica(make_cluster):
    cluster = make_cluster("--processes").up()
    s3 = cluster.s3()
    s3.create_bucket(Bucket="rot")
    chance = random.Random(2)
    bodies = {f"object-{n}": chance.randbytes((100_000, 900_000, 3_000_000)[n % 3]) for n in range(OBJECTS)}
    for key, body in bodies.items():
        s3.put_object(Bucket="rot", Key=key, Body=body)
    # Every object loses a bit on one daemon: a third of them on the one that answers for it.
    data = cluster.dir / "daemon.0" / "data"
    flipped = sum(flip_a_bit(data, body[50_000:50_064]) for body in bodies.values())
    assert flipped == OBJECTS, "the bytes were not found where they should be"
    for key, body in bodies.items():
        got = s3.get_object(Bucket="rot", Key=key)["Body"].read()
        assert got == body, f"{key} came back wrong"
    # Whatever was read was mended on the medium: the others may go, and it still reads right.
    for key, body in bodies.items():
        assert s3.get_object(Bucket="rot", Key=key)["Body"].read() == body
    # Health tells, with the next report of the daemon.
    deadline = time.monotonic() + REPORT_SECONDS_MAX
    while "OSD_DAMAGED" not in cluster.json("health", "detail")["checks"]:
        assert time.monotonic() < deadline, cluster.json("health", "detail")
        time.sleep(0.5)


def resident_bytes(cluster):
    total = 0
    for pid in cluster.pids().values():
        fields = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
        total += int(fields["VmRSS"].split()[0]) << 10
    return total


class Stream:
    """A body that is never in memory: the same block over and over, each with its number."""

    def __init__(self, size):
        self.left, self.block, self.number = size, os.urandom(1 << 16), 0
        self.digest = hashlib.md5()

    def read(self, size=-1):
        size = self.left if size < 0 else min(size, self.left)
        out = bytearray()
        while len(out) < size:
            self.number += 1
            out += self.number.to_bytes(8, "big") + self.block
        out = bytes(out[:size])
        self.left -= len(out)
        self.digest.update(out)
        return out


class Sink:
    def __init__(self):
        self.digest = hashlib.md5()

    def write(self, data):
        self.digest.update(data)
        return len(data)


def test_memory_is_bounded_while_streams_go_in_and_out(make_cluster):
    cluster = make_cluster("--processes").up()
    s3 = cluster.s3()
    s3.create_bucket(Bucket="long")
    # One thread each way: parts and pieces then come in order.
    config = boto3.s3.transfer.TransferConfig(use_threads=False)
    first = Stream(STREAM_BYTES)
    s3.upload_fileobj(first, "long", "first", Config=config)
    second, sink, errors = Stream(STREAM_BYTES), Sink(), []

    def guarded(work):
        try:
            work()
        except Exception as error:
            errors.append(error)

    def up():
        cluster.s3().upload_fileobj(second, "long", "second", Config=config)

    def down():
        for piece in cluster.s3().get_object(Bucket="long", Key="first")["Body"].iter_chunks(1 << 20):
            sink.write(piece)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (up, down)]
    for thread in threads:
        thread.start()
    largest = 0
    while any(thread.is_alive() for thread in threads):
        largest = max(largest, resident_bytes(cluster))
        threads[0].join(0.2)
        threads[1].join(0.01)
    assert not errors, errors
    assert sink.digest.digest() == first.digest.digest()
    sink = Sink()
    for piece in s3.get_object(Bucket="long", Key="second")["Body"].iter_chunks(1 << 20):
        sink.write(piece)
    assert sink.digest.digest() == second.digest.digest()
    assert largest < RESIDENT_BYTES_MAX, f"{largest >> 20} MiB resident"
    print(f"at most {largest >> 20} MiB resident")
