#!/usr/bin/env python3
"""Measures a store cluster beside radosgw on three BlueStore daemons, in one run on one machine.

    apt-get install ceph-mon ceph-mgr ceph-osd radosgw ceph-common      # Debian's packages
    tests/bench/radosgw.py --bin target/release [--seconds 10] [--json]

Starts both clusters in a directory of its own (both keep three copies, plain HTTP on loopback), runs the same cases of
`store-bench s3` against one and the other, case by case, and prints what each did and the ratio. Ends what it started.
As root: Ceph's programs want it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

START_SECONDS = 180
BLOCK_BYTES = 20 << 30
# Size in bytes; a case of `store-bench s3` each. What is deleted and listed comes with every run.
SIZES = [4096, 1 << 20, 16 << 20]
KEYS = {"AWS_ACCESS_KEY_ID": "benchbenchbench", "AWS_SECRET_ACCESS_KEY": "benchbenchbenchbenchbench"}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(what, test, process=None):
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process is not None and process.poll() is not None:
            sys.exit(f"{what}: ended with {process.returncode}")
        if test():
            return
        time.sleep(0.2)
    sys.exit(f"{what}: not there after {START_SECONDS} s")


def is_open(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Processes:
    """What was started, in order; it ends with `stack`."""

    def __init__(self, directory, stack):
        self.directory = directory
        self.all = []
        stack.callback(self.end)

    def start(self, name, command, **options):
        log = open(self.directory / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)
        self.all.append((name, process))
        return process

    def pids(self, path):
        path.write_text("".join(f"{name} 0 {process.pid}\n" for name, process in self.all))
        return path

    def end(self):
        for _, process in reversed(self.all):
            process.send_signal(signal.SIGTERM)
        for _, process in self.all:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Ceph:
    """A cluster of one monitor, one manager, three BlueStore daemons and a gateway."""

    name = "radosgw"

    def __init__(self, directory, stack):
        directory.mkdir()
        self.processes = Processes(directory, stack)
        self.conf = directory / "ceph.conf"
        self.port = free_port()
        monitor, fsid = free_port(), str(uuid.uuid4())
        self.conf.write_text(
            f"""[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor}]
public_network = 127.0.0.0/8
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
run_dir = {directory}
admin_socket = {directory}/$name.asok
log_file = {directory}/$name.ceph.log
mon_data = {directory}/mon.$id
mgr_data = {directory}/mgr.$id
osd_data = {directory}/osd.$id
osd_objectstore = bluestore
bluestore_block_size = {BLOCK_BYTES}
osd_pool_default_size = 3
osd_pool_default_min_size = 2
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_data_avail_warn = 1
mon_data_avail_crit = 1
"""
        )
        monmap = str(directory / "monmap")
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor}]", monmap)
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self.processes.start("mon", self.command("ceph-mon", "-i", "a", "-f"))
        wait_for("ceph-mon", lambda: self.ceph("-s", check=False) is not None)
        (directory / "mgr.a").mkdir()
        self.processes.start("mgr", self.command("ceph-mgr", "-i", "a", "-f"))
        for n in range(3):
            own = str(uuid.uuid4())
            self.ceph("osd", "new", own, str(n))
            (directory / f"osd.{n}").mkdir()
            self.run("ceph-osd", "-i", str(n), "--mkfs", "--osd-uuid", own)
            self.processes.start(f"osd{n}", self.command("ceph-osd", "-i", str(n), "-f"))
        wait_for("ceph-osd", lambda: json.loads(self.ceph("osd", "stat", "-f", "json"))["num_up_osds"] == 3)
        front = f"beast endpoint=127.0.0.1:{self.port}"
        gateway = self.command("radosgw", "-n", "client.rgw.a", "-f", "--rgw-frontends", front)
        process = self.processes.start("radosgw", gateway)
        wait_for("radosgw", lambda: is_open(self.port), process)
        self.run(
            "radosgw-admin", "user", "create", "--uid", "bench", "--display-name", "bench", "--access-key",
            KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_DEFAULT_REGION": "default"}
        self.pids = self.processes.pids(directory / "pids")

    def command(self, program, *arguments):
        return [program, "-c", str(self.conf), *arguments]

    def run(self, program, *arguments, check=True):
        done = subprocess.run(self.command(program, *arguments), capture_output=True, text=True, timeout=START_SECONDS)
        if done.returncode != 0 and check:
            sys.exit(f"{program} {' '.join(arguments)}: {done.stderr}")
        return done.stdout if done.returncode == 0 else None

    def ceph(self, *arguments, check=True):
        return self.run("ceph", "--connect-timeout", "5", *arguments, check=check)


class Store:
    """`store up --processes`: one monitor, three daemons, one gateway."""

    name = "store"

    def __init__(self, directory, stack, programs):
        directory.mkdir()
        self.processes = Processes(directory, stack)
        data = directory / "data"
        process = self.processes.start("up", [programs / "store", "up", "--dir", data, "--processes"])
        self.pids = data / "pids"
        settings = data / "store.env"
        # It is there only while the cluster is ready.
        wait_for("store up", settings.exists, process)
        lines = (line.removeprefix("export ").split("=", 1) for line in settings.read_text().splitlines() if "=" in line)
        self.environment = {name: value.strip("'\"") for name, value in lines}


def measure(cluster, programs, seconds, size):
    command = [
        programs / "store-bench", "--pids", cluster.pids, "--seconds", str(seconds), "--clients", "16",
        "--sizes", str(size), "s3",
    ]
    done = subprocess.run(command, env={**os.environ, **cluster.environment}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{cluster.name}: {done.stderr}")
    return {(line["case"], line["size_bytes"]): line for line in map(json.loads, done.stdout.splitlines())}


MULTIPART = """
import boto3, sys, time, os
from boto3.s3.transfer import TransferConfig
s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
name = f"multipart-{os.getpid()}"
s3.create_bucket(Bucket=name)
config = TransferConfig(multipart_chunksize=8 << 20, max_concurrency=10)
times = []
for n in range(3):
    began = time.monotonic()
    s3.upload_file(sys.argv[1], name, f"big{n}", Config=config)
    times.append(time.monotonic() - began)
print(sorted(times)[1])
"""


def multipart(cluster, python, path):
    environment = {**os.environ, **cluster.environment}
    done = subprocess.run([python, "-c", MULTIPART, path], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{cluster.name}: {done.stderr}")
    seconds = float(done.stdout)
    return {"case": "boto3 multipart", "size_bytes": 256 << 20, "ops_per_second": 1 / seconds, "p99_us": seconds * 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="directory of store and store-bench")
    parser.add_argument("--seconds", type=int, default=10, help="for each case")
    parser.add_argument("--python", default=sys.executable, help="one that has boto3, for the multipart case")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    missing = [name for name in ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)}: not installed; apt-get install ceph-mon ceph-mgr ceph-osd radosgw ceph-common")
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="store-bench-")))
        clusters = [Store(directory / "store", stack, arguments.bin), Ceph(directory / "ceph", stack)]
        rows = []
        for size in SIZES:
            pair = [measure(cluster, arguments.bin, arguments.seconds, size) for cluster in clusters]
            # What is deleted and listed is of one size: once is enough.
            cases = [case for case in pair[0] if case[1] == size or size == SIZES[0]]
            rows += [(pair[0][case], pair[1][case]) for case in cases]
        big = directory / "big"
        big.write_bytes(os.urandom(256 << 20))
        rows.append(tuple(multipart(cluster, arguments.python, str(big)) for cluster in clusters))
    if arguments.json:
        print(json.dumps([{"store": ours, "radosgw": theirs} for ours, theirs in rows]))
        return
    print(f"{'case':16} {'bytes':>10} {'store/s':>10} {'radosgw/s':>10} {'ratio':>7} {'p99 ratio':>9} {'MiB':>12}")
    for ours, theirs in rows:
        memory = f"{ours.get('cluster_resident_mib') or 0:.0f}/{theirs.get('cluster_resident_mib') or 0:.0f}"
        print(
            f"{ours['case']:16} {ours['size_bytes']:10} {ours['ops_per_second']:10.1f} {theirs['ops_per_second']:10.1f}"
            f" {ours['ops_per_second'] / max(theirs['ops_per_second'], 1e-9):7.2f}"
            f" {ours['p99_us'] / max(theirs['p99_us'], 1e-9):9.3f} {memory:>12}"
        )


if __name__ == "__main__":
    main()
