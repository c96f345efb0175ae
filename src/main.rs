//! The program: everything is in the library, see its documentation.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    prepare_proxy::run(std::env::args_os().collect()).into()
}
