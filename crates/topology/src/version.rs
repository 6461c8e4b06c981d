//! Versions of RabbitMQ, as servers spell them.

use std::{fmt, str::FromStr};

use semver::Version;

use crate::PlanError;

/// The version of a RabbitMQ server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub Version);

impl ServerVersion {
    /// The oldest server that Augur works with: quorum queues learnt message TTL and at-least-once dead-lettering in
    /// it (<https://www.rabbitmq.com/blog/2022/03/29/at-least-once-dead-lettering>).
    pub const OLDEST: Self = Self(Version::new(3, 10, 0));

    /// Whether it is `minor` or later; a release candidate counts as its release.
    pub fn is_at_least(&self, (major, minor): (u64, u64)) -> bool {
        (self.0.major, self.0.minor) >= (major, minor)
    }
}

impl FromStr for ServerVersion {
    type Err = PlanError;

    /// Reads `3.10.8`, `4.1.0-rc.1`, `3.10.8+something` and `3.13.7.2`.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        if let Ok(version) = Version::parse(text) {
            return Ok(Self(version));
        }
        let numeric = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default();
        let mut parts = numeric.split('.').map_while(|part| part.parse::<u64>().ok());
        match (parts.next(), parts.next()) {
            (Some(major), Some(minor)) => Ok(Self(Version::new(major, minor, parts.next().unwrap_or(0)))),
            _ => Err(PlanError::Version { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_say() {
        for (text, minor) in [
            ("3.10.8", (3, 10)),
            ("4.1.0-rc.1", (4, 1)),
            ("3.10.8+something", (3, 10)),
            ("3.13.7.2", (3, 13)),
            ("4.2", (4, 2)),
        ] {
            let version: ServerVersion = text.parse().expect(text);
            assert!(version.is_at_least(minor), "{text}");
            assert!(!version.is_at_least((minor.0, minor.1 + 1)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        for text in ["", "4", "rabbit", "x.y.z", ".1.2"] {
            assert_eq!(text.parse::<ServerVersion>(), Err(PlanError::Version { text: text.to_owned() }));
        }
    }
}
