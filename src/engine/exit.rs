//! How the program ends.

use std::process::ExitCode;

/// Every exit status there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `diff`: nothing differs.
    Done = 0,
    /// The kernel or a tool refused; for `diff`: something differs.
    Failed = 1,
    /// Bad input, nothing was touched; for `diff`: it could not be told.
    BadInput = 2,
    /// A capability is missing.
    NotPermitted = 3,
    /// The rules are not what they should be. The number is istio-iptables'.
    NotVerified = 126,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
