//! What a decision is about: the operation as it is done, with what the request's body says.

use crate::World;
use crate::client::{Answer, Client};

impl World {
    /// The other user, and what the bucket's policy says of him.
    fn other_with(&self, statements: &[String]) -> Client {
        let policy =
            format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
        let put = self.client.ask("PUT", "/bucket?policy=", policy.as_bytes());
        assert_eq!(put.status, 204, "{}", put.text());
        Client { access_key: "v".into(), secret: "vsecret".into(), ..self.client.clone() }
    }
}

fn rule(effect: &str, action: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{{"AWS":"v"}},"Action":"{action}","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"],"Condition":{condition}}}"#
    )
}

fn outcome(answer: &Answer) -> String {
    match answer.status {
        status @ 200..=299 => status.to_string(),
        _ => answer.code(),
    }
}

#[test]
fn an_empty_version_in_a_list_names_none() {
    let world = World::new();
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"x").status, 200);
    let other = world.other_with(&[rule("Allow", "s3:DeleteObjectVersion", "{}")]);
    let list = b"<Delete><Object><Key>k</Key><VersionId/></Object></Delete>";
    let answer = other.ask("POST", "/bucket?delete=", list);
    assert_eq!((answer.code().as_str(), answer.elements("Deleted").len()), ("AccessDenied", 0));
    assert_eq!(world.get("/bucket/k").text(), "x");
    let other = world.other_with(&[rule("Allow", "s3:DeleteObject", "{}")]);
    let answer = other.ask("POST", "/bucket?delete=", list);
    assert_eq!(answer.elements("Deleted"), ["<Key>k</Key>"], "{}", answer.text());
    assert_eq!(world.get("/bucket/k").code(), "NoSuchKey");
}
