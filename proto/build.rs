//! Compiles the contract without a system protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/alpharho.proto");
    let files = protox::compile(["proto/alpharho.proto"], ["proto"])?;
    // What `--json` prints.
    let printed = [
        "InfoReply",
        "SubmitReply",
        "ListReply",
        "SweepSummary",
        "Counts",
        "StatusReply",
        "TrialStatus",
        "ExplainReply",
        "MetricPoint",
        "WorkersReply",
        "WorkerStatus",
        "SlotStatus",
        "GpuUse",
        "AttemptsReply",
        "AttemptStatus",
        "LogLine",
        "CheckpointsReply",
        "Checkpoint",
        "Event",
        "TokenStatus",
    ];
    let mut builder = tonic_prost_build::configure().btree_map(".").codec_path("crate::codec::SmallBuffers");
    for message in printed {
        builder = builder.type_attribute(format!(".alpharho.v1.{message}"), "#[derive(serde::Serialize)]");
    }
    // It holds a secret.
    builder = builder.skip_debug([".alpharho.v1.Exchange"]);
    builder.bytes(".alpharho.v1.Chunk").bytes(".alpharho.v1.UploadMessage").compile_fds(files)?;

    println!("cargo:rerun-if-changed=proto/gradients.proto");
    let files = protox::compile(["proto/gradients.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
