//! Writes the contracts as a table of messages, fields and methods, from which messages are made up; and lets the
//! tests find libtorch where it was found when building.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../proto/proto");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{folder}");
    }
    let files = protox::compile(["alpharho.proto", "gradients.proto"], ["../proto/proto"])?;
    let mut table = String::new();
    for file in &files.file {
        let package = file.package();
        let mut messages: Vec<(String, _)> =
            file.message_type.iter().map(|message| (format!(".{package}.{}", message.name()), message)).collect();
        while let Some((name, message)) = messages.pop() {
            writeln!(table, "message {name}")?;
            for field in &message.field {
                let kind = format!("{:?}", field.r#type()).to_lowercase();
                let many = if format!("{:?}", field.label()) == "Repeated" { "many" } else { "one" };
                let of = if field.type_name().is_empty() { "-" } else { field.type_name() };
                writeln!(table, "field {} {} {kind} {many} {of}", field.number(), field.name())?;
            }
            messages.extend(message.nested_type.iter().map(|nested| (format!("{name}.{}", nested.name()), nested)));
        }
        for service in &file.service {
            for method in &service.method {
                let is_stream = if method.client_streaming() { "stream" } else { "once" };
                let path = format!("/{package}.{}/{}", service.name(), method.name());
                writeln!(table, "method {path} {is_stream} {}", method.input_type())?;
            }
        }
    }
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("contract.txt"), table)?;
    Ok(())
}
