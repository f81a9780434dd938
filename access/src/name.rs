//! Names of those who call, as they stand in their certificates.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use thiserror::Error;

/// What is put behind a name to make a domain name of it that no machine has.
const DOMAIN: &str = "alpharho.internal";
/// A label of a domain name has no more.
const BYTES_MAX: usize = 63;

/// A name that cannot be one.
#[derive(Debug, Error)]
#[error(
    "{0:?} is no name for a person or a machine; it has 1 to {BYTES_MAX} of the characters a to z, 0 to 9 and -, and \
     no - at its ends"
)]
pub struct BadName(String);

/// Whether that can be the name of somebody who calls.
///
/// # Errors
/// When it cannot.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let fits = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    let good = (1..=BYTES_MAX).contains(&name.len()) && name.bytes().all(fits);
    if good && !name.starts_with('-') && !name.ends_with('-') { Ok(()) } else { Err(BadName(name.to_owned())) }
}

/// The domain name in the certificate of that name.
pub(crate) fn domain(name: &str) -> String {
    format!("{name}.{DOMAIN}")
}

/// Whether a certificate, whose authority was checked before, is that name's.
#[must_use]
pub fn is_of(certificate: &CertificateDer<'_>, name: &str) -> bool {
    names(certificate, &domain(name))
}

/// Whether a certificate names that host.
pub(crate) fn names(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(parsed), Ok(host)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(host)) else {
        return false;
    };
    verify_server_name(&parsed, &host).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_of_domain_names() {
        let long = "x".repeat(64);
        for (name, good) in [
            ("alice", true),
            ("gpu-node-7", true),
            ("7", true),
            ("", false),
            ("Alice", false),
            ("a.b", false),
            ("../x", false),
            ("-a", false),
            ("a-", false),
            ("ä", false),
            (&long, false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }
}
