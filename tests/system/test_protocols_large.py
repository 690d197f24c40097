"""Objects made of several over one protocol, read over the other: segments, manifests, uploads in parts."""

import hashlib
import json
import os

from both import MIB, alice, own, parts_over_s3, s3_body, status_of  # noqa: F401 (fixtures)


def test_static_large_objects_of_segments_of_both(alice, own):
    """Segments from Swift, from S3 in one piece and from S3 in parts; read over S3, with ranges and conditions."""
    small, plain, parts = os.urandom(10), os.urandom(MIB + 1), [os.urandom(5 * MIB), os.urandom(77)]
    alice.swift.put_object(own, "seg/1", small)
    alice.s3.put_object(Bucket=own, Key="seg/2", Body=plain)
    tag = parts_over_s3(alice, own, "seg/3", parts).strip('"')
    whole = small + plain + b"".join(parts)
    segments = [{"path": f"/{own}/seg/1", "etag": hashlib.md5(small).hexdigest(), "size_bytes": 10},
                {"path": f"/{own}/seg/2", "range": "0-"}, {"path": f"/{own}/seg/3", "etag": tag}]
    alice.swift.put_object(own, "large", json.dumps(segments), content_type="text/x",
                           query_string="multipart-manifest=put", headers={"X-Object-Meta-A": "b"})
    headers, body = alice.swift.get_object(own, "large")
    assert body == whole and headers["x-static-large-object"] == "True"
    got = alice.s3.get_object(Bucket=own, Key="large")
    assert got["Body"].read() == whole and got["ContentLength"] == len(whole)
    assert got["Metadata"] == {"a": "b"} and got["ContentType"] == "text/x"
    # Over S3 the tag has the number of segments, in listings too: clients see that it is no MD5 of the bytes.
    assert got["ETag"] == f'"{headers["etag"].strip(chr(34))}-3"'
    assert {o["Key"]: o["ETag"] for o in alice.s3.list_objects_v2(Bucket=own)["Contents"]}["large"] == got["ETag"]
    for first, last in ((5, 14), (MIB, MIB + 30), (len(whole) - 80, len(whole) - 1)):
        assert s3_body(alice, own, "large", Range=f"bytes={first}-{last}") == whole[first:last + 1]
    assert status_of(alice.s3.get_object, Bucket=own, Key="large", IfNoneMatch=got["ETag"]) == 304
    assert status_of(alice.s3.get_object, Bucket=own, Key="large", IfMatch='"other"') == 412
    assert {o["Key"]: o["Size"] for o in alice.s3.list_objects_v2(Bucket=own)["Contents"]}["large"] == len(whole)
    # A copy is a plain object, over either protocol.
    alice.s3.copy_object(Bucket=own, Key="copied", CopySource={"Bucket": own, "Key": "large"})
    alice.swift.copy_object(own, "large", destination=f"/{own}/copied too")
    for key in ("copied", "copied too"):
        told, body = alice.swift.get_object(own, key)
        assert body == whole and "x-static-large-object" not in told and told["x-object-meta-a"] == "b"
        assert s3_body(alice, own, key) == whole
    # S3 deletes the manifest alone.
    alice.s3.delete_object(Bucket=own, Key="large")
    assert [o["name"] for o in alice.swift.get_container(own, prefix="seg/")[1]] == ["seg/1", "seg/2", "seg/3"]


def test_a_part_copied_out_of_a_large_object(alice, own):
    """UploadPartCopy reads what a manifest stands for."""
    pieces = [os.urandom(3 * MIB), os.urandom(3 * MIB)]
    for n, piece in enumerate(pieces):
        alice.swift.put_object(own, f"p/{n}", piece)
    whole = b"".join(pieces)
    manifest = json.dumps([{"path": f"/{own}/p/{n}"} for n in range(2)])
    alice.swift.put_object(own, "static", manifest, query_string="multipart-manifest=put")
    alice.swift.put_object(own, "dynamic", b"", headers={"X-Object-Manifest": f"{own}/p/"})
    upload = alice.s3.create_multipart_upload(Bucket=own, Key="made")["UploadId"]
    done = []
    sources = (("static", f"bytes=10-{5 * MIB + 9}"), ("dynamic", "bytes=0-99"))
    for number, (source, part_range) in enumerate(sources, 1):
        tag = alice.s3.upload_part_copy(
            Bucket=own, Key="made", UploadId=upload, PartNumber=number, CopySourceRange=part_range,
            CopySource={"Bucket": own, "Key": source})["CopyPartResult"]["ETag"]
        done.append({"PartNumber": number, "ETag": tag})
    alice.s3.complete_multipart_upload(Bucket=own, Key="made", UploadId=upload, MultipartUpload={"Parts": done})
    assert alice.swift.get_object(own, "made")[1] == whole[10:5 * MIB + 10] + whole[:100]


def test_dynamic_large_objects_over_s3(alice, own):
    alice.s3.put_object(Bucket=own, Key="p/1", Body=b"one")
    alice.swift.put_object(own, "p/2", b"two")
    alice.swift.put_object(own, "d", b"", headers={"X-Object-Manifest": f"{own}/p/"})
    assert alice.swift.get_object(own, "d")[1] == s3_body(alice, own, "d") == b"onetwo"
    told = alice.s3.head_object(Bucket=own, Key="d")
    assert told["ContentLength"] == 6
    assert told["ResponseMetadata"]["HTTPHeaders"]["x-object-manifest"] == f"{own}/p/"
    assert s3_body(alice, own, "d", Range="bytes=2-3") == b"et"
    alice.s3.put_object(Bucket=own, Key="p/3", Body=b"three")
    assert s3_body(alice, own, "d") == b"onetwothree"
    alice.s3.copy_object(Bucket=own, Key="copied", CopySource={"Bucket": own, "Key": "d"})
    assert alice.swift.get_object(own, "copied")[1] == b"onetwothree"
    assert "x-object-manifest" not in alice.swift.head_object(own, "copied")
    alice.swift.put_object(own, "link", b"", headers={"X-Symlink-Target": f"{own}/d"})
    assert s3_body(alice, own, "link") == b"onetwothree"


def test_uploads_in_parts_are_plain_objects_to_swift(alice, own):
    bodies = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(9)]
    tag = parts_over_s3(alice, own, "k", bodies, ContentType="text/x", Metadata={"a": "b"})
    whole = b"".join(bodies)
    headers, body = alice.swift.get_object(own, "k")
    assert body == whole and headers["content-type"] == "text/x" and headers["x-object-meta-a"] == "b"
    assert headers["etag"] == tag.strip('"') and tag.endswith('-3"')
    # So clients see that the tag is no MD5 of the bytes. Of segments there are none.
    assert headers["x-static-large-object"] == "True"
    assert "x-static-large-object" not in alice.swift.head_object(own, "k")
    asked = {"Range": f"bytes={5 * MIB - 4}-{5 * MIB + 3}"}
    assert alice.swift.get_object(own, "k", headers=asked)[1] == whole[5 * MIB - 4:5 * MIB + 4]
    line, = alice.swift.get_container(own)[1]
    assert (line["bytes"], line["hash"]) == (len(whole), tag.strip('"'))
    # Copied by Swift it is in one piece, with the MD5 of its bytes.
    alice.swift.copy_object(own, "k", destination=f"/{own}/copied")
    head = alice.s3.head_object(Bucket=own, Key="copied")
    assert head["ETag"] == f'"{hashlib.md5(whole).hexdigest()}"' and head["Metadata"] == {"a": "b"}


def test_command_lines_read_what_the_other_protocol_wrote(cluster, alice, own, tmp_path):
    """`swift download`, `s3cmd get` and rclone hold what they read against its tag, where that is an MD5."""
    pieces = [os.urandom(5 * MIB), os.urandom(MIB + 1)]
    whole = b"".join(pieces)
    parts_over_s3(alice, own, "parts", pieces)
    alice.s3.put_object(Bucket=own, Key="plain", Body=pieces[1])
    source = tmp_path / "file"
    source.write_bytes(whole)
    credentials = alice.s3._request_signer._credentials
    env = {"ST_USER": credentials.access_key, "ST_KEY": credentials.secret_key}
    swift = lambda *words: cluster.run("swift", *words, env=env, cwd=tmp_path)
    swift("upload", own, "file", "--object-name", "static", "--use-slo", "--segment-size", "2000000")
    swift("upload", own, "file", "--object-name", "dynamic", "--segment-size", "2000000", "--use-dlo")
    for key, body in (("parts", whole), ("plain", pieces[1])):
        swift("download", own, key, "--output", "got")
        assert (tmp_path / "got").read_bytes() == body, key
    swift("delete", own, "parts")
    assert status_of(alice.s3.head_object, Bucket=own, Key="parts") == 404
    config = tmp_path / "s3cfg"
    host = cluster.env["AWS_ENDPOINT_URL"].removeprefix("http://")
    config.write_text(f"[default]\naccess_key = {env['ST_USER']}\nsecret_key = {env['ST_KEY']}\n"
                      f"host_base = {host}\nhost_bucket = {host}\nuse_https = False\n")
    rclone = {"RCLONE_CONFIG": str(tmp_path / "none"),
              "RCLONE_CONFIG_R_TYPE": "s3", "RCLONE_CONFIG_R_PROVIDER": "Other",
              "RCLONE_CONFIG_R_ENDPOINT": cluster.env["AWS_ENDPOINT_URL"],
              "RCLONE_CONFIG_R_ACCESS_KEY_ID": env["ST_USER"], "RCLONE_CONFIG_R_SECRET_ACCESS_KEY": env["ST_KEY"]}
    for key in ("static", "dynamic"):
        cluster.run("s3cmd", "-c", config, "--no-progress", "--force", "get", f"s3://{own}/{key}", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == whole, key
        cluster.run("rclone", "copyto", f"r:{own}/{key}", tmp_path / "got", "--retries", "1", "--ignore-times",
                    env=rclone)
        assert (tmp_path / "got").read_bytes() == whole, key
        alice.s3.download_file(own, key, str(tmp_path / "got"))
        assert (tmp_path / "got").read_bytes() == whole, key
