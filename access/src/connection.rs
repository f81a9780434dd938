//! Calling a coordinator: over TLS with credentials, or plainly on the same machine.

use crate::credentials::read_token;
use crate::{Credentials, CredentialsError, Token};
use rustls::{CertificateError, Error as TlsError};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A channel whose calls show a token, if there is one to show.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Why an address cannot be called.
#[derive(Debug, Error)]
pub enum AddressError {
    /// It is none.
    #[error("{address:?} is no address of a coordinator ({source}); it looks like http://127.0.0.1:7070")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// There is nothing to show.
    #[error(
        "{address} wants credentials: a folder with a certificate and a token, which an admin of that coordinator \
         makes; name it with --credentials DIR or in ALPHARHO_CREDENTIALS"
    )]
    NoCredentials {
        /// As given.
        address: String,
    },
    /// They cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// They cannot be used.
    #[error("the credentials in {folder} cannot be used: {source}", folder = folder.display())]
    Tls {
        /// Where they lie.
        folder: PathBuf,
        /// What is wrong.
        source: tonic::transport::Error,
    },
}

/// How to call a coordinator. Credentials are shown over `https://` alone, and must be there for it.
///
/// # Errors
/// When address or credentials are no good.
pub fn endpoint(address: &str, credentials: Option<&Credentials>) -> Result<(Endpoint, Bearer), AddressError> {
    let wrong = |source| AddressError::Address { address: address.to_owned(), source };
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(wrong)?;
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok((endpoint, Bearer::default()));
    }
    let Some(credentials) = credentials else {
        return Err(AddressError::NoCredentials { address: address.to_owned() });
    };
    let folder = credentials.folder().to_owned();
    let tls = credentials.to_call(endpoint.uri().host().unwrap_or_default());
    let endpoint = endpoint.tls_config(tls).map_err(|source| AddressError::Tls { folder: folder.clone(), source })?;
    let bearer = Bearer { folder: Some(folder), shown: Arc::new(RwLock::new(credentials.token().and_then(header))) };
    Ok((endpoint, bearer))
}

/// Puts the token into each call.
#[derive(Clone, Default)]
pub struct Bearer {
    folder: Option<PathBuf>,
    shown: Arc<RwLock<Option<MetadataValue<Ascii>>>>,
}

impl Bearer {
    /// A channel that shows it.
    #[must_use]
    pub fn on(&self, channel: Channel) -> Connection {
        InterceptedService::new(channel, self.clone())
    }

    /// Reads the token's file again: it may have been rotated. What cannot be read now leaves the one before.
    pub fn refresh(&self) {
        let Some(folder) = &self.folder else { return };
        if let Ok(Some(token)) = read_token(folder) {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = header(&token);
        }
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(shown) = &*self.shown.read().unwrap_or_else(PoisonError::into_inner) {
            request.metadata_mut().insert("authorization", shown.clone());
        }
        Ok(request)
    }
}

fn header(token: &Token) -> Option<MetadataValue<Ascii>> {
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.text())).ok()?;
    // Neither printed nor kept in the tables of HTTP/2's compression.
    value.set_sensitive(true);
    Some(value)
}

/// Why a coordinator could not be reached, in words that say what to do about credentials where those are the reason.
#[must_use]
pub fn explain(error: &(dyn Error + 'static), credentials: Option<&Path>) -> String {
    let folder = credentials.map_or_else(|| "no folder".to_owned(), |folder| folder.display().to_string());
    match tls_cause(error) {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            format!("its certificate is of another authority than ca.pem in {folder}")
        }
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => {
            "its certificate does not name this host; `alpharho certs issue` takes all its names with --host".to_owned()
        }
        Some(TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "its certificate has expired; `alpharho certs issue` makes another".to_owned()
        }
        Some(TlsError::AlertReceived(alert)) => format!(
            "it does not take the certificate in {folder} ({alert:?}): it is of another authority, or has expired"
        ),
        Some(TlsError::InvalidMessage(_)) => {
            "it does not speak TLS; without TLS an address begins with http://".to_owned()
        }
        Some(other) => other.to_string(),
        None => innermost(error),
    }
}

/// `Connection refused (os error 111)`, not `transport error`.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    chain(error).find_map(|error| error.downcast_ref::<TlsError>())
}

/// An error and its causes. What an error of input and output wraps is among them, which its `source` passes over.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| cause(error))
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
