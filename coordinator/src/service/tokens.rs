//! The service that admins call to let others in.

use super::Service;
use crate::clock::unix_ms;
use crate::driver::{Input, NewToken};
use crate::tokens::TokenRow;
use access::Role;
use proto::wire;
use proto::wire::tokens_server::Tokens;
use tonic::{Request, Response, Status};

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 16;
/// A year.
const REPLACED_AFTER_MS_MAX: u64 = 366 * 86_400_000;

#[tonic::async_trait]
impl Tokens for Service {
    async fn put(&self, request: Request<wire::PutTokenRequest>) -> Result<Response<wire::PutTokenReply>, Status> {
        let token = new_token(request.into_inner())?;
        self.check_writable()?;
        let token = self.ask(|reply| Input::PutToken { token: Box::new(token), reply }).await??;
        Ok(Response::new(wire::PutTokenReply { token: Some(token) }))
    }

    async fn list(&self, _: Request<wire::ListTokensRequest>) -> Result<Response<wire::ListTokensReply>, Status> {
        Ok(Response::new(wire::ListTokensReply { tokens: self.shared.tokens.borrow().statuses() }))
    }

    async fn revoke(
        &self,
        request: Request<wire::RevokeTokenRequest>,
    ) -> Result<Response<wire::RevokeTokenReply>, Status> {
        let wire::RevokeTokenRequest { name } = request.into_inner();
        self.check_writable()?;
        let tokens = self.ask(|reply| Input::RevokeTokens { name, reply }).await??;
        Ok(Response::new(wire::RevokeTokenReply { tokens }))
    }
}

fn new_token(request: wire::PutTokenRequest) -> Result<NewToken, Status> {
    let wire::PutTokenRequest { name, role, id, hash, replaced_after_ms } = request;
    access::check_name(&name).map_err(|bad| Status::invalid_argument(bad.to_string()))?;
    let role = match (role.as_str(), replaced_after_ms) {
        ("", Some(_)) => None,
        (word, _) => Some(word.parse::<Role>().map_err(|bad| Status::invalid_argument(bad.to_string()))?),
    };
    if id.len() != ID_DIGITS || !id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Status::invalid_argument("a token's id has 16 hexadecimal digits"));
    }
    let Ok(hash) = hash.try_into() else {
        return Err(Status::invalid_argument("a token's hash has 32 bytes"));
    };
    if replaced_after_ms.is_some_and(|after_ms| after_ms > REPLACED_AFTER_MS_MAX) {
        return Err(Status::invalid_argument("a token that is replaced is good for a year more at most"));
    }
    // Without a role it gets that of the token that it replaces.
    let row = TokenRow { id, name, role: role.unwrap_or(Role::Read), hash, created_ms: unix_ms(), ends_ms: None };
    Ok(NewToken { row, keeps_role: role.is_none(), replaced_after_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_checked() {
        let good = || wire::PutTokenRequest {
            name: "node7".to_owned(),
            role: "worker".to_owned(),
            id: "0123456789abcdef".to_owned(),
            hash: vec![1; 32],
            replaced_after_ms: None,
        };
        for (request, expected) in [
            (good(), "ok"),
            (wire::PutTokenRequest { role: String::new(), replaced_after_ms: Some(0), ..good() }, "ok"),
            (wire::PutTokenRequest { role: String::new(), ..good() }, "\"\" is no role"),
            (wire::PutTokenRequest { role: "root".to_owned(), ..good() }, "\"root\" is no role"),
            (wire::PutTokenRequest { name: "a/b".to_owned(), ..good() }, "no name for a person"),
            (wire::PutTokenRequest { id: "0123456789ABCDEF".to_owned(), ..good() }, "16 hexadecimal"),
            (wire::PutTokenRequest { hash: vec![1; 31], ..good() }, "32 bytes"),
            (wire::PutTokenRequest { replaced_after_ms: Some(u64::MAX), ..good() }, "a year more"),
        ] {
            let said = new_token(request).map_or_else(|status| status.message().to_owned(), |_| "ok".to_owned());
            assert!(said.contains(expected), "{said}");
        }
    }
}
