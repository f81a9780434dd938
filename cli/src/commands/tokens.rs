//! `alpharho tokens create`, `list`, `revoke`, `rotate`. Secrets are drawn here and written to files; the coordinator
//! gets their hashes.

use super::{is_broken, with_session};
use crate::arguments::{CERTS_DEFAULT, Place, Tokens, TokensCommand};
use crate::exit::{End, Failure, refused};
use crate::output;
use crate::session::{Session, Want};
use access::{TOKEN_FILE, Token};
use anyhow::Context;
use dashboards::format;
use proto::wire::{ListTokensRequest, PutTokenRequest, RevokeTokenRequest, TokenStatus};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(super) async fn tokens(place: &Place, arguments: &Tokens) -> anyhow::Result<End> {
    match &arguments.command {
        TokensCommand::Create { name, role, out } => {
            let out = file_of(name, out.as_deref())?;
            if out.exists() {
                return Err(Failure::new(format!("{} is there already, and is not overwritten", out.display()))
                    .hint(format!("`alpharho tokens rotate {name}` makes another token in place of that one"))
                    .into());
            }
            put(place, name, role.word(), None, &out).await?;
        }
        TokensCommand::Rotate { name, grace_minutes, out } => {
            let out = file_of(name, out.as_deref())?;
            put(place, name, "", Some(grace_minutes * 60_000), &out).await?;
        }
        TokensCommand::List => with_session(place, Want::Read, async |session| list(place, session).await).await?,
        TokensCommand::Revoke { name } => {
            with_session(place, Want::Read, async |session| {
                let reply = session.tokens.revoke(RevokeTokenRequest { name: name.clone() }).await;
                let ended = reply.map_err(|status| refused(&status))?.into_inner().tokens;
                if place.json {
                    return output::json(&json!({"name": name, "tokens": ended}));
                }
                let words = if ended == 1 {
                    "its token has ended".to_owned()
                } else {
                    format!("its {ended} tokens have ended")
                };
                output::line(&format!("{name}: {words}"))?;
                Ok(())
            })
            .await?;
        }
    }
    Ok(End::Done)
}

/// Where the token of a name goes: into the folder that `alpharho certs issue` made.
fn file_of(name: &str, told: Option<&Path>) -> anyhow::Result<PathBuf> {
    access::check_name(name).map_err(|bad| Failure::usage(bad.to_string()))?;
    if let Some(told) = told {
        return Ok(told.to_owned());
    }
    let folder = Path::new(CERTS_DEFAULT).join(name);
    if folder.is_dir() {
        return Ok(folder.join(TOKEN_FILE));
    }
    Err(Failure::new(format!("there is no folder {} for {name}'s token", folder.display()))
        .hint(format!("`alpharho certs issue {name}` makes it; --out FILE names another file"))
        .into())
}

/// The file is on disk before the token is good, so that no token is good that nobody has; and takes its name after.
async fn put(place: &Place, name: &str, role: &str, replaced_after_ms: Option<u64>, out: &Path) -> anyhow::Result<()> {
    let token = Token::draw().context("no random numbers")?;
    let new = out.with_file_name(format!(".{}.new", token.id()));
    write_secret(&new, &token).with_context(|| format!("cannot write {}", new.display()))?;
    let made = with_session(place, Want::Write, async |session| {
        let (id, hash) = (token.id().to_owned(), token.hash().to_vec());
        let request = PutTokenRequest { name: name.to_owned(), role: role.to_owned(), id, hash, replaced_after_ms };
        Ok(session.tokens.put(request).await)
    })
    .await;
    let status = match made {
        Ok(Ok(reply)) => reply.into_inner().token.unwrap_or_default(),
        Ok(Err(status)) if is_broken(&status) => {
            // It may be good, and take the place of the one that is shown here.
            let Failure { message, .. } = refused(&status);
            return Err(Failure::new(format!("{message}; whether the token is good is not known"))
                .hint(format!(
                    "`alpharho tokens list` shows whether {} is there: then move {} to {}; else remove it and ask again",
                    token.id(),
                    new.display(),
                    out.display()
                ))
                .into());
        }
        Ok(Err(status)) => {
            // Nobody knows it.
            let _ = std::fs::remove_file(&new);
            return Err(refused(&status).into());
        }
        Err(error) => {
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
    };
    keep(&new, out, replaced_after_ms.is_some())
        .with_context(|| format!("{name}'s token is in {}, and cannot be moved to {}", new.display(), out.display()))?;
    if place.json {
        let mut told = serde_json::to_value(&status)?;
        told["file"] = json!(out);
        return output::json(&told);
    }
    output::line(&format!("a token of {name} with the role {} in {}", status.role, out.display()))?;
    match replaced_after_ms {
        Some(0) => output::note("the one before is not good any more"),
        Some(after_ms) => output::note(&format!("the one before is good for {} minutes still", after_ms / 60_000)),
        None => {}
    }
    Ok(())
}

fn write_secret(path: &Path, token: &Token) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", token.text())?;
    file.sync_all()
}

fn keep(new: &Path, out: &Path, replaces: bool) -> std::io::Result<()> {
    if replaces {
        std::fs::rename(new, out)?;
    } else {
        // Fails where a file is, which somebody may have made meanwhile.
        std::fs::hard_link(new, out)?;
        std::fs::remove_file(new)?;
    }
    match out.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| File::open("."), File::open) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

async fn list(place: &Place, session: &mut Session) -> anyhow::Result<()> {
    let reply = session.tokens.list(ListTokensRequest {}).await.map_err(|status| refused(&status))?;
    let tokens = reply.into_inner().tokens;
    if place.json {
        return output::json(&tokens);
    }
    if tokens.is_empty() {
        output::line("no tokens; `alpharho tokens create NAME --role admin` makes the first")?;
        return Ok(());
    }
    let width = tokens.iter().map(|token| token.name.len()).max().unwrap_or(0).max(4);
    output::line(&format!("{:width$}  {:6}  {:16}  {:20}  ends", "name", "role", "id", "made"))?;
    for TokenStatus { name, role, id, created_ms, ends_ms } in &tokens {
        let ends = if *ends_ms == 0 { "when revoked".to_owned() } else { format::time(*ends_ms) };
        output::line(&format!("{name:width$}  {role:6}  {id:16}  {:20}  {ends}", format::time(*created_ms)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_its_owners_alone_and_takes_no_place_of_another_unless_it_replaces_it() {
        let home = tempfile::tempdir().unwrap();
        let (new, out) = (home.path().join("new"), home.path().join("token"));
        let (first, second) = (Token::draw().unwrap(), Token::draw().unwrap());
        let read = || std::fs::read_to_string(&out).unwrap().parse::<Token>().unwrap();
        write_secret(&new, &first).unwrap();
        keep(&new, &out, false).unwrap();
        assert_eq!((read(), out.metadata().unwrap().permissions().mode() & 0o777), (first.clone(), 0o600));
        write_secret(&new, &second).unwrap();
        assert!(keep(&new, &out, false).is_err());
        assert_eq!(read(), first);
        keep(&new, &out, true).unwrap();
        assert_eq!(read(), second);
        assert!(!new.exists());
    }

    #[test]
    fn a_token_goes_into_the_folder_of_its_name() {
        assert_eq!(file_of("bob", Some(Path::new("x"))).unwrap(), PathBuf::from("x"));
        let refused = file_of("nobody-at-all", None).unwrap_err();
        let hint = refused.downcast_ref::<Failure>().and_then(|failure| failure.hint.clone()).unwrap();
        assert!(hint.contains("alpharho certs issue nobody-at-all"), "{hint}");
        assert!(file_of("../bob", Some(Path::new("x"))).is_err());
    }
}
