"""What people keep their data with, on both protocols, while a daemon is killed and returns.

Each test lets its clients work round after round, side by side: a daemon is killed in the first rounds and started
again some seconds later, and the rounds go on until it is back. No client may fail. Then every byte is read back with
the same client and compared, while the cluster recovers; at the end the cluster must be clean.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from conftest import Cluster
from test_clients import same, tree

MIB = 1 << 20
# When the daemon is killed, counted from the beginning of the work, and how long it is away.
KILL_AFTER_SECONDS = 0.5
AWAY_SECONDS = 4
CLEAN_SECONDS_MAX = 90
BACK_SECONDS_MAX = 60
FILES = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Processes that can be killed, shared by the tests of this file."""
    shared = Cluster(tmp_path_factory.mktemp("shared") / "cluster", "--processes").up()
    yield shared
    shared.destroy()


class Loss:
    """A daemon that is killed, and comes back."""

    def __init__(self, cluster, victim):
        self.cluster, self.victim = cluster, victim
        self.back = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            time.sleep(KILL_AFTER_SECONDS)
            killed = self.cluster.pids()[self.victim]
            self.cluster.kill(self.victim)
            time.sleep(AWAY_SECONDS)
            self.cluster.start_role(self.victim)
            assert self.cluster.pids()[self.victim] != killed, "it was not away"
        except Exception as error:  # Told by the test, not by a thread.
            self.error = error
        finally:
            self.back.set()


def work_through_a_loss(cluster, victim, jobs):
    """Every job works until the daemon is back, and once more; then each looks at what it has."""
    loss = Loss(cluster, victim)

    def work(job):
        rounds, deadline = 0, time.monotonic() + BACK_SECONDS_MAX
        while rounds < 2 or not loss.back.is_set():
            assert time.monotonic() < deadline, "the daemon does not come back"
            job.round(rounds)
            rounds += 1
        job.round(rounds)
        job.finish()
        return rounds + 1

    try:
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            done = [pool.submit(work, job) for job in jobs]
            rounds = [one.result() for one in done]
    finally:
        loss.thread.join()
    assert loss.error is None, loss.error
    cluster.store("wait", "health=ok", "--timeout", str(CLEAN_SECONDS_MAX))
    states = {s["state_name"] for s in cluster.json("status")["pgmap"]["pgs_by_state"]}
    assert states == {"active+clean"}, states
    print(f"rounds: {rounds}")


class Job:
    """A client at work on a folder: what the folder holds changes from round to round."""

    def __init__(self, cluster, folder, files=FILES):
        self.cluster, self.folder = cluster, pathlib.Path(folder)
        self.source, self.back = self.folder / "source", self.folder / "back"
        self.source.mkdir(parents=True)
        self.began = int(time.time())
        tree(self.source, files)

    def change(self, n):
        """Something new, something replaced, something gone."""
        (self.source / f"new {n}").write_bytes(os.urandom(100_000 * (n % 3 + 1)))
        (self.source / "replaced").write_bytes(os.urandom(3 * MIB if n % 2 else 1000))
        # Duplicity tells versions of a file apart by whole seconds, and a round may take less than one.
        os.utime(self.source / "replaced", (self.began + n, self.began + n))
        (self.source / f"new {n - 2}").unlink(missing_ok=True)

    def fresh(self):
        shutil.rmtree(self.back, ignore_errors=True)
        return self.back


# --- restic ----------------------------------------------------------------------------------------


class Restic(Job):
    def __init__(self, cluster, folder, repository):
        super().__init__(cluster, folder)
        self.env = {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": "secret"}

    def restic(self, *words, **more):
        return self.cluster.run("restic", "--no-cache", *words, env=self.env, **more)

    def round(self, n):
        if n == 0:
            self.restic("init")
        self.change(n)
        self.restic("backup", "-q", ".", cwd=self.source)

    def finish(self):
        self.restic("check", "--read-data")
        self.restic("restore", "-q", "latest", "--target", self.back)
        same(self.source, self.back)
        self.restic("forget", "-q", "--keep-last", "1", "--prune", "--max-unused", "0")
        assert len(json.loads(self.restic("snapshots", "--json"))) == 1
        self.restic("check", "--read-data")
        self.restic("restore", "-q", "latest", "--target", self.fresh())
        same(self.source, self.back)


def test_restic(cluster, tmp_path):
    endpoint = cluster.env["AWS_ENDPOINT_URL"]
    work_through_a_loss(cluster, "daemon.0", [
        Restic(cluster, tmp_path / "s3", f"s3:{endpoint}/restic-s3/repository"),
        Restic(cluster, tmp_path / "swift", "swift:restic-swift:/repository")])


# --- duplicity -------------------------------------------------------------------------------------


class Duplicity(Job):
    def __init__(self, cluster, folder, url, *flags):
        super().__init__(cluster, folder)
        self.url = url
        self.flags = [
            "--no-encryption", "--archive-dir", self.folder / "archive", "--tempdir", self.folder, "--volsize", "5",
            "--backend-retry-delay", "1", "--verbosity", "warning", *flags]
        self.env = {"SWIFT_AUTHURL": cluster.env["ST_AUTH"], "SWIFT_USERNAME": cluster.env["ST_USER"],
                    "SWIFT_PASSWORD": cluster.env["ST_KEY"], "SWIFT_AUTHVERSION": "1"}

    def duplicity(self, *words):
        action, *rest = words
        return self.cluster.run("duplicity", action, *self.flags, *rest, env=self.env)

    def round(self, n):
        self.change(n)
        self.duplicity("incremental" if n else "full", self.source, self.url)

    def finish(self):
        self.duplicity("verify", "--compare-data", self.url, self.source)
        # Without what it remembers: all comes from the cluster.
        shutil.rmtree(self.folder / "archive")
        self.duplicity("restore", self.url, self.back)
        same(self.source, self.back)
        assert "No orphaned or incomplete backup sets found" in self.duplicity("collection-status", self.url)


def test_duplicity(cluster, tmp_path):
    cluster.s3().create_bucket(Bucket="duplicity-s3")
    work_through_a_loss(cluster, "daemon.1", [
        Duplicity(cluster, tmp_path / "s3", "boto3+s3://duplicity-s3/backup",
                  "--s3-endpoint-url", cluster.env["AWS_ENDPOINT_URL"],
                  "--s3-region-name", cluster.env["AWS_DEFAULT_REGION"]),
        Duplicity(cluster, tmp_path / "swift", "swift://duplicity-swift/backup")])


# --- aws s3 sync, rclone ---------------------------------------------------------------------------


class AwsSync(Job):
    def sync(self, *words):
        self.cluster.run("aws", "s3", "sync", "--only-show-errors", "--delete", *words)

    def round(self, n):
        if n == 0:
            self.cluster.run("aws", "s3", "mb", "s3://aws-sync")
        self.change(n)
        self.sync(self.source, "s3://aws-sync/t")

    def finish(self):
        self.sync("s3://aws-sync/t", self.back)
        same(self.source, self.back)


class Rclone(Job):
    """`--checksum`: what is there is compared by its MD5 and not by its time."""

    def __init__(self, cluster, folder, place, env, *flags):
        super().__init__(cluster, folder)
        self.place = place
        self.flags = ["--checksum", "--retries", "1", *flags]
        self.env = {"RCLONE_CONFIG": str(self.folder / "none"), **env}

    def rclone(self, *words):
        return self.cluster.run("rclone", *words, *self.flags, env=self.env)

    def round(self, n):
        self.change(n)
        self.rclone("sync", self.source, self.place)

    def finish(self):
        self.rclone("check", self.source, self.place)
        self.rclone("check", "--download", self.source, self.place)
        self.rclone("sync", self.place, self.back)
        same(self.source, self.back)


def test_aws_sync_and_rclone(cluster, tmp_path):
    over_s3 = {"RCLONE_CONFIG_R_TYPE": "s3", "RCLONE_CONFIG_R_PROVIDER": "Other",
               "RCLONE_CONFIG_R_ENDPOINT": cluster.env["AWS_ENDPOINT_URL"],
               "RCLONE_CONFIG_R_ACCESS_KEY_ID": cluster.env["AWS_ACCESS_KEY_ID"],
               "RCLONE_CONFIG_R_SECRET_ACCESS_KEY": cluster.env["AWS_SECRET_ACCESS_KEY"]}
    over_swift = {"RCLONE_CONFIG_R_TYPE": "swift", "RCLONE_CONFIG_R_AUTH_VERSION": "1",
                  "RCLONE_CONFIG_R_AUTH": cluster.env["ST_AUTH"], "RCLONE_CONFIG_R_USER": cluster.env["ST_USER"],
                  "RCLONE_CONFIG_R_KEY": cluster.env["ST_KEY"]}
    work_through_a_loss(cluster, "daemon.2", [
        AwsSync(cluster, tmp_path / "aws"),
        Rclone(cluster, tmp_path / "s3", "r:rclone-s3/t", over_s3,
               "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M"),
        Rclone(cluster, tmp_path / "swift", "r:rclone-swift/t", over_swift, "--swift-chunk-size", "5M")])


# --- s3fs ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(cluster, bucket, point):
    """A bucket as a folder."""
    assert os.path.exists("/dev/fuse"), "s3fs needs /dev/fuse, which this machine has not"
    point.mkdir(exist_ok=True)
    keys = point.parent / "keys"
    keys.write_text(f"{cluster.env['AWS_ACCESS_KEY_ID']}:{cluster.env['AWS_SECRET_ACCESS_KEY']}\n")
    keys.chmod(0o600)
    log = point.parent / "s3fs.log"
    with open(log, "ab") as out:
        process = subprocess.Popen(
            ["s3fs", bucket, point, "-f", "-o", f"url={cluster.env['AWS_ENDPOINT_URL']}", "-o", f"passwd_file={keys}",
             "-o", "use_path_request_style,sigv4,multipart_size=5,multipart_threshold=6"], stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while not os.path.ismount(point):
            assert process.poll() is None and time.monotonic() < deadline, f"not mounted:\n{log.read_text()[-3000:]}"
            time.sleep(0.05)
        yield point
    finally:
        subprocess.run(["fusermount", "-u", point], check=False, capture_output=True)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            subprocess.run(["umount", "-l", point], check=False)


class S3fs(Job):
    """Files are copied in, replaced, appended to, renamed and removed; a second mount sees what the first wrote."""

    def __init__(self, cluster, folder, point):
        super().__init__(cluster, folder, files=12)
        self.point = point
        (self.source / "appended").write_bytes(b"")

    def round(self, n):
        self.change(n)
        with open(self.source / "appended", "ab") as file:
            file.write(b"line %d\n" % n)
        if n == 0:
            for path in sorted(self.source.rglob("*")):
                to = self.point / path.relative_to(self.source)
                to.mkdir() if path.is_dir() else shutil.copyfile(path, to)
            return
        shutil.copyfile(self.source / f"new {n}", self.point / "under way")
        os.rename(self.point / "under way", self.point / f"new {n}")
        shutil.copyfile(self.source / "replaced", self.point / "replaced")
        with open(self.point / "appended", "ab") as file:
            file.write(b"line %d\n" % n)
        (self.point / f"new {n - 2}").unlink(missing_ok=True)
        assert (self.point / "replaced").read_bytes() == (self.source / "replaced").read_bytes()

    def finish(self):
        same(self.source, self.point)


def test_s3fs(cluster, tmp_path):
    cluster.s3().create_bucket(Bucket="s3fs")
    with mounted(cluster, "s3fs", tmp_path / "mount") as point:
        job = S3fs(cluster, tmp_path / "job", point)
        work_through_a_loss(cluster, "daemon.0", [job])
    with mounted(cluster, "s3fs", tmp_path / "mount") as point:
        same(job.source, point)
    got = cluster.s3().get_object(Bucket="s3fs", Key="large")["Body"].read()
    assert got == (job.source / "large").read_bytes()


# --- a registry of images --------------------------------------------------------------------------


def digest(body):
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


class Registry:
    """Debian's docker-registry on a port of its own choice, and what engines ask of it when they push and pull."""

    MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

    def __init__(self, folder, storage):
        folder.mkdir()
        self.config, self.log = folder / "config.json", folder / "registry.log"
        # JSON is YAML.
        self.config.write_text(json.dumps({
            "version": 0.1, "log": {"level": "warn", "fields": {}},
            "storage": {**storage, "delete": {"enabled": True}},
            "http": {"addr": "127.0.0.1:0", "secret": "of the test"}}))
        # The store speaks plain HTTP, and the registry fails on the mere variable.
        self.env = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        self.known = {}  # tag → manifest
        self.layers = {}  # digest → bytes

    def __enter__(self):
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(["docker-registry", "serve", self.config], env=self.env,
                                            stdout=out, stderr=out)
        deadline = time.monotonic() + 30
        while not (port := self.port()):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{port}"
        return self

    def port(self):
        """The kernel knows: a socket of the process that listens."""
        inodes = set()
        for link in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and words[9] in inodes:
                    return int(words[1].rsplit(":", 1)[1], 16)
        return None

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def ask(self, method, url, body=None, headers=None):
        """One request; redirections to the store are followed, as engines do."""
        url = url if url.startswith("http") else self.url + url
        request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
        try:
            return urllib.request.urlopen(request, timeout=120)
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:1000]
            raise AssertionError(f"{method} {url}: {error.code} {said}\n{self.log.read_text()[-3000:]}") from error

    def push_layer(self, body, chunk=2 * MIB + 1):
        at = self.ask("POST", "/v2/image/blobs/uploads/", b"").headers["Location"]
        for first in range(0, len(body), chunk):
            piece = body[first:first + chunk]
            headers = {"Content-Type": "application/octet-stream",
                       "Content-Range": f"{first}-{first + len(piece) - 1}"}
            at = self.ask("PATCH", at, piece, headers).headers["Location"]
        self.ask("PUT", f"{at}{'&' if '?' in at else '?'}digest={digest(body)}", b"")
        self.layers[digest(body)] = body

    def push(self, tag, layers):
        config = json.dumps({"tag": tag}).encode()
        for body in [config, *layers]:
            if digest(body) not in self.layers:
                self.push_layer(body)
        named = lambda body, kind: {"mediaType": f"application/vnd.docker.{kind}", "size": len(body),
                                    "digest": digest(body)}
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": self.MANIFEST, "config": named(config, "container.image.v1+json"),
            "layers": [named(body, "image.rootfs.diff.tar.gzip") for body in layers]}).encode()
        self.ask("PUT", f"/v2/image/manifests/{tag}", manifest, {"Content-Type": self.MANIFEST})
        self.known[tag] = manifest

    def pull(self, tag):
        got = self.ask("GET", f"/v2/image/manifests/{tag}", headers={"Accept": self.MANIFEST}).read()
        assert got == self.known[tag], f"{tag}: another manifest"
        manifest = json.loads(got)
        for part in [manifest["config"], *manifest["layers"]]:
            body = self.ask("GET", f"/v2/image/blobs/{part['digest']}").read()
            assert body == self.layers[part["digest"]], f"{tag}: {part['digest']}"

    # What a job does.

    def round(self, n):
        if n == 0:
            self.base = os.urandom(11 * MIB + 7)
        self.push(f"v{n}", [self.base, os.urandom(MIB if n % 2 else 30_000)])
        self.pull(f"v{n}")

    def finish(self):
        tags = json.loads(self.ask("GET", "/v2/image/tags/list").read())["tags"]
        assert sorted(tags) == sorted(self.known)
        # The first image goes, its layers are collected, the others stay whole.
        self.ask("DELETE", f"/v2/image/manifests/{digest(self.known['v0'])}")
        own = json.loads(self.known.pop("v0"))["layers"][1]["digest"]
        done = subprocess.run(["docker-registry", "garbage-collect", self.config], env=self.env,
                              capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        assert f"blob eligible for deletion: {own}" in done.stdout.decode()
        for tag in self.known:
            self.pull(tag)


def test_docker_registry(cluster, tmp_path):
    env = cluster.env
    cluster.s3().create_bucket(Bucket="registry-s3")
    over_s3 = {"s3": {
        "accesskey": env["AWS_ACCESS_KEY_ID"], "secretkey": env["AWS_SECRET_ACCESS_KEY"], "bucket": "registry-s3",
        "region": env["AWS_DEFAULT_REGION"], "regionendpoint": env["AWS_ENDPOINT_URL"], "secure": False,
        "v4auth": True, "chunksize": 5 * MIB, "rootdirectory": "/images"}}
    over_swift = {"swift": {
        "username": env["ST_USER"], "password": env["ST_KEY"], "authurl": env["ST_AUTH"], "authversion": 1,
        "container": "registry-swift", "chunksize": 5 * MIB, "rootdirectory": "/images"}}
    with Registry(tmp_path / "s3", over_s3) as first, Registry(tmp_path / "swift", over_swift) as second:
        work_through_a_loss(cluster, "daemon.1", [first, second])
