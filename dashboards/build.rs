//! Compiles the formats of others, without a system protoc.

use std::error::Error;

const FORMATS: [&str; 2] = ["proto/onnx.proto", "proto/tensorboard.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for format in FORMATS {
        println!("cargo::rerun-if-changed={format}");
    }
    tonic_prost_build::configure().compile_fds(protox::compile(FORMATS, ["proto"])?)?;
    Ok(())
}
