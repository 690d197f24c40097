"""A real cluster of processes for each test that wants one, on ports and in a directory of its own.

`STORE_TEST_BIN` names the folder with the programs under test. A test that fails leaves its directory and
says where it is.
"""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import time

import boto3
import pytest
from botocore.config import Config

BIN = pathlib.Path(os.environ.get("STORE_TEST_BIN", "target/release")).resolve()
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30


class Cluster:
    """`store up` and what a user does with it."""

    def __init__(self, directory, *flags):
        self.dir = pathlib.Path(directory)
        self.flags = flags
        self.process = None
        self.env = {}

    def up(self):
        """Starts it, and waits for store.env, which says that it is ready."""
        # A killed cluster leaves its file; what appears now is of this start.
        (self.dir / "store.env").unlink(missing_ok=True)
        self.log = open(self.dir.parent / f"{self.dir.name}.log", "ab")
        self.process = subprocess.Popen(
            [BIN / "store", "up", "--dir", self.dir, "--ports", "auto", *self.flags],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (self.dir / "store.env").exists():
            assert self.process.poll() is None, f"store up ended:\n{self.output()}"
            assert time.monotonic() < deadline, f"not ready in {START_SECONDS_MAX} s:\n{self.output()}"
            time.sleep(0.02)
        lines = (self.dir / "store.env").read_text().splitlines()
        self.env = dict(line.split("=", 1) for line in lines if "=" in line)
        self.env = {key: shlex.split(value)[0] if value else "" for key, value in self.env.items()}
        return self

    def output(self):
        return (self.dir.parent / f"{self.dir.name}.log").read_text(errors="replace")[-4000:]

    def environ(self):
        return {**os.environ, **self.env}

    def store(self, *words, check=True, timeout=120, input=None):
        """Runs the command `store` as a user would who loaded store.env."""
        done = subprocess.run([BIN / "store", *words], env=self.environ(), input=input,
                              capture_output=True, timeout=timeout)
        if check:
            assert done.returncode == 0, f"store {words}: {done.stderr.decode()}"
        return done

    def json(self, *words):
        return json.loads(self.store(*words, "--json").stdout)

    def run(self, *words, timeout=600, **more):
        """Runs a real client with the environment loaded."""
        env = {**self.environ(), **more.pop("env", {})}
        env.pop("AWS_CA_BUNDLE", None)  # The cluster speaks plain HTTP; rclone fails on the mere variable.
        done = subprocess.run([str(w) for w in words], env=env,
                              capture_output=True, timeout=timeout, **more)
        assert done.returncode == 0, f"{words}: {done.stderr.decode()[-3000:]}"
        return done.stdout.decode()

    def pids(self):
        """role.id → pid, of `--processes`."""
        rows = [line.split() for line in (self.dir / "pids").read_text().splitlines()]
        return {f"{role}.{name}": int(pid) for role, name, pid in rows}

    def kill(self, role):
        os.kill(self.pids()[role], signal.SIGKILL)

    def start_role(self, role):
        name, number = role.split(".")
        self.store("role", "start", name, number, "--dir", str(self.dir))

    def s3(self, **config):
        """A boto3 client with its default retries."""
        return boto3.client(
            "s3", endpoint_url=self.env["AWS_ENDPOINT_URL"],
            region_name=self.env["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}, **config))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS_MAX)
        return self.process.returncode if self.process else None

    def kill_all(self):
        """Everything at once, with no chance to tidy up."""
        pids = list(self.pids().values()) if (self.dir / "pids").exists() else []
        for pid in [self.process.pid, *pids]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(STOP_SECONDS_MAX)

    def destroy(self):
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise AssertionError(f"did not stop within {STOP_SECONDS_MAX} s:\n{self.output()}")


@pytest.fixture
def make_cluster(tmp_path):
    """Makes clusters that end with the test."""
    made = []

    def make(*flags, name="cluster"):
        cluster = Cluster(tmp_path / name, *flags)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.destroy()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One cluster for all tests of a file that do no harm to it."""
    shared = Cluster(tmp_path_factory.mktemp("shared") / "cluster").up()
    yield shared
    shared.destroy()


@pytest.fixture
def bucket(cluster, request):
    """A bucket of the test's own."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "").lower()[:60].strip("-.")
    cluster.s3().create_bucket(Bucket=name)
    return name
