//! Lets tests, and a trainer started by hand, find libtorch where it was found when building. What the agent puts
//! into `LD_LIBRARY_PATH` goes before it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{folder}");
    }
}
