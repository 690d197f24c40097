//! Details of Swift that its own functional tests ask for: dates, paths, headers at their limits.

use crate::World;

/// A path that begins with `/v1` may be one of S3. Who brings a token means Swift.
#[test]
fn a_token_means_swift() {
    let world = World::new();
    let token = world.swift("u").token;
    for (path, expected) in
        [("/v1", 412), ("/v1/", 412), ("/v1.0", 412), ("/v1//c/o", 404), ("/v1/x//o", 404)]
    {
        let answer = world.plain("GET", path, &[("x-auth-token", &token)], b"");
        assert_eq!(answer.status, expected, "{path}");
        assert!(answer.headers["x-trans-id"].starts_with("tx"), "{path}");
        let nobody = world.plain("GET", path, &[], b"");
        assert!(nobody.headers.contains_key("x-amz-request-id"), "{path} is one of S3");
    }
    let bare = world.plain("PUT", "/v1", &[("x-auth-token", &token)], b"");
    assert_eq!(bare.text(), "Bad URL");
    let signed = world.client.ask_with("GET", "/v1", &[("x-auth-token", &token)], b"");
    assert!(signed.headers.contains_key("x-amz-request-id"), "a signature means S3");
}

#[test]
fn the_realm_is_the_account_of_the_path() {
    let world = World::new();
    for account in ["AUTH_u", "AUTH_x%22%0Alength%3A%201"] {
        let answer = world.plain("GET", &format!("/v1/{account}/c"), &[], b"");
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers["www-authenticate"], format!("Swift realm=\"{account}\""));
    }
}
