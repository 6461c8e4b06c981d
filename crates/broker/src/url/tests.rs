//! Addresses, and that no password is shown.

use proptest::prelude::*;

use super::*;

fn url(text: &str) -> AmqpUrl {
    text.parse().expect("a good URL")
}

#[test]
fn the_password_shows_nowhere() {
    let good = url("amqp://user:s3cret@127.0.0.1:5672/%2f");
    let bad = "amqp://user:s3cret@host:99999/".parse::<AmqpUrl>().expect_err("no such port");
    let second = "amqp://user:s3cret@host,other:99999/".parse::<AmqpUrl>().expect_err("no such port");
    let worse = "user:s3c@ret@host".parse::<AmqpUrl>().expect_err("no scheme");
    for text in [good.to_string(), format!("{good:?}"), bad.to_string(), second.to_string(), worse.to_string()] {
        assert!(!text.contains("s3c"), "{text}");
    }
    assert!(!format!("{bad:?} {second:?} {worse:?}").contains("s3c"));
    assert_eq!(good.to_string(), "amqp://user:***@127.0.0.1:5672/%2f");
    assert!(good.reveal().contains("s3cret"));
}

#[test]
fn every_address_is_kept_in_order() {
    let several = url("amqps://user:pass@one,two:5673,[::1]:5674,[fe80::1]/augur?heartbeat=3");
    let addresses = [("one", 5671), ("two", 5673), ("::1", 5674), ("fe80::1", 5671)];
    assert_eq!(several.authorities(), addresses);
    assert_eq!(several.authority(), addresses[0]);
    for (at, (host, port)) in addresses.into_iter().enumerate() {
        let uri = several.uri(at);
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), (host, port));
        assert_eq!((uri.vhost.as_str(), uri.query.heartbeat), ("augur", Some(3)));
    }
    assert_eq!(several.to_string(), "amqps://user:***@one:5671,two:5673,[::1]:5674,[fe80::1]:5671/augur");
    assert_eq!(several.at("127.0.0.1", 9).to_string(), "amqps://user:***@127.0.0.1:9/augur");
}

/// The parser that lapin brings takes an IPv6 address for no address at all, and connected to `localhost`.
#[test]
fn an_ipv6_address_is_one() {
    assert_eq!(url("amqp://[::1]:5673/%2f").authority(), ("::1", 5673));
    let revealed = url("amqp://[::1]").reveal();
    assert!(revealed.starts_with("amqp://guest:guest@[::1]:5672/%2F?"), "{revealed}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let short = url("amqp://");
    assert_eq!((short.authority(), short.authorities().len()), (("localhost", 5672), 1));
    assert_eq!(short.to_string(), "amqp://guest:***@localhost:5672/%2f");
}

#[test]
fn a_list_with_holes_is_refused() {
    for text in ["amqp://a,,b/", "amqp://a,/", "amqp://,a/", "amqp://a b,c/", "amqp://[::1/", "amqp://[::g]/"] {
        assert!(text.parse::<AmqpUrl>().is_err(), "{text}");
    }
    let many = vec!["host"; ADDRESSES_MAX + 1].join(",");
    assert!(format!("amqp://{many}/").parse::<AmqpUrl>().is_err());
}

proptest! {
    #[test]
    fn revealing_and_parsing_gives_the_same(
        scheme in "amqps?",
        user in "[a-z]{1,8}",
        password in "[!-~]{1,12}",
        hosts in prop::collection::vec(("([a-z][a-z0-9.-]{0,9}|\\[::[1-9]\\]|10\\.0\\.0\\.[1-9])", 1..u16::MAX), 1..5),
        vhost in "[!-~]{0,8}",
        heartbeat in prop::option::of(1..60_u16),
    ) {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
        let hosts: Vec<_> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let query = heartbeat.map_or_else(String::new, |heartbeat| format!("?heartbeat={heartbeat}"));
        // Of a text that nothing else here could hold.
        let secret = format!("S3C{password}");
        let text =
            format!("{scheme}://{user}:{}@{}/{}{query}", encode(&secret), hosts.join(","), encode(&vhost));
        let parsed = url(&text);
        prop_assert_eq!(parsed.authorities().len(), hosts.len());
        prop_assert_eq!(&url(&parsed.reveal()), &parsed);
        prop_assert_eq!(&parsed.uri(0).authority.userinfo.password, &secret);
        let shown = format!("{parsed} {parsed:?}");
        prop_assert!(vhost.contains("S3C") || !shown.contains("S3C"), "{}", shown);
    }

    #[test]
    fn arbitrary_text_never_panics_and_never_shows_a_password(head in "[ -~ä]{0,20}", tail in "[ -~]{0,20}") {
        let text = format!("amqp://user:S3C{head}@{tail}");
        if let Err(error) = text.parse::<AmqpUrl>() {
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains("S3C"), "{}", shown);
        }
    }
}
