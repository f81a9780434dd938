//! `alpharho certs init`, `issue`.

use crate::arguments::{Certs, CertsCommand, Place};
use crate::exit::End;
use crate::output;
use access::authority::AUTHORITY_FOLDER;
use access::{AUTHORITY_FILE, Authority, CERTIFICATE_FILE, Issue, KEY_FILE};
use serde_json::json;

pub(super) fn certs(place: &Place, arguments: &Certs) -> anyhow::Result<End> {
    let certs = &arguments.certs;
    match &arguments.command {
        CertsCommand::Init { days } => {
            let folder = Authority::init(certs, *days)?;
            if place.json {
                output::json(&json!({
                    "folder": folder,
                    "authority": folder.join(AUTHORITY_FILE),
                    "key": folder.join(KEY_FILE),
                    "days": days,
                }))?;
            } else {
                output::line(&format!("an authority in {}, good for {days} days", folder.display()))?;
                output::note(&format!(
                    "its key, {}, makes certificates of any name: keep it at home\nnext: alpharho certs issue \
                     coordinator --host NAME-OR-ADDRESS",
                    folder.join(KEY_FILE).display()
                ));
            }
        }
        CertsCommand::Issue { name, hosts, days } => {
            if name == AUTHORITY_FOLDER {
                let why = format!("{AUTHORITY_FOLDER} is the folder of the authority itself; choose another name");
                return Err(crate::exit::Failure::usage(why).into());
            }
            let folder = Authority::open(certs)?.issue(&Issue { name, hosts, days: *days })?;
            if place.json {
                output::json(&json!({
                    "name": name,
                    "hosts": hosts,
                    "folder": folder,
                    "authority": folder.join(AUTHORITY_FILE),
                    "certificate": folder.join(CERTIFICATE_FILE),
                    "key": folder.join(KEY_FILE),
                    "days": days,
                }))?;
            } else {
                let shown = folder.display();
                output::line(&format!("a certificate of {name} in {shown}, good for {days} days"))?;
                if hosts.is_empty() {
                    output::note(&format!("next: alpharho tokens create {name} --role admin, submit, worker or read"));
                } else {
                    output::note(&format!("use: alpharho coordinator --listen 0.0.0.0:7070 --credentials {shown}"));
                }
            }
        }
    }
    Ok(End::Done)
}
