"""The command-line clients that people use: aws, s3cmd, rclone, curl."""

import filecmp
import hashlib
import os
import pathlib

MIB = 1 << 20


def tree(root, files=300):
    """A folder of many small files and a few larger ones, with odd names."""
    for i in range(files):
        path = root / f"d{i % 7}" / f"e {i % 3}" / f"file-ä+{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(str(i).encode()).digest() * (i * 37 % 3000))
    (root / "large").write_bytes(os.urandom(20 * MIB + 1))
    (root / "empty").write_bytes(b"")


def same(a, b):
    """Whether two folders hold the same files with the same bytes."""
    files = lambda r: sorted(str(p.relative_to(r)) for p in pathlib.Path(r).rglob("*") if p.is_file())
    assert files(a) == files(b)
    _, different, errors = filecmp.cmpfiles(a, b, files(a), shallow=False)
    assert not different and not errors


def test_aws_copies_and_syncs(cluster, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    tree(source)
    cluster.run("aws", "s3", "mb", "s3://aws")
    cluster.run("aws", "s3", "sync", "--only-show-errors", source, "s3://aws/t")
    cluster.run("aws", "s3", "sync", "--only-show-errors", "s3://aws/t", back)
    same(source, back)
    cluster.run("aws", "s3", "cp", "--only-show-errors", source / "large", "s3://aws/large")
    cluster.run("aws", "s3", "mv", "--only-show-errors", "s3://aws/large", "s3://aws/moved")
    assert "moved" in cluster.run("aws", "s3", "ls", "s3://aws/")
    url = cluster.run("aws", "s3", "presign", "s3://aws/moved").strip()
    got = tmp_path / "got"
    cluster.run("curl", "-sf", "-o", got, url)
    assert got.read_bytes() == (source / "large").read_bytes()
    cluster.run("aws", "s3", "rm", "--only-show-errors", "--recursive", "s3://aws")
    cluster.run("aws", "s3", "rb", "s3://aws")


def test_s3cmd(cluster, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    tree(source, 60)
    back.mkdir()
    host = cluster.env["AWS_ENDPOINT_URL"].removeprefix("http://")
    config = tmp_path / "s3cfg"
    config.write_text(f"""[default]
access_key = {cluster.env['AWS_ACCESS_KEY_ID']}
secret_key = {cluster.env['AWS_SECRET_ACCESS_KEY']}
host_base = {host}
host_bucket = {host}
use_https = False
bucket_location = {cluster.env['AWS_DEFAULT_REGION']}
""")
    s3cmd = lambda *words: cluster.run("s3cmd", "-c", config, "--no-progress", *words)
    s3cmd("mb", "s3://s3cmd")
    s3cmd("sync", f"{source}/", "s3://s3cmd/t/")
    s3cmd("sync", "s3://s3cmd/t/", f"{back}/")
    same(source, back)
    s3cmd("put", "--multipart-chunk-size-mb=5", source / "large", "s3://s3cmd/large")
    s3cmd("info", "s3://s3cmd/large")
    s3cmd("del", "--recursive", "--force", "s3://s3cmd")
    s3cmd("rb", "s3://s3cmd")


def test_rclone(cluster, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    tree(source, 60)
    env = {"RCLONE_CONFIG_S_TYPE": "s3", "RCLONE_CONFIG_S_PROVIDER": "Other",
           "RCLONE_CONFIG_S_ENDPOINT": cluster.env["AWS_ENDPOINT_URL"],
           "RCLONE_CONFIG_S_ACCESS_KEY_ID": cluster.env["AWS_ACCESS_KEY_ID"],
           "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": cluster.env["AWS_SECRET_ACCESS_KEY"],
           "RCLONE_CONFIG": str(tmp_path / "none")}
    rclone = lambda *words: cluster.run("rclone", *words, env=env)
    rclone("mkdir", "s:rclone")
    rclone("sync", source, "s:rclone/t")
    rclone("check", "--download", source, "s:rclone/t")
    rclone("sync", "s:rclone/t", back)
    same(source, back)
    rclone("copy", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", source / "large", "s:rclone/m")
    rclone("check", "--download", "--one-way", source / "large", "s:rclone/m")
    rclone("purge", "s:rclone")
