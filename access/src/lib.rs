//! Who may do what: names with a certificate and a token, and connections that show both.
//!
//! A *name* is a person or a machine: `alice`, `node7`. Its certificate, of the authority that `alpharho certs` made,
//! says who it is; its token says what it may do, by its [`Role`]. Both lie in one folder, its [`Credentials`]. A
//! coordinator that listens with TLS demands both of everybody, and that both are of the same name.

pub mod authority;
mod connection;
mod credentials;
mod door;
mod name;
mod role;
mod token;

pub use authority::{Authority, AuthorityError, Issue};
pub use connection::{AddressError, Bearer, Connection, endpoint, explain};
pub use credentials::{AUTHORITY_FILE, CERTIFICATE_FILE, Credentials, CredentialsError, KEY_FILE, TOKEN_FILE};
pub use door::{Door, Guest, Limits};
pub use name::{BadName, check_name, is_of};
pub use role::{METHODS, Need, PACKAGE, Role, UnknownRole, need};
pub use token::{BadToken, HASH_BYTES, Token};
