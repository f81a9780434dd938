//! The private authority that `alpharho certs` makes, and the certificates of its names.
//!
//! Keys are of P-256. A certificate of the authority is good for the authority alone: it signs nothing but
//! certificates of names, and no certificate of a name signs anything.

use crate::credentials::{AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE};
use crate::name::domain;
use crate::{BadName, check_name};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// The authority's own folder, beside those of its names.
pub const AUTHORITY_FOLDER: &str = "authority";
/// Clocks of machines differ: a new certificate is good from a little before now.
const BEFORE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Why a certificate was not made.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A host that cannot be one.
    #[error("--host {host:?} is no host; it is a name or an address, without scheme and port")]
    Host {
        /// As given.
        host: String,
    },
    /// Nothing is overwritten.
    #[error("{file} is there already, and keys are never overwritten; move it away first", file = file.display())]
    Exists {
        /// Which.
        file: PathBuf,
    },
    /// There is no authority.
    #[error("there is no authority in {folder} ({source}); make one: alpharho certs init --certs {folder}", folder = folder.display())]
    None {
        /// Where it was looked for.
        folder: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{file}: {source}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// What to issue.
#[derive(Clone, Debug)]
pub struct Issue<'a> {
    /// Whose it is.
    pub name: &'a str,
    /// Names and addresses under which it will listen; none: it only calls.
    pub hosts: &'a [String],
    /// How long it is good.
    pub days: u32,
}

/// A key that signs certificates, and its own certificate.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    /// Makes one in `certs/authority`.
    ///
    /// # Errors
    /// When there is one already, or its files cannot be written.
    pub fn init(certs: &Path, days: u32) -> Result<PathBuf, AuthorityError> {
        let folder = certs.join(AUTHORITY_FOLDER);
        let key = KeyPair::generate()?;
        let certificate = params(&key, days).self_signed(&key)?;
        make_folder(&folder)?;
        write_new(&folder.join(KEY_FILE), &key.serialize_pem(), 0o600)?;
        write_new(&folder.join(AUTHORITY_FILE), &certificate.pem(), 0o644)?;
        Ok(folder)
    }

    /// The one in `certs/authority`.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(certs: &Path) -> Result<Self, AuthorityError> {
        let folder = certs.join(AUTHORITY_FOLDER);
        let read = |name: &str| {
            std::fs::read_to_string(folder.join(name))
                .map_err(|source| AuthorityError::None { folder: certs.to_owned(), source })
        };
        let (key_pem, certificate_pem) = (read(KEY_FILE)?, read(AUTHORITY_FILE)?);
        let key = KeyPair::from_pem(&key_pem)?;
        // Only the authority's name and key stand in what it signs, and its name is made of its key.
        let issuer = Issuer::new(params(&key, 1), key);
        Ok(Self { folder: certs.to_owned(), issuer, certificate_pem })
    }

    /// Makes a folder of credentials, but for the token; where it lies.
    ///
    /// # Errors
    /// When the name has one already, or its files cannot be written.
    pub fn issue(&self, issue: &Issue<'_>) -> Result<PathBuf, AuthorityError> {
        let Issue { name, hosts, days } = issue;
        check_name(name)?;
        let mut params = CertificateParams::new(vec![domain(name)])?;
        if !hosts.is_empty() {
            let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            for host in own.iter().chain(*hosts) {
                if ServerName::try_from(host.as_str()).is_err() {
                    return Err(AuthorityError::Host { host: host.clone() });
                }
                let of_host = CertificateParams::new(vec![host.clone()])?;
                params.subject_alt_names.extend(of_host.subject_alt_names);
            }
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params.distinguished_name = called(name);
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        make_valid(&mut params, *days);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let folder = self.folder.join(name);
        make_folder(&folder)?;
        write_new(&folder.join(KEY_FILE), &key.serialize_pem(), 0o600)?;
        write_new(&folder.join(CERTIFICATE_FILE), &certificate.pem(), 0o644)?;
        write_new(&folder.join(AUTHORITY_FILE), &self.certificate_pem, 0o644)?;
        Ok(folder)
    }
}

fn params(key: &KeyPair, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let print = hex::encode(Sha256::digest(key.der_bytes()));
    params.distinguished_name = called(&format!("alpharho authority {}", &print[..16]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    make_valid(&mut params, days);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn make_valid(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BEFORE);
    params.not_after = epoch + now + DAY * days;
}

/// Writes a file that is not there yet, and readable as told.
pub(crate) fn write_new(path: &Path, content: &str, mode: u32) -> Result<(), AuthorityError> {
    let problem = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => AuthorityError::Exists { file: path.to_owned() },
        _ => AuthorityError::File { file: path.to_owned(), source },
    };
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(problem)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(problem)
}

/// A folder that is its owner's alone, where there is none yet.
fn make_folder(folder: &Path) -> Result<(), AuthorityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| AuthorityError::File { file: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, CredentialsError, is_of};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use std::os::unix::fs::PermissionsExt;

    fn mode(file: &Path) -> u32 {
        file.metadata().unwrap().permissions().mode() & 0o777
    }

    fn issue<'a>(name: &'a str, hosts: &'a [String]) -> Issue<'a> {
        Issue { name, hosts, days: 30 }
    }

    #[test]
    fn keys_are_their_owners_alone_and_nothing_is_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let certs = home.path().join("certs");
        let none = Authority::open(&certs).unwrap_err().to_string();
        assert!(none.contains("alpharho certs init"), "{none}");
        let folder = Authority::init(&certs, 30).unwrap();
        assert_eq!((mode(&folder), mode(&folder.join(KEY_FILE))), (0o700, 0o600));
        let key = std::fs::read(folder.join(KEY_FILE)).unwrap();
        assert!(matches!(Authority::init(&certs, 30), Err(AuthorityError::Exists { .. })));
        assert_eq!(std::fs::read(folder.join(KEY_FILE)).unwrap(), key);

        let authority = Authority::open(&certs).unwrap();
        let folder = authority.issue(&issue("node7", &[])).unwrap();
        assert_eq!((mode(&folder), mode(&folder.join(KEY_FILE))), (0o700, 0o600));
        assert!(matches!(authority.issue(&issue("node7", &[])), Err(AuthorityError::Exists { .. })));
        assert!(matches!(authority.issue(&issue("../node7", &[])), Err(AuthorityError::Name(_))));
        for host in ["http://node7", "node7:7070", "node 7", "", "a..b"] {
            let refused = authority.issue(&issue("odd", &[host.to_owned()]));
            assert!(matches!(refused, Err(AuthorityError::Host { .. })), "{host}: {refused:?}");
        }
    }

    #[test]
    fn a_certificate_is_its_names_and_only_one_with_hosts_is_for_listening() {
        let home = tempfile::tempdir().unwrap();
        Authority::init(home.path(), 30).unwrap();
        let authority = Authority::open(home.path()).unwrap();
        let hosts = ["10.0.0.5".to_owned(), "gpu0.example.org".to_owned()];
        for (name, hosts) in [("coordinator", hosts.as_slice()), ("node7", &[])] {
            let folder = authority.issue(&issue(name, hosts)).unwrap();
            let certificate = CertificateDer::from_pem_file(folder.join(CERTIFICATE_FILE)).unwrap();
            assert!(is_of(&certificate, name) && !is_of(&certificate, "alice"));
            for host in ["localhost", "127.0.0.1", "::1", "10.0.0.5", "gpu0.example.org"] {
                assert_eq!(crate::name::names(&certificate, host), !hosts.is_empty(), "{name} for {host}");
            }
            assert!(!crate::name::names(&certificate, "10.0.0.6"));
            let credentials = Credentials::read(&folder).unwrap();
            assert!(credentials.token().is_none());
            match credentials.to_listen() {
                Ok(_) => assert_eq!(name, "coordinator"),
                Err(error) => assert!(matches!(error, CredentialsError::NoHost { .. }) && name == "node7", "{error}"),
            }
        }
    }

    #[test]
    fn secrets_that_everybody_can_read_are_refused() {
        let home = tempfile::tempdir().unwrap();
        Authority::init(home.path(), 30).unwrap();
        let folder = Authority::open(home.path()).unwrap().issue(&issue("alice", &[])).unwrap();
        let token = folder.join(crate::TOKEN_FILE);
        write_new(&token, &crate::Token::draw().unwrap().text(), 0o600).unwrap();
        assert!(Credentials::read(&folder).unwrap().token().is_some());
        for file in [token, folder.join(KEY_FILE)] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
            let refused = Credentials::read(&folder).unwrap_err().to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        }
        std::fs::remove_file(folder.join(CERTIFICATE_FILE)).unwrap();
        let refused = Credentials::read(&folder).unwrap_err().to_string();
        assert!(refused.contains("alpharho certs issue"), "{refused}");
    }
}
