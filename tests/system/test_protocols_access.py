"""Who may do what over one protocol, as the other has set it: ACLs, policies, encryption."""

import json
import os

from both import MIB, alice, as_nobody, bob, own, s3_body, status_of  # noqa: F401 (fixtures)


def test_container_acls_hold_over_s3(cluster, alice, bob, own):
    """The table of the document, line by line."""
    alice.s3.put_object(Bucket=own, Key="k", Body=b"body", ACL="private")
    get, listing = f"/{own}/k", f"/{own}"
    read = lambda: status_of(bob.s3.get_object, Bucket=own, Key="k")
    lists = lambda: status_of(bob.s3.list_objects_v2, Bucket=own)
    write = lambda: status_of(bob.s3.put_object, Bucket=own, Key="of-bob", Body=b"")
    assert (as_nobody(cluster, get)[0], read(), lists(), write()) == (403, 403, 403, 403)
    alice.swift.post_container(own, {"X-Container-Read": ".r:*"})
    assert as_nobody(cluster, get) == (200, b"body") and as_nobody(cluster, listing)[0] == 403
    alice.swift.post_container(own, {"X-Container-Read": ".r:*,.rlistings"})
    assert as_nobody(cluster, listing)[0] == 200
    alice.swift.post_container(own, {"X-Container-Read": bob.id})
    assert (as_nobody(cluster, get)[0], as_nobody(cluster, listing)[0]) == (403, 403)
    assert (read(), lists(), write()) == (200, 200, 403)
    alice.swift.post_container(own, {"X-Container-Read": "", "X-Container-Write": bob.id})
    assert (read(), lists(), write()) == (403, 403, 200)
    bob.s3.delete_object(Bucket=own, Key="of-bob")
    # What others write over Swift belongs to the container's owner.
    bob.of(alice).put_object(own, "over swift", b"from bob")
    assert s3_body(alice, own, "over swift") == b"from bob"
    assert alice.s3.get_object_acl(Bucket=own, Key="over swift")["Owner"]["ID"] == alice.id
    # The lists are kept apart.
    grants = alice.s3.get_bucket_acl(Bucket=own)["Grants"]
    assert [g["Grantee"].get("ID") for g in grants] == [alice.id]
    alice.swift.post_container(own, {"X-Remove-Container-Write": "x"})
    assert write() == 403


def test_grants_of_s3_hold_over_swift(cluster, alice, bob, own):
    alice.swift.put_object(own, "k", b"body")
    path, listing = f"{alice.account}/{own}/k", f"{alice.account}/{own}"
    to_bob = bob.of(alice)
    read = lambda: status_of(to_bob.get_object, own, "k")
    lists = lambda: status_of(to_bob.get_container, own)
    write = lambda: status_of(to_bob.put_object, own, "of-bob", b"")
    assert (as_nobody(cluster, path)[0], as_nobody(cluster, listing)[0]) == (401, 401)
    assert (read(), lists(), write()) == (403, 403, 403)
    alice.s3.put_bucket_acl(Bucket=own, ACL="public-read")
    assert (as_nobody(cluster, path)[0], as_nobody(cluster, listing)[0]) == (401, 200)
    assert "x-container-read" not in alice.swift.head_container(own)
    alice.s3.put_object_acl(Bucket=own, Key="k", ACL="public-read")
    assert as_nobody(cluster, path) == (200, b"body")
    alice.s3.put_bucket_acl(Bucket=own, ACL="private")
    alice.s3.put_object_acl(Bucket=own, Key="k", GrantRead=f"id={bob.id}")
    assert (as_nobody(cluster, path)[0], read(), lists(), write()) == (401, 200, 403, 403)
    alice.s3.put_bucket_acl(Bucket=own, GrantRead=f"id={bob.id}", GrantWrite=f"id={bob.id}")
    assert (lists(), write()) == (200, 200)


def test_policies_hold_over_swift(cluster, alice, bob, own):
    alice.swift.put_object(own, "open/k", b"body")
    alice.swift.put_object(own, "shut/k", b"body")
    to_bob = bob.of(alice)

    def policy(*statements):
        document = [{"Effect": effect, "Principal": who, "Action": action, "Resource": f"arn:aws:s3:::{own}{what}"}
                    for effect, who, action, what in statements]
        alice.s3.put_bucket_policy(Bucket=own, Policy=json.dumps({"Version": "2012-10-17", "Statement": document}))

    policy(("Allow", {"AWS": [f"arn:aws:iam:::user/{bob.id}"]}, "s3:GetObject", "/open/*"))
    assert to_bob.get_object(own, "open/k")[1] == b"body"
    assert status_of(to_bob.get_object, own, "shut/k") == 403
    assert status_of(to_bob.get_container, own) == 403
    policy(("Allow", "*", ["s3:GetObject", "s3:ListBucket"], "/*"), ("Allow", "*", "s3:ListBucket", ""))
    assert as_nobody(cluster, f"{alice.account}/{own}/shut/k") == (200, b"body")
    assert status_of(to_bob.get_container, own) == 200
    # A denial stands above what a container's ACL allows, and above the owner's rights.
    alice.swift.post_container(own, {"X-Container-Read": ".r:*"})
    policy(("Deny", "*", "s3:GetObject", "/shut/*"))
    assert as_nobody(cluster, f"{alice.account}/{own}/open/k")[0] == 200
    assert as_nobody(cluster, f"{alice.account}/{own}/shut/k")[0] == 401
    assert as_nobody(cluster, f"/{own}/shut/k")[0] == 403
    assert status_of(alice.swift.get_object, own, "shut/k") == 403
    alice.s3.delete_bucket_policy(Bucket=own)
    assert as_nobody(cluster, f"{alice.account}/{own}/shut/k")[0] == 200


def test_encryption_over_both(alice, own):
    """A default holds for what Swift writes; what a client's own key seals, Swift cannot read."""
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    alice.s3.put_bucket_encryption(Bucket=own, ServerSideEncryptionConfiguration={"Rules": [rule]})
    body = os.urandom(MIB)
    alice.swift.put_object(own, "swift", body)
    got = alice.s3.get_object(Bucket=own, Key="swift")
    assert got["ServerSideEncryption"] == "AES256" and got["Body"].read() == body
    assert alice.swift.get_object(own, "swift", headers={"Range": "bytes=70000-70009"})[1] == body[70000:70010]
    alice.s3.put_object(Bucket=own, Key="sealed", Body=b"x", SSECustomerAlgorithm="AES256",
                        SSECustomerKey=b"k" * 32)
    assert status_of(alice.swift.get_object, own, "sealed") == 400
