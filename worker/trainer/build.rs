//! Compiles the few lines of C++ over libtorch that tch has no binding for, and lets tests, and a trainer started by hand,
//! find libtorch where it was found when building. What the agent puts into `LD_LIBRARY_PATH` goes before it.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim/shim.cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    let Ok(libraries) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{libraries}");
    // As torch-sys has it: beside the libraries unless said otherwise.
    let home = std::env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let home = home.or_else(|| Path::new(&libraries).parent().map(Path::to_owned)).unwrap_or_default();
    // For a test that compiles a device of its own.
    println!("cargo::rustc-env=ALPHARHO_LIBTORCH_INCLUDE={}", home.join("include").display());
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .std("c++17")
        .flag("-D_GLIBCXX_USE_CXX11_ABI=1")
        .include(home.join("include"))
        .file("shim/shim.cpp")
        .compile("alpharho_shim");
}
