//! Link arguments that a profile cannot say.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo talks to this by variables"
)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let libc = std::env::var("CARGO_CFG_TARGET_ENV").unwrap_or_default();
    // A static binary relocates itself, and glibc's start code reads the compact form: 65 KB less.
    if libc == "gnu" && features.split(',').any(|f| f == "crt-static") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
