//! The program: everything is in the library, see its documentation.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    prepare_proxy::run(&args).into()
}
