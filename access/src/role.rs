//! What tokens may do.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What the owner of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everything, tokens included.
    Admin,
    /// Submit and steer sweeps, and look.
    Submit,
    /// Train.
    Worker,
    /// Look.
    Read,
}

/// What a method wants of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any good token.
    Any,
    /// `read`, `submit` or `admin`.
    Read,
    /// `submit` or `admin`.
    Submit,
    /// `worker` or `admin`.
    Worker,
    /// `admin`.
    Admin,
}

/// What all paths of the contract begin with.
pub const PACKAGE: &str = "/alpharho.v1.";

/// Every method of the contract, and what it wants. What is not here is refused.
pub const METHODS: [(&str, Need); 21] = [
    ("Sweeps/Info", Need::Any),
    ("Sweeps/Submit", Need::Submit),
    ("Sweeps/List", Need::Read),
    ("Sweeps/Status", Need::Read),
    ("Sweeps/Explain", Need::Read),
    ("Sweeps/Control", Need::Submit),
    ("Sweeps/Limit", Need::Submit),
    ("Sweeps/Drain", Need::Admin),
    ("Sweeps/Attempts", Need::Read),
    ("Sweeps/Watch", Need::Read),
    ("Sweeps/Metrics", Need::Read),
    ("Sweeps/Workers", Need::Read),
    ("Sweeps/Logs", Need::Read),
    ("Sweeps/Checkpoints", Need::Read),
    ("Sweeps/Fetch", Need::Read),
    ("Workers/Session", Need::Worker),
    ("Workers/Upload", Need::Worker),
    ("Workers/Download", Need::Worker),
    ("Tokens/Put", Need::Admin),
    ("Tokens/List", Need::Admin),
    ("Tokens/Revoke", Need::Admin),
];

/// What the method of that path wants; `None`: it is not in the contract.
#[must_use]
pub fn need(path: &str) -> Option<Need> {
    let method = path.strip_prefix(PACKAGE)?;
    METHODS.iter().find(|(known, _)| *known == method).map(|(_, need)| *need)
}

/// A word that is no role.
#[derive(Debug, Error)]
#[error("{0:?} is no role; there are admin, submit, worker and read")]
pub struct UnknownRole(String);

impl Role {
    /// Whether it is enough for a method.
    #[must_use]
    pub fn may(self, need: Need) -> bool {
        match (self, need) {
            (Self::Admin, _)
            | (_, Need::Any)
            | (Self::Submit, Need::Submit | Need::Read)
            | (Self::Worker, Need::Worker)
            | (Self::Read, Need::Read) => true,
            (Self::Submit, Need::Worker | Need::Admin)
            | (Self::Worker, Need::Read | Need::Submit | Need::Admin)
            | (Self::Read, Need::Submit | Need::Worker | Need::Admin) => false,
        }
    }

    /// `admin`, `submit`, `worker` or `read`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Submit => "submit",
            Self::Worker => "worker",
            Self::Read => "read",
        }
    }
}

impl Need {
    /// The least role that is enough.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Read => Role::Read.word(),
            Self::Submit => Role::Submit.word(),
            Self::Worker => Role::Worker.word(),
            Self::Admin => Role::Admin.word(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        let roles = [Self::Admin, Self::Submit, Self::Worker, Self::Read];
        roles.into_iter().find(|role| role.word() == word).ok_or_else(|| UnknownRole(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// `Sweeps/Info`, ..: as the contract has them.
    fn contract() -> BTreeSet<String> {
        let mut service = "";
        let mut methods = BTreeSet::new();
        for line in include_str!("../../proto/proto/alpharho.proto").lines() {
            let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
            match (words.next(), words.next()) {
                (Some("service"), Some(name)) => service = name,
                (Some("rpc"), Some(name)) => drop(methods.insert(format!("{service}/{name}"))),
                _ => {}
            }
        }
        methods
    }

    #[test]
    fn every_method_of_the_contract_wants_something_and_nothing_else_does() {
        let known: BTreeSet<String> = METHODS.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(known, contract());
        assert_eq!(known.len(), METHODS.len(), "one is there twice");
        assert_eq!(need("/alpharho.v1.Tokens/Put"), Some(Need::Admin));
        for path in ["/alpharho.v1.Tokens/Put/", "Tokens/Put", "/alpharho.v2.Tokens/Put", "/alpharho.v1.Nobody/Knows"] {
            assert_eq!(need(path), None, "{path}");
        }
    }

    #[test]
    fn roles_may_what_they_are_for() {
        let needs = [Need::Any, Need::Read, Need::Submit, Need::Worker, Need::Admin];
        for (role, expected) in [
            ("admin", [true, true, true, true, true]),
            ("submit", [true, true, true, false, false]),
            ("worker", [true, false, false, true, false]),
            ("read", [true, true, false, false, false]),
        ] {
            let role: Role = role.parse().unwrap();
            assert_eq!(needs.map(|need| role.may(need)), expected, "{role}");
        }
        assert!("root".parse::<Role>().is_err());
    }
}
